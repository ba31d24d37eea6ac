//! Answers, and what every answer of AWX has in its head.

use serde_json::{Value, json};

/// An answer before it is sent.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Body,
}

/// The body of an answer.
#[derive(Debug, Clone)]
pub(super) enum Body {
    None,
    Json(Value),
    Text { kind: &'static str, text: String },
}

/// What an HTML page says it is.
pub(super) const HTML: &str = "text/html; charset=utf-8";

impl Reply {
    pub(super) fn json(status: u16, value: Value) -> Self {
        Self { status, headers: Vec::new(), body: Body::Json(value) }
    }

    /// No body.
    pub(super) fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Body::None }
    }

    pub(super) fn text(status: u16, kind: &'static str, text: String) -> Self {
        Self { status, headers: Vec::new(), body: Body::Text { kind, text } }
    }

    /// What most errors are: one sentence under `detail`.
    pub(super) fn detail(status: u16, detail: &str) -> Self {
        Self::json(status, json!({"detail": detail}))
    }

    pub(super) fn forbidden() -> Self {
        Self::detail(403, "You do not have permission to perform this action.")
    }

    /// No object of this model has the id.
    pub(super) fn no(model: &str) -> Self {
        Self::detail(404, &format!("No {model} matches the given query."))
    }

    pub(super) fn not_allowed(method: &str) -> Self {
        Self::detail(405, &format!("Method \"{method}\" not allowed."))
    }

    /// Nobody is logged in, or with something that is not valid.
    pub(super) fn unauthorized() -> Self {
        let detail = "Authentication credentials were not provided. To establish a login session, visit /api/login/.";
        let way = "Bearer realm=api authorization_url=/api/o/authorize/".to_owned();
        Self::detail(401, detail).with("WWW-Authenticate", way)
    }

    /// Nothing is at the path.
    pub(super) fn no_path() -> Self {
        Self::page(404, "Not Found", "The requested resource was not found on this server.")
    }

    /// AWX failed over the request.
    pub(super) fn server_error() -> Self {
        Self::page(500, "Server Error (500)", "")
    }

    fn page(status: u16, title: &str, text: &str) -> Self {
        let page = format!(
            "\n<!doctype html>\n<html lang=\"en\">\n<head>\n  <title>{title}</title>\n</head>\n<body>\n  \
             <h1>{title}</h1><p>{text}</p>\n</body>\n</html>\n"
        );
        Self::text(status, HTML, page)
    }

    /// With a header more.
    pub(super) fn with(mut self, name: &'static str, value: String) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Whether it is a page of the web server and not an answer of the API.
    pub(super) fn is_page(&self) -> bool {
        let is_html = matches!(&self.body, Body::Text { kind, .. } if *kind == HTML);
        is_html && matches!(self.status, 404 | 500)
    }

    /// With a token to read alone, nobody can do anything with what is shown. Seen of users; of others it is inferred.
    pub(super) fn without_capabilities(mut self) -> Self {
        if let Body::Json(value) = &mut self.body {
            forbid(value);
        }
        self
    }

    /// Changes every link to begin with another prefix.
    pub(super) fn move_to(&mut self, prefix: &str) {
        if let Body::Json(value) = &mut self.body {
            move_links(value, prefix);
        }
        for (_, value) in self.headers.iter_mut().filter(|(name, _)| *name == "Location") {
            moved(value, prefix);
        }
    }
}

fn forbid(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(forbid),
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::Object(all) if key == "user_capabilities" => {
                        all.values_mut().for_each(|can| *can = false.into())
                    }
                    value => forbid(value),
                }
            }
        }
        _ => {}
    }
}

fn move_links(value: &mut Value, prefix: &str) {
    match value {
        Value::String(text) => moved(text, prefix),
        Value::Array(items) => items.iter_mut().for_each(|item| move_links(item, prefix)),
        Value::Object(map) => map.values_mut().for_each(|value| move_links(value, prefix)),
        _ => {}
    }
}

fn moved(text: &mut String, prefix: &str) {
    if let Some(rest) = text.strip_prefix("/api/v2/") {
        *text = format!("{prefix}{rest}");
    }
}
