//! From HTTP to the API and back: one request at a time on the state, any number of connections.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, Either, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::{Request, Response};
use tokio::sync::watch;

use super::auth;
use super::call::{Call, pairs};
use super::control;
use super::misbehave::{self, Fate, Rule};
use super::records::Machine;
use super::reply::{Body, Reply};
use super::routes::{self, Route};
use super::store::{Store, secret};
use super::world::Paths;

/// How long half an answer is on its way before its connection is cut.
const HALF: Duration = Duration::from_millis(20);

/// How late a request is carried out whose connection was cut before.
const LATE: Duration = Duration::from_secs(1);

/// A request that was made, and how it was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The method.
    pub method: String,
    /// The path with its query.
    pub target: String,
    /// The status; none where the connection was cut instead.
    pub status: Option<u16>,
    /// Who asked, if that is known.
    pub user: Option<String>,
    /// The bytes of the request: its line, its headers and its body.
    pub bytes_in: usize,
    /// The bytes of the answer, but for its date.
    pub bytes_out: usize,
}

/// What all connections share.
pub(super) struct Shared {
    store: Mutex<Store>,
    rules: Mutex<Vec<Rule>>,
    seen: Mutex<Vec<Seen>>,
    /// Until when nothing is accepted.
    pub(super) closed: watch::Sender<Option<Instant>>,
}

/// The body of an answer: whole, or ending in an error.
type Sent = Either<Full<Bytes>, http_body_util::combinators::UnsyncBoxBody<Bytes, io::Error>>;

impl Shared {
    pub(super) fn new(store: Store) -> Self {
        let closed = watch::Sender::new(None);
        Self { store: Mutex::new(store), rules: Mutex::default(), seen: Mutex::default(), closed }
    }

    /// The state, with everything done that is due.
    pub(super) fn store(&self) -> MutexGuard<'_, Store> {
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        store.settle();
        store
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(super) fn forget_seen(&self) {
        self.seen.lock().unwrap().clear();
    }

    pub(super) fn machines(&self) -> Vec<Machine> {
        self.store().machines.clone()
    }

    pub(super) fn token_of(&self, user: &str, may_write: bool) -> Option<String> {
        let mut store = self.store();
        let user = store.user_named(user)?;
        let id = store.add_token(user, "of a test", may_write);
        Some(store.tokens[&id].value.clone())
    }

    pub(super) fn spoil(&self, rule: Rule) {
        self.rules.lock().unwrap().push(rule);
    }

    pub(super) fn behave(&self) {
        self.rules.lock().unwrap().clear();
    }

    pub(super) fn refuse(&self, time: Duration) {
        self.closed.send_replace(Some(Instant::now() + time));
    }

    pub(super) fn advance(&self, by: Duration) {
        self.store().clock.advance(by);
        drop(self.store());
    }

    /// Serves one request. An error cuts the connection.
    pub(super) async fn serve(self: Arc<Self>, request: Request<Incoming>) -> io::Result<Response<Sent>> {
        let (head, body) = request.into_parts();
        let method = head.method.to_string();
        let path = head.uri.path().to_owned();
        let target = head.uri.path_and_query().map_or_else(|| path.clone(), ToString::to_string);
        let lines = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum::<usize>();
        let mut seen = Seen {
            bytes_in: method.len() + target.len() + 14 + lines,
            method: method.clone(),
            target,
            status: None,
            user: None,
            bytes_out: 0,
        };
        let cut = || io::Error::other("cut on demand");
        let is_control = path.starts_with("/_control/");
        let fate = if is_control { None } else { misbehave::fate(&mut self.rules.lock().unwrap(), &method, &path) };
        if fate == Some(Fate::DropBefore) {
            self.note(seen);
            return Err(cut());
        }
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        seen.bytes_in += body.len();
        if let Some(Fate::Delay(time)) = fate {
            tokio::time::sleep(time).await;
        }
        let headers = head.headers.iter();
        let headers =
            headers.map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
        let call = Call {
            method: method.clone(),
            path: path.clone(),
            below: String::new(),
            query: head.uri.query().map(pairs).unwrap_or_default(),
            headers: headers.collect(),
            body: body.to_vec(),
        };
        if fate == Some(Fate::DropLate) {
            self.note(seen);
            tokio::spawn(async move {
                tokio::time::sleep(LATE).await;
                answer(&mut self.store(), call, Instant::now());
            });
            return Err(cut());
        }
        let begun = Instant::now();
        let response = match &fate {
            _ if is_control => {
                finished(control::answer(&self, &method, &path["/_control/".len()..], &call.body), Vec::new())
            }
            Some(Fate::Answer(status, kind, text)) => {
                let response = Response::builder().status(*status).header("Content-Type", kind.as_str());
                response.body(Bytes::from(text.clone())).map_err(io::Error::other)?
            }
            _ => {
                let mut store = self.store();
                seen.user = auth::caller(&store, &call).map(|caller| store.users[&caller.user].name.clone());
                answer(&mut store, call, begun)
            }
        };
        if fate == Some(Fate::DropAfter) {
            self.note(seen);
            return Err(cut());
        }
        let lines = response.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum::<usize>();
        seen.status = Some(response.status().as_u16());
        let reason = response.status().canonical_reason().map_or(0, str::len);
        seen.bytes_out = 15 + reason + lines + response.body().len();
        if !is_control {
            self.note(seen);
        }
        if let Some(Fate::Late(time)) = fate {
            tokio::time::sleep(time).await;
        }
        Ok(sent(response, method == "HEAD", fate.as_ref()))
    }

    fn note(&self, seen: Seen) {
        self.seen.lock().unwrap().push(seen);
    }
}

/// The answer as it goes out: whole, halved, or cut.
fn sent(response: Response<Bytes>, is_head: bool, fate: Option<&Fate>) -> Response<Sent> {
    let (mut head, mut body) = response.into_parts();
    match fate {
        Some(Fate::Truncate) => body.truncate(body.len() / 2),
        Some(Fate::Cut) => {
            let half = body.slice(..body.len() / 2);
            head.headers.insert("Content-Length", body.len().into());
            let frames = stream::unfold(Some(half), |half| async move {
                let Some(half) = half else {
                    // What was sent before is to arrive.
                    tokio::time::sleep(HALF).await;
                    return Some((Err(io::Error::other("cut on demand")), None));
                };
                Some((Ok(Frame::data(half)), None))
            });
            return Response::from_parts(head, Either::Right(StreamBody::new(frames).boxed_unsync()));
        }
        _ => {}
    }
    head.headers.insert("Content-Length", body.len().into());
    let body = if is_head { Bytes::new() } else { body };
    Response::from_parts(head, Either::Left(Full::new(body)))
}

/// Answers a request of the API.
fn answer(store: &mut Store, mut call: Call, begun: Instant) -> Response<Bytes> {
    let (root, reply, route) = route(store, &mut call);
    let mut reply = reply;
    if root != "/api/" {
        reply.move_to(&format!("{root}v2/"));
    }
    let mut headers = vec![
        ("Content-Language", "en".to_owned()),
        ("X-API-Total-Time", format!("{:.3}s", begun.elapsed().as_secs_f64())),
    ];
    if let Some(route) = route.filter(|_| !reply.is_page()) {
        headers.push(("X-API-Product-Name", "AWX".to_owned()));
        headers.push(("X-API-Node", "rig".to_owned()));
        headers.push(("Allow", route));
        headers.push(("Vary", "Accept, Accept-Language, origin".to_owned()));
    } else {
        headers.push(("Vary", "Accept-Language, origin".to_owned()));
    }
    if let Some(cookie) = auth::kept_session(store, &call) {
        headers.push(("Set-Cookie", cookie));
    }
    finished(reply, headers)
}

/// The root that a path is below, what it answers, and the methods that are allowed there.
fn route(store: &mut Store, call: &mut Call) -> (&'static str, Reply, Option<String>) {
    let has_classic = store.paths != Paths::Controller;
    let has_controller = store.paths != Paths::Classic;
    let (root, below) = match &call.path {
        path if has_controller && path.starts_with("/api/controller/") => {
            ("/api/controller/", &path["/api/controller/".len()..])
        }
        path if path.starts_with("/api/") => ("/api/", &path["/api/".len()..]),
        _ => return ("/api/", Reply::no_path(), None),
    };
    let below = below.to_owned();
    let reads = "GET, HEAD, OPTIONS".to_owned();
    if root == "/api/" && !has_classic {
        // The gateway in front of the controller. Not recorded: this is what its public documentation shows.
        let apis = serde_json::json!({"gateway": "/api/gateway/", "controller": "/api/controller/"});
        let gateway = serde_json::json!({"description": "AAP gateway REST API", "apis": apis});
        let reply = if below.is_empty() { Reply::json(200, gateway) } else { Reply::no_path() };
        return (root, reply, None);
    }
    if below.is_empty() {
        return (root, api(root, call), Some(reads));
    }
    if below == "login/" {
        let reply = if call.method == "POST" { auth::log_in(store, call) } else { Reply::not_allowed(&call.method) };
        return (root, reply, None);
    }
    let slashed = if below.ends_with('/') { below.clone() } else { format!("{below}/") };
    let Some(route) = slashed.strip_prefix("v2/").and_then(Route::at) else { return (root, Reply::no_path(), None) };
    if slashed != below {
        let query = call.query.is_empty();
        let query = if query { String::new() } else { format!("?{}", joined(&call.query)) };
        let to = format!("{root}{slashed}{query}");
        return (root, Reply::text(301, super::reply::HTML, String::new()).with("Location", to), None);
    }
    call.below = below["v2/".len()..].to_owned();
    let reply = routes::answer(store, call, &route).unwrap_or_else(|reply| reply);
    (root, reply, Some(route.allowed()))
}

fn joined(query: &[(String, String)]) -> String {
    let encode = super::forms::encoded;
    query.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect::<Vec<_>>().join("&")
}

/// What is at the root: the versions, and a cookie for who wants to log in by form.
fn api(root: &str, call: &Call) -> Reply {
    let version = format!("{root}v2/");
    let mut body = serde_json::json!({
        "description": "AWX REST API", "current_version": version, "available_versions": {"v2": version},
        "oauth2": "/api/o/", "custom_logo": "", "custom_login_info": "", "login_redirect_override": "",
    });
    if root != "/api/"
        && let Some(body) = body.as_object_mut()
    {
        body.shift_remove("oauth2");
    }
    let csrf = call.cookie("csrftoken").map_or_else(|| secret(32), str::to_owned);
    Reply::json(200, body).with("Set-Cookie", auth::csrf_cookie(&csrf))
}

fn finished(reply: Reply, headers: Vec<(&'static str, String)>) -> Response<Bytes> {
    let mut response = Response::builder().status(reply.status);
    let body = match reply.body {
        Body::None => Bytes::new(),
        Body::Json(value) => {
            response = response.header("Content-Type", "application/json");
            Bytes::from(value.to_string())
        }
        Body::Text { kind, text } => {
            response = response.header("Content-Type", kind);
            Bytes::from(text)
        }
    };
    for (name, value) in reply.headers.into_iter().chain(headers) {
        response = response.header(name, value);
    }
    let failed = |_| Response::new(Bytes::from_static(b"a header that cannot be sent"));
    response.body(body).unwrap_or_else(failed)
}
