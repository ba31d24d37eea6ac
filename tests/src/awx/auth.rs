//! Who asks: a token, a password, or a session of a login by form. And the tokens themselves.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::call::{Call, pairs};
use super::forms::things;
use super::records::Session;
use super::reply::{HTML, Reply};
use super::store::{Store, secret};

/// The cookie of a session.
const COOKIE: &str = "awx_sessionid";

/// How long a session lasts, in seconds.
const AGE: u32 = 1800;

/// How a user was recognized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Password,
    Token { may_write: bool },
    Session { has_csrf: bool },
}

/// The user of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller {
    pub(super) user: u64,
    pub(super) way: Way,
}

/// Who asks, or none: nothing and what is wrong are the same.
pub(super) fn caller(store: &Store, call: &Call) -> Option<Caller> {
    let authorization = call.header("authorization");
    let (scheme, value) = authorization.split_once(' ').unwrap_or((authorization, ""));
    if scheme.eq_ignore_ascii_case("bearer") {
        let token = store.tokens.values().find(|token| token.value == value)?;
        return Some(Caller { user: token.user, way: Way::Token { may_write: token.may_write } });
    }
    if scheme.eq_ignore_ascii_case("basic") {
        let bytes = STANDARD.decode(value.trim()).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        let (name, password) = text.split_once(':')?;
        return Some(Caller { user: login(store, name, password)?, way: Way::Password });
    }
    if !authorization.is_empty() {
        return None;
    }
    let session = session(store, call)?;
    // Whoever could read the cookie can send it as a header as well.
    let csrf = call.cookie("csrftoken").unwrap_or_default();
    let has_csrf = !csrf.is_empty() && call.header("x-csrftoken") == csrf;
    Some(Caller { user: session.user, way: Way::Session { has_csrf } })
}

fn session<'a>(store: &'a Store, call: &Call) -> Option<&'a Session> {
    let id = call.cookie(COOKIE)?;
    store.sessions.iter().find(|session| session.id == id)
}

fn login(store: &Store, name: &str, password: &str) -> Option<u64> {
    (password == super::password_of(name)).then(|| store.user_named(name)).flatten()
}

/// What a request with a session gets back: the session lasts from now on again.
pub(super) fn kept_session(store: &Store, call: &Call) -> Option<String> {
    let session = session(store, call)?;
    Some(session_cookie(store, &session.id))
}

fn session_cookie(store: &Store, id: &str) -> String {
    let until = store.clock.now() + jiff::SignedDuration::from_secs(i64::from(AGE));
    let until = until.strftime("%a, %d %b %Y %H:%M:%S GMT");
    format!("{COOKIE}={id}; expires={until}; HttpOnly; Max-Age={AGE}; Path=/; SameSite=Lax")
}

/// A cookie against forged requests.
pub(super) fn csrf_cookie(value: &str) -> String {
    format!("csrftoken={value}; Path=/; SameSite=Lax")
}

/// `POST /api/login/`, a form: a session, or the page that asks for the password again.
pub(super) fn log_in(store: &mut Store, call: &Call) -> Reply {
    let form = pairs(&String::from_utf8_lossy(&call.body));
    let value = |name: &str| form.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str());
    let csrf = call.cookie("csrftoken").unwrap_or_default();
    if csrf.is_empty() || call.header("x-csrftoken") != csrf {
        return Reply::text(
            403,
            HTML,
            "\n<!DOCTYPE html>\n<html lang=\"en\">\n<title>403 Forbidden</title>\n</html>\n".to_owned(),
        );
    }
    let Some(user) = login(store, value("username"), value("password")) else {
        let page = "\n\n\n\n\n<!DOCTYPE html>\n<html>\n  <head>\n    <title> &middot; AWX REST API</title>\n  </head>\n  \
                    <body>\n    Your username or password is incorrect.\n  </body>\n</html>\n";
        return Reply::text(401, HTML, page.to_owned()).with("Set-Cookie", csrf_cookie(&secret(32)));
    };
    let now = store.clock.now();
    store.users.get_mut(&user).unwrap().last_login = Some(now);
    let session = Session { id: secret(32), user };
    let cookies = [
        "userLoggedIn=true; Path=/; SameSite=Lax".to_owned(),
        csrf_cookie(&secret(32)),
        session_cookie(store, &session.id),
    ];
    store.sessions.push(session);
    let mut reply = Reply::text(302, HTML, String::new()).with("Location", value("next").to_owned());
    reply = reply.with("X-API-Session-Cookie-Name", COOKIE.to_owned());
    cookies.into_iter().fold(reply, |reply, cookie| reply.with("Set-Cookie", cookie))
}

/// Makes a token for `of`, asked by `caller`.
pub(super) fn make_token(store: &mut Store, caller: Caller, of: u64, body: &Value) -> Reply {
    if caller.user != of {
        return Reply::forbidden();
    }
    let scope = body.get("scope").map_or("write", |scope| scope.as_str().unwrap_or_default());
    if scope.is_empty() || scope.split(' ').any(|scope| !matches!(scope, "read" | "write")) {
        let fault = "Must be a simple space-separated string with allowed scopes ['read', 'write'].";
        return Reply::json(400, serde_json::json!({"scope": [fault]}));
    }
    let description = body["description"].as_str().unwrap_or_default();
    let id = store.add_token(of, description, scope.contains("write"));
    Reply::json(201, things::token(store, id, true)).with("Location", format!("/api/v2/tokens/{id}/"))
}
