//! The rules of a survey, looked at before a launch. The service has the last word; this is what can be told earlier, and
//! without showing a secret.

use serde_json::{Map, Value, json};

use crate::api::template::{Question, Survey};

impl Survey {
    /// The names of the variables that it asks for.
    pub(crate) fn asks_for(&self, name: &str) -> bool {
        self.spec.iter().any(|question| question.variable == name)
    }

    /// The variables whose values are nobody's business.
    pub(crate) fn secrets(&self) -> Vec<&str> {
        self.spec.iter().filter(|question| question.is_secret()).map(|question| question.variable.as_str()).collect()
    }

    /// Turns texts into what the questions want, and returns what is wrong with the answers, if anything is.
    pub(crate) fn check(&self, variables: &mut Map<String, Value>) -> Vec<String> {
        let mut wrong = Vec::new();
        for question in &self.spec {
            match variables.get_mut(&question.variable) {
                Some(value) => {
                    if let Some(fitting) = question.fitting(value) {
                        *value = fitting;
                    }
                    wrong.extend(question.fault(value));
                }
                None if question.required && !question.has_default() => {
                    wrong.push(format!("`{}` is missing{}", question.variable, question.hint()));
                }
                None => {}
            }
        }
        wrong
    }
}

impl Question {
    pub(crate) fn has_default(&self) -> bool {
        !matches!(&self.default, Value::Null) && self.default != json!("")
    }

    /// The answer as the type that is wanted, where a text spells one or it can be spelled as one.
    fn fitting(&self, value: &Value) -> Option<Value> {
        let spelled = |value: &Value| match value {
            Value::Number(_) | Value::Bool(_) => Value::String(value.to_string()),
            other => other.clone(),
        };
        let kind = self.kind.as_str();
        if matches!(kind, "text" | "textarea" | "password" | "multiplechoice") {
            return Some(spelled(value));
        }
        if let ("multiselect", Value::Array(items)) = (kind, value) {
            return Some(items.iter().map(spelled).collect());
        }
        let value = if kind == "multiselect" { spelled(value) } else { value.clone() };
        let text = value.as_str()?.trim();
        match kind {
            "integer" => text.parse::<i64>().ok().map(Value::from),
            "float" => serde_json::from_str::<Value>(text).ok().filter(Value::is_number),
            "multiselect" => {
                Some(text.split(['\n', ',']).map(str::trim).filter(|item| !item.is_empty()).map(Value::from).collect())
            }
            _ => None,
        }
    }

    /// What is wrong with an answer.
    fn fault(&self, value: &Value) -> Option<String> {
        let name = &self.variable;
        let shown = match (self.is_secret(), value) {
            (true, _) => broker_core::secrets::HIDDEN.to_owned(),
            (false, Value::String(text)) => text.clone(),
            (false, other) => other.to_string(),
        };
        let must = |what: String| Some(format!("`{name}` is `{shown}`, and must be {what}"));
        if !self.required && matches!(value.as_str(), Some("")) {
            return None;
        }
        let (min, max) = (self.bound(&self.min), self.bound(&self.max));
        match self.kind.as_str() {
            "integer" if !value.is_i64() && !value.is_u64() => must("a whole number".to_owned()),
            "float" if !value.is_number() => must("a number".to_owned()),
            "integer" | "float" => {
                let number = value.as_f64()?;
                match (min, max) {
                    (Some(min), _) if number < min => must(format!("at least {min}")),
                    (_, Some(max)) if number > max => must(format!("at most {max}")),
                    _ => None,
                }
            }
            "multiplechoice" => {
                let choices = self.choices();
                let fits = value.as_str().is_some_and(|text| choices.iter().any(|choice| choice == text));
                if fits || choices.is_empty() { None } else { must(format!("one of `{}`", choices.join("`, `"))) }
            }
            "multiselect" => {
                let choices = self.choices();
                let items: Vec<&str> = value.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                let fits = value.is_array() && items.iter().all(|item| choices.iter().any(|choice| choice == item));
                if fits || choices.is_empty() { None } else { must(format!("out of `{}`", choices.join("`, `"))) }
            }
            "text" | "textarea" | "password" => {
                let Some(text) = value.as_str() else { return must("a text".to_owned()) };
                #[expect(clippy::cast_precision_loss, reason = "no text is that long")]
                let length = text.chars().count() as f64;
                match (min, max) {
                    (Some(min), _) if length < min => must(format!("at least {min} characters long")),
                    (_, Some(max)) if length > max => must(format!("at most {max} characters long")),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    fn bound(&self, value: &Value) -> Option<f64> {
        value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())
    }

    fn hint(&self) -> String {
        let choices = self.choices();
        match choices.is_empty() {
            true if self.question_name.is_empty() => String::new(),
            true => format!(" ({})", self.question_name),
            false => format!(" (one of `{}`)", choices.join("`, `")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn survey() -> Survey {
        serde_json::from_value(json!({"spec": [
            {"type": "multiplechoice", "choices": ["tiny", "big"], "required": true, "variable": "deploy_flavor", "default": ""},
            {"type": "text", "min": 3, "max": 8, "required": true, "variable": "name_prefix", "question_name": "Prefix"},
            {"type": "integer", "min": 1, "max": 5, "default": 1, "required": false, "variable": "cpus"},
            {"type": "password", "min": 4, "required": false, "variable": "pin", "default": "$encrypted$"},
            {"type": "multiselect", "choices": "a\nb", "required": false, "variable": "parts"},
            {"type": "float", "required": false, "variable": "share"},
        ]}))
        .unwrap()
    }

    fn faults(answers: Value) -> Vec<String> {
        survey().check(answers.as_object().cloned().as_mut().unwrap())
    }

    #[test]
    fn answers_are_turned_into_what_is_asked_for() {
        let mut answers =
            json!({"deploy_flavor": "tiny", "name_prefix": "abc", "cpus": "3", "parts": "a, b", "share": "0.5"});
        let answers = answers.as_object_mut().unwrap();
        assert!(survey().check(answers).is_empty());
        assert_eq!(
            (&answers["cpus"], &answers["parts"], &answers["share"]),
            (&json!(3), &json!(["a", "b"]), &json!(0.5))
        );
    }

    #[test]
    fn a_number_may_be_an_answer_in_words() {
        let spec = json!([
            {"type": "multiplechoice", "choices": ["9.4", "9.10"], "variable": "version"},
            {"type": "text", "variable": "zone"},
            {"type": "multiselect", "choices": ["8", "9"], "variable": "parts"},
            {"type": "multiselect", "choices": ["8", "9"], "variable": "part"},
            {"type": "multiplechoice", "choices": ["true", "false"], "variable": "fips"},
        ]);
        let survey: Survey = serde_json::from_value(json!({ "spec": spec })).unwrap();
        let mut answers = json!({"version": 9.4, "zone": 7, "parts": [8, "9"], "part": 8, "fips": true});
        let answers = answers.as_object_mut().unwrap();
        assert_eq!(survey.check(answers), [] as [String; 0]);
        let expected = json!({"version": "9.4", "zone": "7", "parts": ["8", "9"], "part": ["8"], "fips": "true"});
        assert_eq!(Value::Object(answers.clone()), expected);
    }

    #[test]
    fn what_is_wrong_is_told_and_no_secret_is_shown() {
        assert_eq!(
            faults(json!({})),
            ["`deploy_flavor` is missing (one of `tiny`, `big`)", "`name_prefix` is missing (Prefix)"]
        );
        let good = |name: &str, value: Value| {
            let mut all = json!({"deploy_flavor": "tiny", "name_prefix": "abc"});
            all.as_object_mut().unwrap().insert(name.to_owned(), value);
            faults(all)
        };
        for (name, value, fault) in [
            ("deploy_flavor", json!("huge"), "`deploy_flavor` is `huge`, and must be one of `tiny`, `big`"),
            ("name_prefix", json!("a"), "`name_prefix` is `a`, and must be at least 3 characters long"),
            ("name_prefix", json!("abcdefghi"), "`name_prefix` is `abcdefghi`, and must be at most 8 characters long"),
            ("cpus", json!("three"), "`cpus` is `three`, and must be a whole number"),
            ("cpus", json!(9), "`cpus` is `9`, and must be at most 5"),
            ("pin", json!("123"), "`pin` is `***`, and must be at least 4 characters long"),
            ("parts", json!("a,c"), "`parts` is `[\"a\",\"c\"]`, and must be out of `a`, `b`"),
            ("share", json!("half"), "`share` is `half`, and must be a number"),
        ] {
            assert_eq!(good(name, value), [fault]);
        }
        assert!(good("cpus", json!("")).is_empty());
        assert!(good("stranger", json!(1)).is_empty());
    }
}
