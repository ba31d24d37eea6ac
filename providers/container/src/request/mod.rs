//! What is wanted of a container: an order's arguments, checked and typed.

mod files;
mod ports;
mod wait;
mod words;

use std::path::Path;
use std::time::Duration;

use broker_core::provider::{ArgumentInfo, ArgumentScope, ErrorKind, Order, ProviderError};
use broker_core::{ArgValue, duration};

pub(crate) use self::files::{Contents, PutFile};
pub(crate) use self::ports::{Inside, Publish};
pub use self::wait::Wait;
use crate::network;
use crate::settings::Settings;

/// How long a container may take to become ready where nothing else is said.
const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

/// The action that makes a host.
pub(crate) const CONTAINER_HOST: &str = "container_host";

/// The action that runs a container to its end.
pub(crate) const CONTAINER_APP: &str = "container_app";

const fn argument(name: &'static str, value: &'static str, help: &'static str, on: ArgumentScope) -> ArgumentInfo {
    ArgumentInfo { name, value: Some(value), help, on }
}

const fn switch(name: &'static str, help: &'static str) -> ArgumentInfo {
    ArgumentInfo { name, value: None, help, on: ArgumentScope::Both }
}

/// All arguments that containers take, beside the actions' own.
pub(crate) const ARGUMENTS: &[ArgumentInfo] = {
    use ArgumentScope::{Both, Checkout};
    &[
        argument("name", "NAME", "Name of the container; made up of the prefix and the id otherwise", Both),
        argument("hostname", "NAME", "What the container calls itself", Both),
        argument("command", "LINE", "Command instead of the image's, split into words; a list is taken as it is", Both),
        argument("entrypoint", "LINE", "Entry point instead of the image's, split into words", Both),
        argument("environment", "A=1,B=2", "Variables of the environment; a mapping for values with commas", Both),
        argument(
            "ports",
            "PORTS",
            "Ports to publish: 22, 22/udp, 22:1337 (container:host), 127.0.0.1:1337:22; several with commas. On \
             127.0.0.1 unless an address is given, on a remote engine on all of its addresses",
            Both,
        ),
        argument("auto_map_ports", "BOOL", "Publish every port that the image exposes (setting: true)", Both),
        argument("volumes", "FROM:TO[:ro]", "Directories and volumes to mount; several with commas", Both),
        argument("network", "NAME", "Networks to join, which must exist; several with commas", Both),
        argument(
            "network_group",
            "NAME",
            "Network of this group, made when it is missing and removed with its last host; its hosts find one another \
             by name and hostname",
            Both,
        ),
        argument("user", "USER[:GROUP]", "User to run as", Both),
        switch("privileged", "Give the container all rights on the machine"),
        argument("cap_add", "NAMES", "Capabilities to add, such as NET_ADMIN", Both),
        argument("cap_drop", "NAMES", "Capabilities to drop", Both),
        argument(
            "tmpfs",
            "PATH[:OPTIONS]",
            "Directories kept in memory, such as /run:size=64m; several with spaces",
            Both,
        ),
        argument("shm_size", "SIZE", "Size of /dev/shm, such as 64m", Both),
        argument("platform", "OS/ARCH", "Platform of the image, such as linux/arm64", Both),
        argument("pull", "WHEN", "When to pull the image: missing (the default), always or never", Both),
        argument(
            "wait",
            "CONDITION",
            "Ready when: running, healthcheck, port:5432, log:TEXT, http:8080/path, command:LINE; several with commas. \
             By default the healthcheck where there is one, else running",
            Checkout,
        ),
        argument("wait_timeout", "TIME", "How long it may take to become ready, such as 90s (default: 60s)", Checkout),
        argument(
            "files",
            "@FILE",
            "Files to put in before the start: a mapping of paths to content, source or base64, with an optional mode",
            Both,
        ),
    ]
};

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Pull {
    Missing,
    Always,
    Never,
}

/// Everything about one container that is to be made.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Spec {
    pub(crate) image: String,
    pub(crate) name: Option<String>,
    pub(crate) hostname: Option<String>,
    pub(crate) command: Option<Vec<String>>,
    pub(crate) entrypoint: Option<Vec<String>>,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) ports: Vec<Publish>,
    pub(crate) auto_map_ports: bool,
    pub(crate) binds: Vec<String>,
    pub(crate) anonymous_volumes: Vec<String>,
    pub(crate) networks: Vec<String>,
    pub(crate) network_group: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) privileged: bool,
    pub(crate) cap_add: Vec<String>,
    pub(crate) cap_drop: Vec<String>,
    pub(crate) tmpfs: Vec<(String, String)>,
    pub(crate) shm_size: Option<i64>,
    pub(crate) platform: Option<String>,
    pub(crate) pull: Pull,
    pub(crate) wait: Vec<Wait>,
    pub(crate) wait_timeout: Duration,
    pub(crate) files: Vec<PutFile>,
}

/// Why the value of an argument does not do; whoever knows the argument's name puts it in front.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bad(pub(crate) String);

impl Bad {
    fn at(self, key: &str) -> ProviderError {
        ProviderError::new(ErrorKind::BadRequest, format!("argument `{key}`: {}", self.0))
    }
}

impl Spec {
    /// Checks an order's arguments. Asks nobody; only the sources of `files` are looked at.
    pub(crate) fn read(order: &Order, settings: &Settings) -> Result<Self, ProviderError> {
        let action = order.action.as_str();
        let checkout = action == CONTAINER_HOST;
        if !checkout && action != CONTAINER_APP {
            let message =
                format!("`{action}` is no action of Container; it has `{CONTAINER_HOST}` and `{CONTAINER_APP}`");
            return Err(ProviderError::new(ErrorKind::BadRequest, message));
        }
        let mut spec = Self {
            image: checked(action, order.target(), image_name)?,
            name: None,
            hostname: None,
            command: None,
            entrypoint: None,
            environment: Vec::new(),
            ports: Vec::new(),
            auto_map_ports: settings.auto_map_ports,
            binds: Vec::new(),
            anonymous_volumes: Vec::new(),
            networks: settings.networks.clone(),
            network_group: None,
            user: None,
            privileged: false,
            cap_add: Vec::new(),
            cap_drop: Vec::new(),
            tmpfs: Vec::new(),
            shm_size: None,
            platform: None,
            pull: Pull::Missing,
            wait: Vec::new(),
            wait_timeout: WAIT_TIMEOUT,
            files: Vec::new(),
        };
        for (key, value) in order.args.iter().filter(|(key, value)| *key != action && !value.is_null()) {
            spec.set(action, key, value).map_err(|bad| bad.at(key))?;
        }
        let mode = spec.networks.iter().find(|name| network::is_alone(name));
        if let Some(mode) = mode.filter(|_| spec.networks.len() > 1 || spec.network_group.is_some()) {
            return Err(Bad(format!("`{mode}` goes with no other network, and with no group")).at("network"));
        }
        Ok(spec)
    }

    fn set(&mut self, action: &str, key: &str, value: &ArgValue) -> Result<(), Bad> {
        let known = ARGUMENTS.iter().find(|argument| argument.name == key);
        if known.is_none_or(|argument| action == CONTAINER_APP && argument.on == ArgumentScope::Checkout) {
            return Err(unknown(action, key));
        }
        let words = |value: &ArgValue| match value.as_str() {
            Some(line) => words::split(line).map_err(|unclosed| Bad(unclosed.to_string())),
            None => items(value, |_| false),
        };
        let names = |value: &ArgValue| items(value, |character| character == ',' || character.is_whitespace());
        match key {
            "name" => self.name = Some(one(value).and_then(container_name)?),
            "hostname" => self.hostname = Some(one(value).and_then(host_name)?),
            "command" => self.command = Some(words(value)?),
            "entrypoint" => self.entrypoint = Some(words(value)?),
            "environment" => self.environment = environment(value)?,
            "ports" => self.ports = ports::parse(value)?,
            "auto_map_ports" => self.auto_map_ports = boolean(value)?,
            "volumes" => (self.binds, self.anonymous_volumes) = volumes(value)?,
            "network" => {
                self.networks = names(value)?.into_iter().map(|name| plain(&name)).collect::<Result<_, _>>()?
            }
            "network_group" => self.network_group = Some(one(value).and_then(container_name)?),
            "user" => self.user = Some(one(value)?.to_owned()),
            "privileged" => self.privileged = boolean(value)?,
            "cap_add" => self.cap_add = names(value)?.iter().map(|name| name.to_uppercase()).collect(),
            "cap_drop" => self.cap_drop = names(value)?.iter().map(|name| name.to_uppercase()).collect(),
            "tmpfs" => self.tmpfs = tmpfs(value)?,
            "shm_size" => self.shm_size = Some(one(value).and_then(size)?),
            "platform" => self.platform = Some(one(value).and_then(plain)?),
            "pull" => {
                self.pull = match one(value)? {
                    "missing" => Pull::Missing,
                    "always" => Pull::Always,
                    "never" => Pull::Never,
                    other => return Err(Bad(format!("`{other}` must be `missing`, `always` or `never`"))),
                }
            }
            "wait" => self.wait = wait::parse(value)?,
            "wait_timeout" => self.wait_timeout = time(one(value)?)?,
            "files" => self.files = files::parse(value)?,
            _ => return Err(unknown(action, key)),
        }
        Ok(())
    }

    /// What must not be shown: the values of variables whose names say that they are secret.
    pub(crate) fn secrets(&self) -> Vec<String> {
        let secret = self.environment.iter().filter(|(name, _)| broker_core::secrets::is_secret_name(name));
        let mut values: Vec<String> =
            secret.map(|(_, value)| value.clone()).filter(|value| !value.is_empty()).collect();
        // A secret that begins another must not leave the rest of it standing.
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        values
    }
}

fn unknown(action: &str, key: &str) -> Bad {
    let takes = |argument: &&ArgumentInfo| action == CONTAINER_HOST || argument.on != ArgumentScope::Checkout;
    let near: Vec<String> = ARGUMENTS
        .iter()
        .filter(takes)
        .filter(|argument| {
            strsim::damerau_levenshtein(key, argument.name) <= 2 || strsim::jaro_winkler(key, argument.name) > 0.88
        })
        .map(|argument| format!("`{}`", argument.name))
        .collect();
    let near = if near.is_empty() { String::new() } else { format!("; similar: {}", near.join(", ")) };
    Bad(format!("`{action}` does not take it{near}"))
}

fn checked(key: &str, text: &str, check: impl Fn(&str) -> Result<String, Bad>) -> Result<String, ProviderError> {
    check(text).map_err(|bad| bad.at(key))
}

/// A text that is not empty.
fn one(value: &ArgValue) -> Result<&str, Bad> {
    match value.as_str().map(str::trim) {
        Some("") => Err(Bad("it is empty".to_owned())),
        Some(text) => Ok(text),
        None => Err(Bad(format!("it must be a text, and is a {}", value.kind()))),
    }
}

/// The texts of a list, or the pieces of a text between separators. Empty pieces are left out.
pub(crate) fn items(value: &ArgValue, separates: impl Fn(char) -> bool) -> Result<Vec<String>, Bad> {
    match value {
        ArgValue::Text(text) | ArgValue::Plain(text) => {
            Ok(text.split(separates).map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect())
        }
        ArgValue::List(items) => items
            .iter()
            .map(|item| {
                let wrong = || Bad(format!("an item of the list is a {}, and must be a text", item.kind()));
                item.as_str().map(str::to_owned).ok_or_else(wrong)
            })
            .collect(),
        ArgValue::Map(_) => Err(Bad("it must be a text or a list, and is a mapping".to_owned())),
    }
}

fn boolean(value: &ArgValue) -> Result<bool, Bad> {
    value.as_bool().ok_or_else(|| Bad(format!("`{value}` must be `true` or `false`")))
}

/// A duration with its unit, or a bare number of seconds.
fn time(text: &str) -> Result<Duration, Bad> {
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    duration::parse(text).map_err(|error| Bad(error.to_string()))
}

/// A name that can stand in a request as it is.
fn plain(text: &str) -> Result<String, Bad> {
    let fits = |character: char| character.is_ascii_alphanumeric() || "_.-:/".contains(character);
    if text.chars().all(fits) && !text.split('/').any(|part| matches!(part, "" | "." | "..")) {
        Ok(text.to_owned())
    } else {
        Err(Bad(format!("`{text}` has characters in it that no such name has")))
    }
}

pub(crate) fn image_name(text: &str) -> Result<String, Bad> {
    let text = text.trim();
    if text.is_empty() {
        return Err(Bad("the name of an image is needed".to_owned()));
    }
    let fits = |character: char| character.is_ascii_alphanumeric() || "_.-:/@+".contains(character);
    let parts = !text.split('/').any(|part| matches!(part, "" | "." | ".."));
    if text.chars().all(fits) && parts && text.starts_with(|first: char| first.is_ascii_alphanumeric()) {
        Ok(text.to_owned())
    } else {
        Err(Bad(format!(
            "`{text}` is no name of an image; write it like `ubi9`, `localhost/mine:tag` or `quay.io/x/y@sha256:…`"
        )))
    }
}

fn container_name(text: &str) -> Result<String, Bad> {
    let fits = |character: char| character.is_ascii_alphanumeric() || "_.-".contains(character);
    if text.chars().all(fits) && text.len() > 1 && text.starts_with(|first: char| first.is_ascii_alphanumeric()) {
        Ok(text.to_owned())
    } else {
        Err(Bad(format!("`{text}` must be two or more letters, digits, `_`, `.` or `-`, the first a letter or digit")))
    }
}

fn host_name(text: &str) -> Result<String, Bad> {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.chars().all(|character| character.is_ascii_alphanumeric() || character == '-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // The kernel takes no more than 64 bytes.
    if text.len() <= 64 && text.split('.').all(label) {
        Ok(text.to_owned())
    } else {
        Err(Bad(format!("`{text}` is no host name: labels of letters, digits and `-` with dots between, 64 in all")))
    }
}

fn environment(value: &ArgValue) -> Result<Vec<(String, String)>, Bad> {
    let name = |name: &str| {
        if name.is_empty() || name.contains(['=', '\0']) || name.contains(char::is_whitespace) {
            return Err(Bad(format!("`{name}` is no name of a variable")));
        }
        Ok(name.to_owned())
    };
    if let ArgValue::Map(map) = value {
        return map
            .iter()
            .map(|(key, value)| {
                let text = if value.is_null() { Some("") } else { value.as_str() };
                let text =
                    text.ok_or_else(|| Bad(format!("variable `{key}` is a {}, and must be a text", value.kind())))?;
                Ok((name(key)?, text.to_owned()))
            })
            .collect();
    }
    let pairs = items(value, |character| character == ',')?;
    let pair = |text: &String| match text.split_once('=') {
        Some((key, value)) => Ok((name(key.trim())?, value.to_owned())),
        // The text may be the rest of a secret, so it is not shown.
        None => Err(Bad("an item has no `=`; write `A=1,B=2`, or a mapping where values have commas".to_owned())),
    };
    pairs.iter().map(pair).collect()
}

fn volumes(value: &ArgValue) -> Result<(Vec<String>, Vec<String>), Bad> {
    let mut texts = Vec::new();
    if let ArgValue::Map(map) = value {
        for (from, to) in map {
            match to {
                // The way of Docker's Python library.
                ArgValue::Map(fields) => {
                    let bind = fields.get("bind").and_then(ArgValue::as_str);
                    let bind = bind.ok_or_else(|| Bad(format!("`{from}` has no `bind`")))?;
                    let mode = fields.get("mode").and_then(ArgValue::as_str).unwrap_or("rw");
                    texts.push(format!("{from}:{bind}:{mode}"));
                }
                to => texts.push(format!("{from}:{}", one(to)?)),
            }
        }
    } else {
        texts = items(value, |character| character == ',' || character.is_whitespace())?;
    }
    let (mut binds, mut anonymous) = (Vec::new(), Vec::new());
    for text in texts {
        let mut parts = text.splitn(3, ':');
        let (first, to, options) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
        let Some(to) = to else {
            if !first.starts_with('/') {
                return Err(Bad(format!(
                    "`{text}` must be `FROM:TO`, or an absolute path for a volume without a name"
                )));
            }
            anonymous.push(text);
            continue;
        };
        if !to.starts_with('/') {
            return Err(Bad(format!("`{to}` in `{text}` must be an absolute path in the container")));
        }
        let is_path = first.contains('/') || first.starts_with('.');
        let from = if is_path {
            let absolute = std::path::absolute(Path::new(first)).ok();
            absolute.and_then(|path| path.into_os_string().into_string().ok()).unwrap_or_else(|| first.to_owned())
        } else {
            container_name(first)
                .map_err(|_| Bad(format!("`{first}` in `{text}` is neither a path nor a volume's name")))?
        };
        binds.push(match options {
            None => format!("{from}:{to}"),
            Some(options) => format!("{from}:{to}:{options}"),
        });
    }
    Ok((binds, anonymous))
}

fn tmpfs(value: &ArgValue) -> Result<Vec<(String, String)>, Bad> {
    let mut mounts = Vec::new();
    if let ArgValue::Map(map) = value {
        for (path, options) in map {
            let options = if options.is_null() { Some("") } else { options.as_str() };
            let options = options.ok_or_else(|| Bad(format!("the options of `{path}` must be a text")))?;
            mounts.push((path.clone(), options.to_owned()));
        }
    } else {
        for item in items(value, char::is_whitespace)? {
            let (path, options) = item.split_once(':').unwrap_or((&item, ""));
            mounts.push((path.to_owned(), options.to_owned()));
        }
    }
    match mounts.iter().find(|(path, _)| !path.starts_with('/') || path.contains(',')) {
        Some((path, _)) => Err(Bad(format!("`{path}` must be an absolute path, such as `/run:size=64m`"))),
        None => Ok(mounts),
    }
}

/// Reads `64m`, `1g`, `512k` or a number of bytes.
fn size(text: &str) -> Result<i64, Bad> {
    let lower = text.to_ascii_lowercase();
    let bare = lower.strip_suffix("ib").or_else(|| lower.strip_suffix('b')).unwrap_or(&lower);
    let digits = bare.trim_end_matches(|character: char| character.is_ascii_alphabetic());
    let factor: Option<i64> = match bare.get(digits.len()..) {
        Some("") => Some(1),
        Some("k") => Some(1 << 10),
        Some("m") => Some(1 << 20),
        Some("g") => Some(1 << 30),
        _ => None,
    };
    let size = factor.and_then(|factor| digits.trim().parse::<i64>().ok()?.checked_mul(factor));
    size.filter(|size| *size > 0).ok_or_else(|| Bad(format!("`{text}` is no size; write it like `64m` or `1g`")))
}

#[cfg(test)]
mod tests {
    use broker_core::Args;

    use super::*;

    fn read_as(action: &str, json: serde_json::Value) -> Result<Spec, ProviderError> {
        let mut args = Args::from([(action.to_owned(), ArgValue::from("img:1"))]);
        if let ArgValue::Map(map) = ArgValue::from_json(json) {
            args.extend(map);
        }
        Spec::read(&Order::for_test(action, args), &Settings::default())
    }

    fn read(json: serde_json::Value) -> Result<Spec, ProviderError> {
        read_as(CONTAINER_HOST, json)
    }

    #[test]
    fn the_whole_of_it() {
        let spec = read(serde_json::json!({
            "name": "web-1", "hostname": "web.example", "command": "sh -c 'sleep 1'", "entrypoint": ["/init", "a b"],
            "environment": "A=x=y,B=", "ports": "80:8080", "auto_map_ports": "no", "volumes": "/a:/b:ro,data:/c,/d",
            "network": "one, two", "network_group": "g1", "user": "1000:1000", "privileged": true,
            "cap_add": "net_admin,SYS_TIME", "cap_drop": ["ALL"], "tmpfs": "/run:size=1m,mode=755 /tmp",
            "shm_size": "64m", "platform": "linux/amd64", "pull": "never", "wait": "port:80", "wait_timeout": "90s",
            "files": {"/etc/x": {"content": "y"}},
        }))
        .unwrap();
        assert_eq!(spec.command.unwrap(), ["sh", "-c", "sleep 1"]);
        assert_eq!(spec.entrypoint.unwrap(), ["/init", "a b"]);
        assert_eq!(spec.environment, [("A".into(), "x=y".into()), ("B".into(), String::new())]);
        assert!(!spec.auto_map_ports);
        assert_eq!(spec.binds, ["/a:/b:ro", "data:/c"]);
        assert_eq!(spec.anonymous_volumes, ["/d"]);
        assert_eq!(spec.networks, ["one", "two"]);
        assert_eq!(spec.cap_add, ["NET_ADMIN", "SYS_TIME"]);
        assert_eq!(spec.tmpfs, [("/run".into(), "size=1m,mode=755".into()), ("/tmp".into(), String::new())]);
        assert_eq!(
            (spec.shm_size, spec.pull, spec.wait_timeout),
            (Some(64 << 20), Pull::Never, Duration::from_secs(90))
        );
        assert_eq!(spec.wait, [Wait::Port(80)]);
    }

    #[test]
    fn nothing_but_an_image() {
        let spec = read(serde_json::json!({"name": null, "ports": null})).unwrap();
        assert_eq!((spec.image.as_str(), spec.name, spec.auto_map_ports), ("img:1", None, true));
        assert_eq!(spec.pull, Pull::Missing);
    }

    #[test]
    fn maps_where_python_took_them() {
        let spec = read(serde_json::json!({
            "environment": {"A": "x,y", "N": 5, "E": null},
            "volumes": {"/a": {"bind": "/b", "mode": "ro"}, "data": "/c"},
            "tmpfs": {"/run": "size=1m"},
        }))
        .unwrap();
        assert_eq!(
            spec.environment,
            [("A".into(), "x,y".into()), ("N".into(), "5".into()), ("E".into(), String::new())]
        );
        assert_eq!(spec.binds, ["/a:/b:ro", "data:/c"]);
        assert_eq!(spec.tmpfs, [("/run".into(), "size=1m".into())]);
    }

    #[test]
    fn relative_paths_of_volumes_are_made_absolute() {
        let spec = read(serde_json::json!({"volumes": "./src:/src"})).unwrap();
        assert!(spec.binds[0].starts_with('/') && spec.binds[0].ends_with("/src:/src"), "{:?}", spec.binds);
    }

    #[test]
    fn every_bad_value_names_its_argument() {
        for (key, value, part) in [
            ("name", serde_json::json!("-x"), "`-x` must be two or more letters"),
            ("name", serde_json::json!(["a"]), "it must be a text, and is a list"),
            ("hostname", serde_json::json!("bad host!"), "`bad host!` is no host name"),
            ("command", serde_json::json!("sh -c 'x"), "a single quote is never closed"),
            ("environment", serde_json::json!("A=1,hunter2"), "an item has no `=`"),
            ("environment", serde_json::json!({"A B": "1"}), "`A B` is no name of a variable"),
            ("environment", serde_json::json!({"A": ["1"]}), "variable `A` is a list"),
            ("ports", serde_json::json!("ssh"), "`ssh` is no port"),
            ("auto_map_ports", serde_json::json!("maybe"), "`maybe` must be `true` or `false`"),
            ("volumes", serde_json::json!("data"), "`data` must be `FROM:TO`"),
            ("volumes", serde_json::json!("/a:b"), "`b` in `/a:b` must be an absolute path"),
            ("volumes", serde_json::json!("?x:/b"), "neither a path nor a volume's name"),
            ("network", serde_json::json!("a?b"), "`a?b` has characters in it"),
            ("network", serde_json::json!("host, lab"), "`host` goes with no other network"),
            ("network_group", serde_json::json!("../x"), "`../x` must be two or more letters"),
            ("privileged", serde_json::json!("very"), "`very` must be `true` or `false`"),
            ("tmpfs", serde_json::json!("run"), "`run` must be an absolute path"),
            ("shm_size", serde_json::json!("big"), "`big` is no size"),
            ("shm_size", serde_json::json!("0"), "`0` is no size"),
            ("pull", serde_json::json!("sometimes"), "`sometimes` must be `missing`"),
            ("wait", serde_json::json!("ready"), "`ready` is nothing to wait for"),
            ("wait_timeout", serde_json::json!("soon"), "`soon`"),
            ("files", serde_json::json!("x"), "it must be a mapping"),
            ("user", serde_json::json!(""), "it is empty"),
        ] {
            let error = read(serde_json::json!({key: value})).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BadRequest);
            let text = error.to_string();
            assert!(text.starts_with(&format!("argument `{key}`: ")) && text.contains(part), "{text}");
        }
    }

    #[test]
    fn secrets_are_not_in_errors_and_are_known() {
        let error = read(serde_json::json!({"environment": "PASSWORD=a,hunter2"})).unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
        let spec = read(serde_json::json!({"environment": "API_TOKEN=ab,DB_PASSWORD=abc,SECRET=,HOME=/x"})).unwrap();
        assert_eq!(spec.secrets(), ["abc", "ab"]);
    }

    #[test]
    fn unknown_arguments_name_those_that_are_near() {
        for (key, part) in [
            ("prots", "argument `prots`: `container_host` does not take it; similar: `ports`"),
            ("environmet", "similar: `environment`"),
            ("waits", "similar: `wait`"),
            ("deploy_rhel_version", "argument `deploy_rhel_version`: `container_host` does not take it"),
        ] {
            let error = read(serde_json::json!({key: "1"})).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        let error = read_as(CONTAINER_APP, serde_json::json!({"wait": "running"})).unwrap_err().to_string();
        assert_eq!(error, "argument `wait`: `container_app` does not take it");
    }

    #[test]
    fn names_of_images() {
        for name in ["ubi9", "localhost/x:tiny", "reg:5000/a/b:1.0", "a@sha256:0123", "sha256:0123", "0123abcd"] {
            assert_eq!(image_name(name).unwrap(), name);
        }
        for name in ["", " ", "a b", "a//b", "../x", "x/..", "x?y", "-x", "a#b", "a%2f"] {
            assert!(image_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in
            [("64m", 64 << 20), ("1g", 1 << 30), ("512k", 512 << 10), ("100", 100), ("2MB", 2 << 20), ("1GiB", 1 << 30)]
        {
            assert_eq!(size(text).unwrap(), bytes, "{text}");
        }
        for text in ["", "m", "-1m", "1.5g", "1t", "9999999999999g"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
