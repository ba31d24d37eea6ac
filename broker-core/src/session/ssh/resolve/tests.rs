use serde_json::{Map, Value, json};

use super::*;
use crate::id::HostId;

/// A home directory, and what a test says about reaching a host.
struct Lab {
    home: tempfile::TempDir,
    record: HostRecord,
    login: SshLogin,
    settings: SshSettings,
}

impl Lab {
    fn new(fields: Value) -> Self {
        let mut record = json!({
            "id": HostId::generate(), "number": 0, "rev": 1, "state": "active", "at": "2026-01-01T00:00:00Z",
            "_broker_provider": "TestProvider",
        });
        record.as_object_mut().unwrap().extend(fields.as_object().cloned().unwrap_or_default());
        let record = HostRecord::from_json(record.as_object().cloned().unwrap_or_else(Map::new)).unwrap();
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join(".ssh")).unwrap();
        Self { home, record, login: SshLogin::default(), settings: SshSettings::default() }
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.home.path().join(".ssh").join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn place(&self) -> Place {
        Place { directory: self.home.path().join("broker"), home: self.home.path().to_owned(), user: "jane".to_owned() }
    }

    fn target(&self) -> Result<SshTarget, SessionError> {
        let (login, settings) = (self.login.clone(), self.settings.clone());
        Sources { record: &self.record, login, settings, place: self.place() }.target()
    }

    fn credentials(&self) -> Vec<String> {
        self.target().unwrap().credentials.iter().map(|credential| self.shown(credential)).collect()
    }

    fn shown(&self, credential: &Credential) -> String {
        match credential {
            Credential::Agent => "agent".to_owned(),
            Credential::AgentKey { path, .. } => {
                format!("agent's {}", path.strip_prefix(self.home.path()).unwrap_or(path).display())
            }
            Credential::Password(password) => format!("password {}", password.expose()),
            Credential::Key(key) => format!("key {}", key.expose()),
            Credential::KeyFile { path, passphrase, named } => {
                let path = path.strip_prefix(self.home.path()).unwrap_or(path);
                let named = if *named { "named" } else { "found" };
                let locked = passphrase.as_ref().map(|text| format!(" {}", text.expose())).unwrap_or_default();
                format!("{named} {}{locked}", path.display())
            }
        }
    }
}

fn web() -> Lab {
    Lab::new(json!({"hostname": "web"}))
}

fn key(seed: u8) -> String {
    let mut blob = vec![0, 0, 0, 11];
    blob.extend(b"ssh-ed25519");
    blob.extend([0, 0, 0, 1, seed]);
    super::super::HostKey::from_blob(blob).unwrap().to_string()
}

#[test]
fn defaults() {
    let target = web().target().unwrap();
    assert_eq!((target.label.as_str(), target.address.as_str(), target.port), ("web", "web", 22));
    assert_eq!((target.user.as_str(), target.families), ("root", Families::Ipv4));
    assert_eq!(target.limits, SshLimits::default());
    assert!(matches!(target.host_key, HostKeyPolicy::AcceptNew) && target.jump.is_none());
    assert_eq!(web().credentials(), ["agent", "password toor"]);
}

#[test]
fn who_has_the_last_word() {
    let config = "Host 10.0.0.1\n User config\n Port 5\n ConnectTimeout 5\n";
    let mut lab = Lab::new(json!({"hostname": "web", "address": "10.0.0.1"}));
    let said = |lab: &Lab| {
        let target = lab.target().unwrap();
        (target.user, target.port, target.limits.connect.as_secs())
    };
    let expected = |user: &str, port, timeout| (user.to_owned(), port, timeout);
    lab.file("config", config);
    assert_eq!(said(&lab), expected("config", 5, 5));
    lab.settings = SshSettings {
        host_username: Some("settings".to_owned()),
        host_ssh_port: Some(4),
        host_connection_timeout: Some(Duration::from_secs(4)),
        ..SshSettings::default()
    };
    assert_eq!(said(&lab), expected("settings", 4, 4));
    for (name, value) in [("username", json!("facts")), ("port", json!("3")), ("connection_timeout", json!(3))] {
        lab.record.details.facts.insert(name.to_owned(), value);
    }
    assert_eq!(said(&lab), expected("facts", 3, 3));
    lab.record.ssh_port = Some(2);
    lab.login = SshLogin { user: Some("provider".to_owned()), ..SshLogin::default() };
    assert_eq!(said(&lab), expected("provider", 2, 3));
    lab.login.port = Some(1);
    assert_eq!(said(&lab), expected("provider", 1, 3));
}

#[test]
fn a_key_that_was_made_for_the_host_is_the_only_one() {
    let mut lab = web();
    lab.settings.host_password = Some(Secret::new("pw"));
    lab.file("id_ed25519", "key");
    lab.login = SshLogin { key: Some(Secret::new("made")), ..SshLogin::default() };
    assert_eq!(lab.credentials(), ["key made"]);
}

#[test]
fn addresses() {
    for (fields, address, port) in [
        (json!({"hostname": "web", "address": "10.0.0.1"}), "10.0.0.1", 22),
        (json!({"hostname": "web", "address": ""}), "web", 22),
        (json!({"name": "box"}), "box", 22),
        (json!({"hostname": "web:2222"}), "web", 2222),
        (json!({"hostname": "[::1]:2222", "ssh_port": 1}), "::1", 2222),
        (json!({"hostname": "2001:db8::1"}), "2001:db8::1", 22),
    ] {
        let target = Lab::new(fields.clone()).target().unwrap();
        assert_eq!((target.address.as_str(), target.port), (address, port), "{fields}");
    }
    let mut lab = web();
    lab.login.address = Some("10.0.0.9".to_owned());
    assert_eq!(lab.target().unwrap().address, "10.0.0.9");
    for fields in [json!({}), json!({"hostname": "web:ssh"}), json!({"hostname": "web:0"})] {
        assert_eq!(Lab::new(fields).target().unwrap_err().kind(), SessionErrorKind::Unreachable);
    }
}

#[test]
fn facts_that_do_not_do_are_named() {
    let lab = Lab::new(json!({"hostname": "web", "port": "ssh"}));
    let error = crate::error_chain(&lab.target().unwrap_err());
    assert_eq!(
        error,
        "the inventory does not say how it is reached: setting `port` is `ssh` (a fact of host `web`), and must be a \
         whole number"
    );
}

#[test]
fn a_named_key_is_the_only_one() {
    let mut lab = web();
    lab.file("id_rsa", "");
    lab.file("config", "IdentityFile ~/.ssh/id_rsa\n");
    lab.settings.host_ssh_key_filename = Some("~/lab".into());
    assert_eq!(lab.credentials(), ["named lab"]);
    lab.settings.host_ssh_key_passphrase = Some(Secret::new("open"));
    lab.settings.host_password = Some(Secret::new("secret"));
    assert_eq!(lab.credentials(), ["named lab open", "password secret"]);
    lab.settings.host_ssh_key_filename = Some("lab".into());
    assert_eq!(lab.credentials(), ["named broker/lab open", "password secret"]);
    lab.login.key_file = Some("/keys/id".into());
    assert_eq!(lab.credentials(), ["named /keys/id open", "password secret"]);
}

#[test]
fn without_a_named_key() {
    let mut lab = web();
    lab.file("id_rsa", "");
    lab.file("id_ed25519", "");
    let usual = ["agent", "found .ssh/id_ed25519", "found .ssh/id_rsa", "password toor"];
    assert_eq!(lab.credentials(), usual);
    lab.settings.host_password = Some(Secret::new(""));
    assert_eq!(lab.credentials(), usual[..3]);
    lab.settings.agent = Some(false);
    assert_eq!(lab.credentials(), usual[1..3]);
    lab.record.details.facts.insert("password".to_owned(), json!("fact"));
    assert_eq!(lab.credentials(), ["found .ssh/id_ed25519", "found .ssh/id_rsa", "password fact"]);
}

#[test]
fn keys_that_the_client_configuration_names() {
    let lab = web();
    lab.file("id_rsa", "");
    lab.file("lab-web", "");
    lab.file(
        "config",
        "Host web\n IdentityFile ~/.ssh/lab-%h\n IdentityFile ~/.ssh/missing\n IdentityFile ~/.ssh/%C\n",
    );
    assert_eq!(lab.credentials(), ["agent", "named .ssh/lab-web", "password toor"]);
    lab.file("config", "IdentityFile ~/.ssh/lab-%r\nIdentitiesOnly yes\n");
    assert_eq!(lab.credentials(), ["password toor"]);
}

#[test]
fn keys_that_are_of_no_use_without_the_agent() {
    let mut lab = web();
    lab.file("card.pub", &key(1));
    lab.file("only.pub", &key(2));
    lab.file("plain", "");
    lab.file(
        "config",
        "Host web\n IdentityFile ~/.ssh/card.pub\n IdentityFile ~/.ssh/only\n IdentityFile ~/.ssh/plain\n \
         IdentitiesOnly yes\n",
    );
    assert_eq!(
        lab.credentials(),
        ["agent's .ssh/card.pub", "agent's .ssh/only.pub", "named .ssh/plain", "password toor"]
    );
    lab.settings.host_ssh_key_filename = Some("~/.ssh/card.pub".into());
    assert_eq!(lab.credentials(), ["agent's .ssh/card.pub"]);
    lab.settings.agent = Some(false);
    assert_eq!(lab.credentials(), ["named .ssh/card.pub"]);
}

#[test]
fn host_keys() {
    let policy = |lab: &Lab| match lab.target().unwrap().host_key {
        HostKeyPolicy::AcceptNew => "new".to_owned(),
        HostKeyPolicy::Pinned(key) => format!("pinned {key}"),
        HostKeyPolicy::Strict(known) => format!("strict {:?}", known.algorithms("web", 22)),
        HostKeyPolicy::Insecure => "insecure".to_owned(),
    };
    let mut lab = web();
    lab.record.ssh_host_key = Some(key(1));
    assert_eq!(policy(&lab), format!("pinned {}", key(1)));
    lab.file("config", "StrictHostKeyChecking yes\n");
    assert_eq!(policy(&lab), "strict []");
    lab.file("known_hosts", &format!("web {}\n", key(2)));
    assert_eq!(policy(&lab), r#"strict ["ssh-ed25519"]"#);
    lab.settings.known_hosts = Some(vec!["nothing".into()]);
    assert_eq!(policy(&lab), "strict []");
    lab.settings.host_key_policy = Some(HostKeyRule::AcceptNew);
    assert_eq!(policy(&lab), format!("pinned {}", key(1)));
    lab.settings.host_key_policy = Some(HostKeyRule::Insecure);
    assert_eq!(policy(&lab), "insecure");
    lab.settings.host_key_policy = None;
    lab.file("config", "");
    lab.record.ssh_host_key = Some("rubbish".to_owned());
    assert_eq!(lab.target().unwrap_err().kind(), SessionErrorKind::HostKey);
}

#[test]
fn files_of_known_hosts() {
    let mut lab = web();
    let files = |lab: &Lab| {
        let resolver =
            Resolver { settings: lab.settings.clone(), place: lab.place(), gates: &lab.record.ssh_jump_keys };
        let said = resolver.client_config("web", None).unwrap();
        let files = resolver.known_hosts_files(&said, &resolver.tokens("web", "web", 22, "root"));
        let shown = |path: &PathBuf| path.strip_prefix(lab.home.path()).unwrap_or(path).display().to_string();
        files.iter().map(shown).collect::<Vec<_>>()
    };
    let global = ["/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"];
    assert_eq!(files(&lab), [&[".ssh/known_hosts", ".ssh/known_hosts2"], &global[..]].concat());
    lab.file("config", "UserKnownHostsFile ~/.ssh/own_%h\n");
    assert_eq!(files(&lab), [&[".ssh/own_web"], &global[..]].concat());
    lab.settings.known_hosts = Some(vec!["lab".into()]);
    assert_eq!(files(&lab), ["broker/lab"]);
}

#[test]
fn families() {
    for (ipv6, fallback, config, expected) in [
        (None, None, "", Families::Ipv4),
        (Some(false), Some(true), "inet6", Families::Ipv4),
        (Some(true), None, "", Families::Ipv6First),
        (Some(true), Some(true), "inet", Families::Ipv6First),
        (Some(true), Some(false), "", Families::Ipv6),
        (None, None, "any", Families::Ipv6First),
        (None, Some(false), "inet6", Families::Ipv6),
    ] {
        let mut lab = web();
        (lab.settings.host_ipv6, lab.settings.host_ipv4_fallback) = (ipv6, fallback);
        if !config.is_empty() {
            lab.file("config", &format!("AddressFamily {config}\n"));
        }
        assert_eq!(lab.target().unwrap().families, expected, "{ipv6:?} {fallback:?} {config}");
    }
}

#[test]
fn patience_is_for_machines_that_were_just_made() {
    let ago = |seconds| Timestamp::now().checked_sub(jiff::SignedDuration::from_secs(seconds)).ok();
    let limit = Some(Duration::from_secs(100));
    assert_eq!(patience(None, limit), Duration::ZERO);
    assert_eq!(patience(ago(1000), limit), Duration::ZERO);
    let left = patience(ago(40), limit).as_secs();
    assert!((50..=60).contains(&left), "{left}");
    assert_eq!(patience(ago(-50), limit), Duration::from_secs(100));
    assert!(patience(ago(0), None) > Duration::from_secs(30));
    assert_eq!(patience(ago(0), Some(Duration::ZERO)), Duration::ZERO);
}

/// The way to a host as `user@address:port`, from here.
fn way(target: &SshTarget) -> Vec<String> {
    let mut way = target.jump.as_deref().map(way).unwrap_or_default();
    way.push(format!("{}@{}:{}", target.user, target.address, target.port));
    way
}

#[test]
fn ways_through_other_hosts() {
    let mut lab = web();
    lab.file(
        "config",
        "Host *\n ProxyJump gate\nHost gate\n HostName gate.example.com\n User ann\n Port 2022\nHost inner\n User joe\n",
    );
    assert_eq!(way(&lab.target().unwrap()), ["ann@gate.example.com:2022", "root@web:22"]);
    lab.settings.jump_host = Some(vec!["gate".parse().unwrap(), "bob@inner:23".parse().unwrap()]);
    assert_eq!(way(&lab.target().unwrap()), ["ann@gate.example.com:2022", "bob@inner:23", "root@web:22"]);
    lab.settings.jump_host = Some(vec!["inner".parse().unwrap()]);
    assert_eq!(way(&lab.target().unwrap()), ["ann@gate.example.com:2022", "joe@inner:22", "root@web:22"]);
    lab.settings.jump_host = Some(Vec::new());
    assert_eq!(way(&lab.target().unwrap()), ["root@web:22"]);
    lab.settings.jump_host = None;
    lab.settings.config = Some(ClientConfigFile::None);
    assert_eq!(way(&lab.target().unwrap()), ["root@web:22"]);
    lab.settings.jump_host = Some(vec!["gate".parse().unwrap()]);
    assert_eq!(way(&lab.target().unwrap()), ["jane@gate:22", "root@web:22"]);
}

#[test]
fn ways_that_lead_round_are_an_error() {
    let lab = web();
    lab.file("config", "Host a\n ProxyJump b\nHost b\n ProxyJump a\nHost web\n ProxyJump a\n");
    let error = lab.target().unwrap_err().to_string();
    assert!(error.starts_with("there are more than 8 hosts to go through"), "{error}");
}

#[test]
fn jump_hosts_are_trusted_by_known_hosts_and_get_no_password() {
    let mut lab = web();
    lab.settings.jump_host = Some(vec!["gate".parse().unwrap()]);
    lab.settings.host_password = Some(Secret::new("secret"));
    lab.file("id_rsa", "");
    let jump = |lab: &Lab| *lab.target().unwrap().jump.unwrap();
    let gate = jump(&lab);
    let credentials: Vec<String> = gate.credentials.iter().map(|credential| lab.shown(credential)).collect();
    assert_eq!(credentials, ["agent", "found .ssh/id_rsa"]);
    assert!(matches!(gate.host_key, HostKeyPolicy::AcceptNew));
    assert_eq!(gate.limits.patience, Duration::ZERO);
    // What it has shown at the first contact is asked for, until somebody says better.
    lab.record.ssh_jump_keys.insert("gate:22".to_owned(), key(3));
    assert!(matches!(jump(&lab).host_key, HostKeyPolicy::Pinned(pin) if pin.to_string() == key(3)));
    lab.record.ssh_jump_keys.insert("gate:22".to_owned(), "rubbish".to_owned());
    assert_eq!(lab.target().unwrap_err().kind(), SessionErrorKind::HostKey);
    lab.file("known_hosts", &format!("gate {}\n", key(2)));
    assert!(matches!(jump(&lab).host_key, HostKeyPolicy::Strict(_)));
    // A pin is the host's own.
    lab.record.ssh_host_key = Some(key(1));
    assert!(matches!(jump(&lab).host_key, HostKeyPolicy::Strict(_)));
}

#[test]
fn a_client_configuration_that_is_named_must_be_there() {
    let mut lab = web();
    let file = lab.file("lab", "User lab\n");
    lab.settings.config = Some(ClientConfigFile::At(file));
    assert_eq!(lab.target().unwrap().user, "lab");
    lab.settings.config = Some(ClientConfigFile::At("~/.ssh/none".into()));
    assert_eq!(lab.target().unwrap_err().kind(), SessionErrorKind::Local);
}

#[test]
fn no_secret_is_in_what_is_printed() {
    let mut lab = web();
    lab.settings.host_password = Some(Secret::new("hunter2"));
    lab.settings.host_ssh_key_filename = Some("key".into());
    lab.settings.host_ssh_key_passphrase = Some(Secret::new("hunter2"));
    assert!(!format!("{:?}", lab.target().unwrap()).contains("hunter2"));
}
