//! Control from another process, below `/_control/`, outside of the API and of the log.
//!
//! | request | what it does |
//! | --- | --- |
//! | `GET machines`, `GET requests` | the machines there have been, the requests so far |
//! | `POST token` `{user, scope}` | a token: `{token}` |
//! | `POST rules` `{method, path, skip, times, fate, …}`, `DELETE rules` | a rule more (`fate`: `delay` or `late` with `milliseconds`, `answer` with `status`, `kind`, `body`, `drop-before`, `drop-after`, `cut`, `truncate`), or none |
//! | `POST refuse` `{milliseconds}` | no connection is accepted for so long |
//! | `POST advance` `{milliseconds}` | the clock goes forward |
//! | `POST project` `{gone}` | the project's folder is gone, or there again |
//! | `POST kill-worker` | all running playbooks are ended |

use std::time::Duration;

use serde_json::{Value, json};

use super::http::Shared;
use super::misbehave::{Fate, Rule};
use super::reply::Reply;

/// Answers a request for a path below `/_control/`.
pub(super) fn answer(shared: &Shared, method: &str, path: &str, body: &[u8]) -> Reply {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let milliseconds = || Duration::from_millis(body["milliseconds"].as_u64().unwrap_or(0));
    let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
    match (method, path) {
        ("GET", "machines") => {
            let machines = shared.machines().into_iter().map(
                |machine| json!({"name": machine.name, "made_by": machine.made_by, "removed_by": machine.removed_by}),
            );
            return Reply::json(200, machines.collect());
        }
        ("GET", "requests") => {
            let requests = shared.seen().into_iter().map(|seen| {
                json!({"method": seen.method, "target": seen.target, "status": seen.status, "user": seen.user,
                    "bytes_in": seen.bytes_in, "bytes_out": seen.bytes_out})
            });
            return Reply::json(200, requests.collect());
        }
        ("POST", "token") => {
            let Some(token) = shared.token_of(&text("user"), text("scope") != "read") else { return Reply::no("User") };
            return Reply::json(200, json!({"token": token}));
        }
        ("POST", "rules") => match rule(&body) {
            Some(rule) => shared.spoil(rule),
            None => return Reply::detail(400, "a rule has a path and a fate"),
        },
        ("DELETE", "rules") => shared.behave(),
        ("POST", "refuse") => shared.refuse(milliseconds()),
        ("POST", "advance") => shared.advance(milliseconds()),
        ("POST", "project") => shared.store().project_is_gone = body["gone"] == true,
        ("POST", "kill-worker") => shared.store().kill_worker(),
        _ => return Reply::no_path(),
    }
    Reply::empty(204)
}

fn rule(body: &Value) -> Option<Rule> {
    let text = |key: &str| body[key].as_str().map(str::to_owned);
    let number = |key: &str| body[key].as_u64().and_then(|number| u32::try_from(number).ok());
    let fate = match body["fate"].as_str()? {
        "delay" => Fate::Delay(Duration::from_millis(body["milliseconds"].as_u64()?)),
        "late" => Fate::Late(Duration::from_millis(body["milliseconds"].as_u64()?)),
        "answer" => Fate::Answer(
            u16::try_from(body["status"].as_u64()?).ok()?,
            text("kind").unwrap_or_else(|| "application/json".to_owned()),
            text("body").unwrap_or_default(),
        ),
        "drop-before" => Fate::DropBefore,
        "drop-late" => Fate::DropLate,
        "drop-after" => Fate::DropAfter,
        "cut" => Fate::Cut,
        "truncate" => Fate::Truncate,
        _ => return None,
    };
    let rule = Rule::new(&text("method").unwrap_or_else(|| "*".to_owned()), &text("path")?, fate);
    let rule = rule.skip(number("skip").unwrap_or(0));
    Some(match number("times") {
        Some(times) => rule.times(times),
        None => rule,
    })
}
