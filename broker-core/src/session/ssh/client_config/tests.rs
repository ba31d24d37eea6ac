use proptest::prelude::*;

use super::*;

const HOME: &str = "/home/jane";

fn asked(name: &str) -> Asked<'_> {
    Asked { name, user: None, local_user: "jane", home: Path::new(HOME) }
}

fn try_read(text: &str, asked: Asked<'_>) -> Result<ClientConfig, SessionError> {
    let mut reader = Reader { asked, said: ClientConfig::default(), has_proxy: false };
    reader.text(Path::new("config"), text, true, 0)?;
    Ok(reader.said)
}

fn read(text: &str, name: &str) -> ClientConfig {
    try_read(text, asked(name)).unwrap()
}

fn user(text: &str, name: &str) -> Option<String> {
    read(text, name).user
}

#[test]
fn everything_is_read() {
    let text = "
# mine
Host web
    HostName %h.example.com
    User=deploy
    Port 2222
    IdentityFile ~/.ssh/one
    IdentityFile \"~/.ssh/two keys\"
    IdentitiesOnly yes
    ProxyJump jane@bastion:2022,[::1]
    UserKnownHostsFile ~/.ssh/lab /etc/lab
    StrictHostKeyChecking yes
    ConnectTimeout 7
    AddressFamily inet6
    HostKeyAlias lab
    ForwardAgent yes
    Ciphers ^aes128-gcm@openssh.com
    LocalForward 8080 localhost:80
";
    let expected = ClientConfig {
        host_name: Some("web.example.com".to_owned()),
        user: Some("deploy".to_owned()),
        port: Some(2222),
        identity_files: vec!["~/.ssh/one".to_owned(), "~/.ssh/two keys".to_owned()],
        identities_only: Some(true),
        jump: Some(vec!["jane@bastion:2022".to_owned(), "[::1]".to_owned()]),
        known_hosts: Some(vec!["~/.ssh/lab".to_owned(), "/etc/lab".to_owned()]),
        host_key_alias: Some("lab".to_owned()),
        host_key_rule: Some(HostKeyRule::Strict),
        connect_timeout: Some(Duration::from_secs(7)),
        families: Some(Families::Ipv6),
    };
    assert_eq!(read(text, "web"), expected);
    assert_eq!(read(text, "other"), ClientConfig::default());
}

#[test]
fn the_first_value_counts() {
    let text =
        "User top\nHost a\n User a\n Port 1\nHost *\n User all\n Port 2\n IdentityFile x\nHost a\n IdentityFile y\n";
    let said = read(text, "a");
    assert_eq!((said.user.as_deref(), said.port), (Some("top"), Some(1)));
    assert_eq!(said.identity_files, ["x", "y"]);
    assert_eq!(read(text, "b").port, Some(2));
}

#[test]
fn sections_apply_where_their_patterns_fit() {
    let text = "Host *.lab !bad.lab gate?\n User lab\nHost bad.lab\n User bad\n";
    assert_eq!(user(text, "x.lab").as_deref(), Some("lab"));
    assert_eq!(user(text, "gate1").as_deref(), Some("lab"));
    assert_eq!(user(text, "bad.lab").as_deref(), Some("bad"));
    assert_eq!(user(text, "lab"), None);
    assert_eq!(user("Host !a\n User x\n", "b"), None);
}

#[test]
fn matches_with_criteria() {
    let text = |criteria: &str| format!("Host alias\n HostName real.lab\nMatch {criteria}\n User x\n");
    for (criteria, fits) in [
        ("all", true),
        ("host real.lab", true),
        ("host *.lab,other", true),
        ("host=real.lab", true),
        ("host alias", false),
        ("originalhost alias", true),
        ("!originalhost alias", false),
        ("originalhost alias host other", false),
        ("!host other originalhost alias", true),
        ("host real.lab,!real.*", false),
        ("localuser jane", true),
        ("user jane", true),
        ("user root", false),
        ("exec true", false),
        ("!exec false", false),
        ("originalhost alias exec \"touch /tmp/x\"", false),
        ("final all", false),
        ("host", false),
        ("", false),
    ] {
        assert_eq!(user(&text(criteria), "alias").is_some(), fits, "{criteria}");
    }
    let root = Asked { user: Some("root"), ..asked("alias") };
    assert_eq!(try_read(&text("user root"), root).unwrap().user.as_deref(), Some("x"));
}

#[test]
fn nothing_is_run() {
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("trace");
    let text = format!(
        "Match exec \"touch {0}\"\n User x\nHost *\n ProxyCommand touch {0}\n LocalCommand touch {0}\n",
        trace.display()
    );
    assert_eq!(read(&text, "a"), ClientConfig::default());
    assert!(!trace.exists());
}

#[test]
fn proxies() {
    assert_eq!(read("ProxyJump none\nProxyJump a\n", "x").jump, Some(Vec::new()));
    assert_eq!(read("ProxyCommand nc %h %p\nProxyJump a\n", "x").jump, None);
    assert_eq!(read("ProxyCommand none\nProxyJump a\n", "x").jump, Some(vec!["a".to_owned()]));
    assert_eq!(read("ProxyJump a\nProxyCommand nc %h %p\n", "x").jump, Some(vec!["a".to_owned()]));
}

#[test]
fn rules_for_host_keys() {
    for (value, rule) in [("yes", HostKeyRule::Strict), ("no", HostKeyRule::AcceptNew), ("ask", HostKeyRule::AcceptNew)]
    {
        assert_eq!(read(&format!("StrictHostKeyChecking {value}"), "x").host_key_rule, Some(rule));
    }
}

#[test]
fn values_that_make_no_sense_are_named_where_they_apply() {
    let error = |text: &str| try_read(text, asked("a")).unwrap_err().to_string();
    assert_eq!(error("Host a\n  Port ssh\n"), "`port` is `ssh` in `config:2`, and must be a port");
    assert_eq!(error("IdentitiesOnly maybe"), "`identitiesonly` is `maybe` in `config:1`, and must be `yes` or `no`");
    for text in ["Port 0", "HostName %x", "User", "ConnectTimeout soon", "AddressFamily ip", "ProxyJump a:b"] {
        assert!(error(text).starts_with('`'), "{text}");
    }
    assert_eq!(read("Host b\n Port ssh\nHost a\n User \"x\nPort 3\n", "a").port, Some(3));
}

#[test]
fn includes() {
    let home = tempfile::tempdir().unwrap();
    let ssh = home.path().join(".ssh");
    std::fs::create_dir_all(ssh.join("conf.d/directory.conf")).unwrap();
    let write = |name: &str, text: &str| std::fs::write(ssh.join(name), text).unwrap();
    write("conf.d/20.conf", "Host a\n User twenty\n Port 20\n");
    write("conf.d/10.conf", "Host a\n User ten\n");
    write("conf.d/.hidden.conf", "User hidden\n");
    write("conf.d/other", "User other\n");
    write("port", "Port 5\n");
    write("round", "Include round\n");
    let asked = |name: &'static str| Asked { home: home.path(), ..asked(name) };
    let read = |text: &str, name| {
        write("config", text);
        ClientConfig::read(&ssh.join("config"), asked(name))
    };
    let said = read("Include conf.d/*.conf missing\nHost *\n User last\n", "a").unwrap();
    assert_eq!((said.user.as_deref(), said.port), (Some("ten"), Some(20)));
    // An included file belongs to the section that it stands in, and ends with its own sections.
    let text = "Host b\n Include ~/.ssh/port conf.d/10.conf\n User b\nHost *\n User last\n";
    let said = read(text, "b").unwrap();
    assert_eq!((said.user.as_deref(), said.port), (Some("b"), Some(5)));
    let said = read(text, "a").unwrap();
    assert_eq!((said.user.as_deref(), said.port), (Some("last"), None));
    let said = read(&format!("Include {}/p?rt\n", ssh.display()), "a").unwrap();
    assert_eq!(said.port, Some(5));
    let error = read("Include round\n", "a").unwrap_err().to_string();
    assert!(error.starts_with("too many files include each other"), "{error}");

    assert_eq!(ClientConfig::read(&ssh.join("none"), asked("a")).unwrap(), ClientConfig::default());
    assert_eq!(ClientConfig::read(&ssh, asked("a")).unwrap_err().kind(), SessionErrorKind::Local);
}

#[test]
fn tokens() {
    let tokens =
        Tokens { host: "real", name: "alias", port: 22, user: "root", local_user: "jane", home: Path::new(HOME) };
    assert_eq!(tokens.expand("%h-%n-%p-%r-%u-%d-%%").unwrap(), "real-alias-22-root-jane-/home/jane-%");
    assert_eq!(tokens.path("~/.ssh/%h").unwrap(), Path::new("/home/jane/.ssh/real"));
    assert_eq!(tokens.path("~").unwrap(), Path::new(HOME));
    assert_eq!(tokens.path("key").unwrap(), Path::new("key"));
    assert_eq!((tokens.expand("%C"), tokens.expand("a%"), tokens.path("~joe/key")), (None, None, None));
}

proptest! {
    #[test]
    fn nothing_panics(text in "((Host|Match|Port|User|ProxyJump|all|host|!|=|\"|'|\\\\|%|#|\\*| |\n|a|1|\\PC)){0,60}", name in "\\PC{0,6}") {
        drop(try_read(&text, asked(&name)));
    }

    #[test]
    fn a_section_says_what_it_says(name in "[a-z][a-z0-9.]{0,8}", user in "[a-z]{1,8}", port in 1u16..) {
        let said = read(&format!("Host {name}\n\tUser {user}\n  Port={port}"), &name);
        prop_assert_eq!((said.user, said.port), (Some(user), Some(port)));
    }
}
