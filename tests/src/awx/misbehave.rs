//! What can go wrong between a client and AWX, on demand.

use std::time::Duration;

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It is answered later.
    Delay(Duration),
    /// It is carried out at once, and answered later.
    Late(Duration),
    /// It is answered with this, and nothing else happens: a status, what the body is, and the body.
    Answer(u16, String, String),
    /// The connection is cut before anything happens.
    DropBefore,
    /// The connection is cut, and it is carried out a second later.
    DropLate,
    /// It is carried out, and the connection is cut instead of an answer.
    DropAfter,
    /// It is carried out, and the answer ends half-way through its body, with the connection.
    Cut,
    /// It is carried out, and the body is half of what it should be, with a length that fits and a connection that stays.
    Truncate,
}

/// Which requests have a fate.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Rule {
    method: String,
    path: String,
    skip: u32,
    times: Option<u32>,
    fate: Fate,
}

impl Rule {
    /// Requests of a method (`*` for any) to a path, in which every `*` stands for any characters, have a fate. The query
    /// is no part of the path.
    pub fn new(method: &str, path: &str, fate: Fate) -> Self {
        Self { method: method.to_owned(), path: path.to_owned(), skip: 0, times: None, fate }
    }

    /// A page of HTML with a status, as a proxy in front of AWX answers.
    pub fn page(method: &str, path: &str, status: u16) -> Self {
        let page = format!(
            "<html>\n<head><title>{status}</title></head>\n<body><center><h1>{status}</h1></center></body>\n</html>\n"
        );
        Self::new(method, path, Fate::Answer(status, "text/html".to_owned(), page))
    }

    /// An answer of the API itself with a status and one sentence.
    pub fn detail(method: &str, path: &str, status: u16, detail: &str) -> Self {
        let body = serde_json::json!({"detail": detail}).to_string();
        Self::new(method, path, Fate::Answer(status, "application/json".to_owned(), body))
    }

    /// The first so many requests are spared.
    pub fn skip(mut self, requests: u32) -> Self {
        self.skip = requests;
        self
    }

    /// Only so many requests have the fate, all if nothing is said.
    pub fn times(mut self, requests: u32) -> Self {
        self.times = Some(requests);
        self
    }

    fn is_for(&self, method: &str, path: &str) -> bool {
        (self.method == "*" || self.method == method) && matches(&self.path, path)
    }
}

/// Whether a text is what a pattern with `*` says.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, after)) => text.strip_prefix(before).is_some_and(|rest| {
            let mut starts = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
            starts.any(|at| matches(after, &rest[at..]))
        }),
    }
}

/// The fate of a request by the first rule that has one for it; the rule is used up by that.
pub(super) fn fate(rules: &mut Vec<Rule>, method: &str, path: &str) -> Option<Fate> {
    for index in 0..rules.len() {
        let rule = &mut rules[index];
        if !rule.is_for(method, path) {
            continue;
        }
        if rule.skip > 0 {
            rule.skip -= 1;
            continue;
        }
        let fate = rule.fate.clone();
        if let Some(times) = &mut rule.times {
            *times = times.saturating_sub(1);
            if *times == 0 {
                drop(rules.remove(index));
            }
        }
        return Some(fate);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_for_what_its_pattern_says_after_and_as_often_as_it_says() {
        let mut rules = vec![Rule::new("POST", "/api/*/launch/", Fate::DropAfter).skip(1).times(1)];
        assert_eq!(fate(&mut rules, "GET", "/api/v2/job_templates/9/launch/"), None);
        assert_eq!(fate(&mut rules, "POST", "/api/v2/job_templates/9/launch/"), None);
        assert_eq!(fate(&mut rules, "POST", "/api/v2/job_templates/9/launch/"), Some(Fate::DropAfter));
        assert_eq!(fate(&mut rules, "POST", "/api/v2/job_templates/9/launch/"), None);
        assert!(rules.is_empty());
    }

    #[test]
    fn stars_stand_for_any_characters() {
        assert!(matches("*", "/api/"));
        assert!(matches("/api/*/jobs/*/", "/api/controller/v2/jobs/7/"));
        assert!(!matches("/api/*/jobs/*/", "/api/v2/workflow_jobs/"));
    }
}
