//! The answers to the questions of `keyboard-interactive`.

use crate::secrets::Secret;

/// Answers with a password, where that is asked for.
pub(super) struct Answers<'a> {
    password: &'a Secret,
    wants_change: bool,
}

impl<'a> Answers<'a> {
    pub(super) fn new(password: &'a Secret) -> Self {
        Self { password, wants_change: false }
    }

    /// The answer to a question, which may be seen while it is typed or not.
    pub(super) fn answer(&mut self, question: &str, is_seen: bool) -> String {
        let question = question.to_lowercase();
        self.wants_change |= question.contains("new ") && question.contains("password");
        // A question whose answer may be seen does not ask for the password.
        if is_seen || self.wants_change { String::new() } else { self.password.expose().to_owned() }
    }

    /// Whether a new password was asked for: the old one has expired.
    pub(super) fn wants_change(&self) -> bool {
        self.wants_change
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hidden_questions_get_the_password_and_never_as_a_new_one() {
        let password = Secret::new("secret");
        let mut answers = Answers::new(&password);
        assert_eq!(answers.answer("Password: ", false), "secret");
        assert_eq!(answers.answer("Favourite colour: ", true), "");
        assert!(!answers.wants_change());
        assert_eq!(answers.answer("New password: ", false), "");
        assert!(answers.wants_change());
        assert_eq!(answers.answer("Retype new password: ", false), "");
    }
}
