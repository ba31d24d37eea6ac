//! The rules of a survey, and AWX's sentences on who breaks them.
//!
//! The sentences on missing answers, choices, types and short texts are recorded; those on numbers out of range, long
//! texts and lists are AWX's as well, from its sources.

use serde_json::Value;

use super::vars::{Vars, python_repr, python_str};

/// What stands for a secret that is not shown.
pub(super) const ENCRYPTED: &str = "$encrypted$";

/// The questions of a survey.
pub(super) fn questions(survey: Option<&Value>) -> impl Iterator<Item = &Value> {
    survey.and_then(|survey| survey["spec"].as_array()).into_iter().flatten()
}

/// The variable of a question.
pub(super) fn variable(question: &Value) -> &str {
    question["variable"].as_str().unwrap_or_default()
}

/// Whether the answer is a secret.
pub(super) fn is_secret(question: &Value) -> bool {
    question["type"] == "password"
}

/// What is wrong with the answer to one question.
pub(super) fn faults(question: &Value, answers: &Vars) -> Vec<String> {
    let name = variable(question);
    let Some(answer) = answers.get(name) else {
        return if question["required"] == true { vec![format!("'{name}' value missing")] } else { Vec::new() };
    };
    let shown = python_str(answer);
    match question["type"].as_str().unwrap_or_default() {
        "integer" if !(answer.is_i64() || answer.is_u64()) => {
            vec![format!("Value {shown} for '{name}' expected to be an integer.")]
        }
        "float" if !answer.is_number() => vec![format!("Value {shown} for '{name}' expected to be a numeric type.")],
        "integer" | "float" => out_of_range(question, name, &shown, answer.as_f64().unwrap_or_default(), ""),
        "multiselect" => match answer.as_array() {
            Some(items) => items.iter().filter_map(|item| no_choice(question, name, item)).collect(),
            None => vec![format!("'{name}' value is expected to be a list.")],
        },
        "multiplechoice" => no_choice(question, name, answer).into_iter().collect(),
        _ => match answer.as_str() {
            Some(ENCRYPTED) if is_secret(question) => Vec::new(),
            Some(text) => {
                let length = text.chars().count();
                let limit = f64::from(u32::try_from(length).unwrap_or(u32::MAX));
                out_of_range(question, name, text, limit, &format!("length is {length} "))
            }
            None => vec![format!("Value {shown} for '{name}' expected to be a string.")],
        },
    }
}

fn out_of_range(question: &Value, name: &str, shown: &str, value: f64, length: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if let Some(least) = question["min"].as_f64().filter(|least| value < *least) {
        faults.push(format!("'{name}' value {shown} is too small ({length}must be at least {least})."));
    }
    if let Some(most) = question["max"].as_f64().filter(|most| value > *most) {
        faults.push(format!("'{name}' value {shown} is too large (must be no more than {most})."));
    }
    faults
}

fn no_choice(question: &Value, name: &str, answer: &Value) -> Option<String> {
    let choices: Vec<Value> = match &question["choices"] {
        Value::Array(choices) => choices.clone(),
        // Older templates keep them as lines.
        Value::String(lines) => lines.lines().filter(|line| !line.trim().is_empty()).map(Value::from).collect(),
        _ => Vec::new(),
    };
    let message = || {
        let list = python_repr(&Value::Array(choices.clone()));
        format!("Value {} for '{name}' expected to be one of {list}.", python_str(answer))
    };
    (!choices.contains(answer)).then(message)
}

/// The survey as the API shows it: without the defaults of questions for passwords.
pub(super) fn shown(survey: &Value) -> Value {
    let mut survey = survey.clone();
    for question in survey["spec"].as_array_mut().into_iter().flatten() {
        let has_default = question["default"].as_str().is_some_and(|default| !default.is_empty());
        if is_secret(question) && has_default {
            question["default"] = ENCRYPTED.into();
        }
    }
    survey
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn faults_of(question: &Value, answer: Value) -> Vec<String> {
        faults(question, &[("x".to_owned(), answer)].into_iter().collect())
    }

    #[test]
    fn every_kind_of_question_has_its_rules() {
        let text = json!({"variable": "x", "type": "text", "min": 2, "max": 3, "required": true});
        assert_eq!(faults(&text, &Vars::new()), ["'x' value missing"]);
        assert_eq!(faults_of(&text, json!("a")), ["'x' value a is too small (length is 1 must be at least 2)."]);
        assert_eq!(faults_of(&text, json!("abcd")), ["'x' value abcd is too large (must be no more than 3)."]);
        assert_eq!(faults_of(&text, json!(12)), ["Value 12 for 'x' expected to be a string."]);
        let integer = json!({"variable": "x", "type": "integer", "min": 1, "max": 5});
        assert_eq!(faults_of(&integer, json!(9)), ["'x' value 9 is too large (must be no more than 5)."]);
        assert_eq!(faults_of(&integer, json!("3")), ["Value 3 for 'x' expected to be an integer."]);
        let float = json!({"variable": "x", "type": "float", "min": 0.5});
        assert_eq!(faults_of(&float, json!(0.25)), ["'x' value 0.25 is too small (must be at least 0.5)."]);
        let many = json!({"variable": "x", "type": "multiselect", "choices": "a\nb\n"});
        assert_eq!(faults_of(&many, json!(["a", "c"])), ["Value c for 'x' expected to be one of ['a', 'b']."]);
        assert_eq!(faults_of(&many, json!("a")), ["'x' value is expected to be a list."]);
        let password = json!({"variable": "x", "type": "password", "min": 20});
        assert_eq!(faults_of(&password, json!("$encrypted$")), Vec::<String>::new());
    }
}
