//! A way to a cloud that can be made bad: what a provider talks through while a test spoils the connection.

use std::collections::HashSet;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use serde_json::Value;

use super::{Clearance, Service};

/// An address that leads to the services of a cloud, each below a path of its own. It goes on for as long as the process
/// lives.
pub struct Wire {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    /// Where each path leads to.
    routes: Vec<(&'static str, String)>,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    way: Way,
    /// Tokens that the other cloud has given out, and those that have ended.
    foreign: HashSet<String>,
    /// How many requests have come.
    seen: u32,
    /// Whether the request that is to be held has come.
    has_held: bool,
    /// All tokens that were given out, in their order.
    tokens: Vec<String>,
    /// All requests that have come, in their order.
    asked: Vec<Asked>,
}

/// What a request was.
struct Asked {
    method: String,
    path: String,
    body: Value,
}

/// What becomes of requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// They go to the services, and the answers come back.
    Fair,
    /// They are taken, and nothing comes of them.
    Hanging,
    /// The connection is cut at once.
    Cut,
    /// This one, counting from 1, gets there, and the connection is cut before its answer comes. Later ones are fine.
    CutAfter(u32),
    /// As `CutAfter`, but the request does not get there either.
    CutBefore(u32),
    /// As `CutBefore`, but the request gets there a second after its sender was cut off.
    CutAndLate(u32),
    /// As `CutAfter`, and all later ones are cut as well.
    GoneAfter(u32),
    /// A request of this kind is held, before it gets there or before its answer comes back, for as long as the way is this
    /// one. Whoever sent it can be ended at leisure. Then its connection is cut.
    Hold(Kind),
    /// A request of this kind is held before it gets there, for as long as the way is this one, and goes on then as if
    /// nothing had been.
    Late(Kind),
    /// So many requests of this kind get there or not, as it says, and come to this. All others are fine.
    Spoilt {
        /// Which requests.
        what: Kind,
        /// What they come to.
        how: Spoil,
        /// How many of them, from now on.
        times: u32,
    },
    /// Nobody is there at addresses that begin with this: `/network`.
    Down(&'static str),
    /// Another cloud answers: it does not know the tokens of the first, and has another project under the same name.
    Elsewhere {
        /// The project's name.
        name: String,
        /// What the other cloud's project is really called.
        other: String,
    },
}

/// What a request comes to that is spoilt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoil {
    /// Its connection is cut.
    Cut,
    /// It is answered with this status, and with a few words.
    Status(u16),
    /// It is answered as one that was done, with half a body.
    Garbled,
    /// It is answered with this body, as one that was done.
    Says(&'static str),
}

impl Spoil {
    fn answer(self) -> Option<String> {
        let (status, body) = match self {
            Self::Cut => return None,
            Self::Status(status) => (status, r#"{"message": "spoilt by the wire"}"#),
            Self::Garbled => (202, r#"{"server":"#),
            Self::Says(body) => (200, body),
        };
        let length = body.len();
        Some(format!("HTTP/1.1 {status} -\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"))
    }
}

/// A kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// Its method.
    pub method: &'static str,
    /// The end of its path, without the query; `*` stands for any one part.
    pub path: &'static str,
    /// Whether it gets there, so that only its answer is spoilt or held.
    pub arrives: bool,
}

impl Kind {
    fn is(self, method: &str, path: &str) -> bool {
        let path = path.split('?').next().unwrap_or_default();
        let mut parts = path.rsplit('/');
        let fits = self.path.rsplit('/').all(|wanted| parts.next().is_some_and(|part| wanted == "*" || wanted == part));
        self.method == method && fits
    }
}

/// How late a request is whose sender was cut off before.
const LATE: Duration = Duration::from_secs(1);

/// What becomes of one request.
#[derive(Clone, Copy)]
enum Fate {
    Pass,
    PassAndCut,
    CutAndPass,
    PassAndHold(Kind),
    Spoil { how: Spoil, arrives: bool },
    Cut,
    Unknown,
}

impl Wire {
    /// Listens on this machine, and leads to the services that a clearance has the addresses of.
    ///
    /// # Panics
    ///
    /// If it cannot listen.
    pub fn start(to: &Clearance) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let services = [
            ("/identity", Service::Identity),
            ("/compute", Service::Compute),
            ("/network", Service::Network),
            ("/image", Service::Image),
        ];
        let shared = Arc::new(Shared {
            routes: services.map(|(path, service)| (path, to.address(service))).to_vec(),
            state: Mutex::new(State {
                way: Way::Fair,
                foreign: HashSet::new(),
                seen: 0,
                has_held: false,
                tokens: Vec::new(),
                asked: Vec::new(),
            }),
            changed: Condvar::new(),
        });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (shared, stream) = (Arc::clone(&serving), stream.unwrap());
                std::thread::spawn(move || {
                    // Whoever talked has hung up.
                    drop(shared.serve(&stream));
                    drop(stream.shutdown(Shutdown::Both));
                });
            }
        });
        Self { address, shared }
    }

    /// Where it listens: host and port.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// The settings that lead a provider through here.
    pub fn settings(&self) -> String {
        let at = |path: &str| format!("http://{}{path}", self.address);
        format!(
            "auth_url: '{}', compute_endpoint_override: '{}', network_endpoint_override: '{}', \
             image_endpoint_override: '{}'",
            at("/identity/v3"),
            at("/compute/v2.1"),
            at("/network/v2.0"),
            at("/image/v2")
        )
    }

    /// What becomes of requests from now on, those that hang among them.
    pub fn lead(&self, way: Way) {
        let mut state = self.shared.state.lock().unwrap();
        (state.way, state.has_held) = (way, false);
        self.shared.changed.notify_all();
    }

    /// Whether the request has come that [`Way::Hold`] or [`Way::Late`] is about. One that arrives has been answered by
    /// then.
    pub fn has_held(&self) -> bool {
        self.shared.state.lock().unwrap().has_held
    }

    /// Whether a cut that was asked for has not happened yet.
    pub fn has_yet_to_cut(&self) -> bool {
        matches!(
            self.shared.state.lock().unwrap().way,
            Way::CutAfter(1..) | Way::CutBefore(1..) | Way::CutAndLate(1..) | Way::GoneAfter(1..)
        )
    }

    /// The tokens that were given out so far, in their order.
    pub fn tokens(&self) -> Vec<String> {
        self.shared.state.lock().unwrap().tokens.clone()
    }

    /// Has all tokens that were given out so far refused from now on, and returns them.
    pub fn expire_tokens(&self) -> Vec<String> {
        let mut state = self.shared.state.lock().unwrap();
        let tokens = state.tokens.clone();
        state.foreign.extend(tokens.iter().cloned());
        tokens
    }

    /// The bodies of the requests of a method and a path, as in a [`Kind`], that have come so far; null where there is
    /// none.
    pub fn asked(&self, method: &'static str, path: &'static str) -> Vec<Value> {
        let kind = Kind { method, path, arrives: true };
        let state = self.shared.state.lock().unwrap();
        state.asked.iter().filter(|asked| kind.is(&asked.method, &asked.path)).map(|asked| asked.body.clone()).collect()
    }

    /// How many requests have come so far.
    pub fn requests(&self) -> u32 {
        self.shared.state.lock().unwrap().seen
    }
}

/// A request as it came.
struct Request {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    fn read(from: &TcpStream) -> io::Result<Option<Self>> {
        let mut reader = BufReader::new(from);
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let mut words = line.split_whitespace().map(str::to_owned);
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let mut headers = Vec::new();
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.parse().map_err(io::Error::other)?;
            }
            headers.push((name.to_owned(), value.to_owned()));
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        Ok(Some(Self { method, path, headers, body }))
    }

    fn token(&self) -> Option<&str> {
        self.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("x-auth-token")).map(|(_, value)| value.as_str())
    }
}

impl Shared {
    fn serve(&self, client: &TcpStream) -> io::Result<()> {
        let Some(mut request) = Request::read(client)? else { return Ok(()) };
        let fate = self.fate(&request);
        if let Way::Elsewhere { name, other } = self.state.lock().unwrap().way.clone() {
            let text = String::from_utf8_lossy(&request.body);
            request.body = text.replace(&format!("\"{name}\""), &format!("\"{other}\"")).into_bytes();
        }
        match fate {
            Fate::Cut => return Ok(()),
            Fate::Unknown => {
                let answer = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                return { client }.write_all(answer.as_bytes());
            }
            Fate::Spoil { how, arrives: false } => {
                return how.answer().map_or(Ok(()), |answer| { client }.write_all(answer.as_bytes()));
            }
            Fate::CutAndPass => {
                client.shutdown(Shutdown::Both)?;
                std::thread::sleep(LATE);
            }
            Fate::Pass | Fate::PassAndCut | Fate::PassAndHold(_) | Fate::Spoil { .. } => {}
        }
        let answer = self.forward(&request)?;
        self.remember(&answer);
        match fate {
            Fate::PassAndCut | Fate::CutAndPass => Ok(()),
            Fate::Spoil { how, .. } => how.answer().map_or(Ok(()), |answer| { client }.write_all(answer.as_bytes())),
            Fate::PassAndHold(held) => {
                self.hold(held);
                Ok(())
            }
            _ => { client }.write_all(&answer),
        }
    }

    fn forward(&self, request: &Request) -> io::Result<Vec<u8>> {
        let route = self.routes.iter().find(|(path, _)| request.path.starts_with(path));
        let (prefix, base) = route.ok_or_else(|| io::Error::other(request.path.clone()))?;
        // The provider's addresses have the version in them, and so have the services'.
        let rest = &request.path[prefix.len()..];
        let behind = rest.get(1..).and_then(|rest| rest.find('/')).map_or("", |at| &rest[at + 1..]);
        let (place, path) = base.trim_start_matches("http://").split_once('/').unwrap_or_default();
        let mut head = format!("{} /{path}{behind} HTTP/1.1\r\n", request.method);
        for (name, value) in &request.headers {
            let value = match name.to_ascii_lowercase().as_str() {
                "connection" | "content-length" => continue,
                "host" => place,
                _ => value,
            };
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("Content-Length: {}\r\nConnection: close\r\n\r\n", request.body.len()));
        let mut service = TcpStream::connect(place)?;
        service.write_all(&[head.as_bytes(), &request.body].concat())?;
        let mut answer = Vec::new();
        service.read_to_end(&mut answer)?;
        Ok(answer)
    }

    /// Notes the tokens that are given out.
    fn remember(&self, answer: &[u8]) {
        let text = String::from_utf8_lossy(answer);
        let token = text.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("x-subject-token").then(|| value.trim().to_owned())
        });
        let Some(token) = token else { return };
        let mut state = self.state.lock().unwrap();
        if matches!(state.way, Way::Elsewhere { .. }) {
            state.foreign.insert(token.clone());
        }
        state.tokens.push(token);
    }

    /// Waits for as long as a request of this kind is held.
    fn hold(&self, held: Kind) {
        let mut state = self.state.lock().unwrap();
        while matches!(state.way, Way::Hold(kind) | Way::Late(kind) if kind == held) {
            state.has_held = true;
            state = self.changed.wait(state).unwrap();
        }
    }

    fn fate(&self, request: &Request) -> Fate {
        let mut state = self.state.lock().unwrap();
        state.seen += 1;
        state.asked.push(Asked {
            method: request.method.clone(),
            path: request.path.clone(),
            body: serde_json::from_slice(&request.body).unwrap_or_default(),
        });
        if let Way::Hold(held) | Way::Late(held) = state.way
            && held.is(&request.method, &request.path)
        {
            let is_late = matches!(state.way, Way::Late(_));
            if held.arrives && !is_late {
                return Fate::PassAndHold(held);
            }
            drop(state);
            self.hold(held);
            return if is_late { Fate::Pass } else { Fate::Cut };
        }
        if let Way::Spoilt { what, how, times: times @ 1.. } = &mut state.way
            && what.is(&request.method, &request.path)
        {
            *times -= 1;
            return Fate::Spoil { how: *how, arrives: what.arrives };
        }
        loop {
            let State { way, foreign, .. } = &mut *state;
            let is_foreign = request.token().map(|token| foreign.contains(token));
            let (left, cut) = match way {
                Way::Hanging => {
                    state = self.changed.wait(state).unwrap();
                    continue;
                }
                Way::Elsewhere { .. } if is_foreign == Some(false) => return Fate::Unknown,
                Way::Elsewhere { .. } => return Fate::Pass,
                Way::Down(path) if request.path.starts_with(*path) => return Fate::Cut,
                Way::Fair | Way::Hold(_) | Way::Late(_) | Way::Spoilt { .. } | Way::Down(_) => {
                    return if is_foreign == Some(true) { Fate::Unknown } else { Fate::Pass };
                }
                Way::Cut | Way::GoneAfter(0) => return Fate::Cut,
                Way::CutAfter(left) | Way::GoneAfter(left) => (left, Fate::PassAndCut),
                Way::CutBefore(left) => (left, Fate::Cut),
                Way::CutAndLate(left) => (left, Fate::CutAndPass),
            };
            let now = *left == 1;
            *left = left.saturating_sub(1);
            return if now { cut } else { Fate::Pass };
        }
    }
}
