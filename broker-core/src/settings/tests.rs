use std::fs;
use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;

use super::*;
use crate::secrets::Secret;

const PROVIDERS: &[&str] = &["Container", "TestProvider"];
const NO_ENVIRONMENT: [(&str, &str); 0] = [];

fn load(yaml: &str, environment: &[(&str, &str)]) -> Result<Loaded, SettingsError> {
    Settings::builder().yaml(yaml).environment(environment.to_vec()).known_providers(PROVIDERS).build()
}

fn settings(yaml: &str, environment: &[(&str, &str)]) -> Settings {
    load(yaml, environment).unwrap().settings
}

fn chain(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {}", chain(source)))
}

fn error(yaml: &str, environment: &[(&str, &str)]) -> String {
    chain(&load(yaml, environment).unwrap_err())
}

fn container(settings: &Settings) -> String {
    let settings = settings.provider("Container", None).unwrap();
    format!("{:?} {}", settings.instance, ArgValue::Map(settings.values))
}

fn password(settings: &Settings) -> String {
    settings.ssh().unwrap().host_password.unwrap().expose().to_owned()
}

#[test]
fn defaults() {
    let settings = Settings::default();
    assert!(!settings.less_colors());
    assert_eq!(settings.thread_limit(), None);
    assert_eq!(settings.inventory_fields().len(), 0);
    assert_eq!(settings.inventory_list_vars(), &FieldExpression::parse("hostname | name"));
    assert_eq!((settings.default_lease(), settings.max_lease()), (None, None));
    assert_eq!(settings.stop_grace(), Duration::from_secs(10));
    let logging = LoggingSettings {
        console_level: LogLevel::Info,
        file_level: LogLevel::Debug,
        log_path: "logs/broker.log".into(),
        structured: false,
    };
    assert_eq!(settings.logging(), &logging);
    assert_eq!(settings.ssh().unwrap(), SshSettings::default());
    let provider = settings.provider("Container", None).unwrap();
    assert!(provider.values.is_empty() && provider.labels.is_empty() && provider.instance.is_none());
}

#[test]
fn everything_is_read() {
    let yaml = "
_version: 0.8.3
less_colors: True
thread_limit: 4
inventory_fields:
  Host: hostname | name
  Action: $action
  OS: os_distribution os_distribution_version
inventory_list_vars: name
default_lease: 2h
max_lease: 1d
stop_grace: 500ms
logging:
  console_level: warning
  file_level: TRACE
  log_path: elsewhere
  structured: yes
ssh:
  backend: hussh
  host_username: jane
  host_password: '0123'
  host_ssh_port: 2222
  host_ssh_key_filename: /keys/id
  host_connection_timeout: 5
  host_ssh_key_passphrase: open
  host_ipv6: true
  host_ipv4_fallback: false
  host_key_policy: strict
  known_hosts: [~/.ssh/known_hosts, lab]
  jump_host: jane@bastion:2222
  agent: no
  boot_patience: 0
  keepalive: 10s
  config: lab-config
nicks:
  rhel9.4: {workflow: deploy, version: 9.10, count: 2, quoted: '9.10'}
  empty:
";
    let loaded = load(yaml, &[]).unwrap();
    assert_eq!(loaded.warnings, Vec::<String>::new());
    let settings = loaded.settings;
    assert!(settings.less_colors());
    assert_eq!(settings.thread_limit().unwrap().get(), 4);
    assert_eq!(settings.inventory_fields().keys().collect::<Vec<_>>(), ["Host", "Action", "OS"]);
    assert_eq!(settings.default_lease(), Some(Duration::from_secs(7200)));
    assert_eq!(settings.max_lease(), Some(Duration::from_secs(86_400)));
    assert_eq!(settings.stop_grace(), Duration::from_millis(500));
    assert_eq!((settings.logging().console_level, settings.logging().file_level), (LogLevel::Warning, LogLevel::Trace));
    let ssh = SshSettings {
        backend: Some(SshBackend::Ssh2),
        host_username: Some("jane".to_owned()),
        host_password: Some(Secret::new("0123")),
        host_ssh_port: Some(2222),
        host_ssh_key_filename: Some("/keys/id".into()),
        host_ssh_key_passphrase: Some(Secret::new("open")),
        host_connection_timeout: Some(Duration::from_secs(5)),
        host_ipv6: Some(true),
        host_ipv4_fallback: Some(false),
        host_key_policy: Some(HostKeyRule::Strict),
        known_hosts: Some(vec!["~/.ssh/known_hosts".into(), "lab".into()]),
        jump_host: Some(vec!["jane@bastion:2222".parse().unwrap()]),
        agent: Some(false),
        boot_patience: Some(Duration::ZERO),
        keepalive: Some(Duration::from_secs(10)),
        config: Some(ClientConfigFile::At("lab-config".into())),
    };
    assert_eq!(settings.ssh().unwrap(), ssh);
    assert_eq!(settings.nick_names().collect::<Vec<_>>(), ["rhel9.4", "empty"]);
    let nick = settings.nick("rhel9.4").unwrap();
    assert_eq!(nick.keys().collect::<Vec<_>>(), ["workflow", "version", "count", "quoted"]);
    assert_eq!(nick["version"], ArgValue::Plain("9.10".into()));
    assert_eq!(nick["quoted"], ArgValue::Text("9.10".into()));
    assert!(settings.nick("empty").unwrap().is_empty());
}

#[test]
fn sections_without_contents_change_nothing() {
    let yaml =
        "logging:\nssh:\nnicks:\nthread_limit: null\nless_colors: ~\nContainer:\ninventory_fields:\nprovider_labels:\n";
    let settings = settings(yaml, &[]);
    assert_eq!(settings.logging(), Settings::default().logging());
    assert_eq!(settings.ssh().unwrap(), Settings::default().ssh().unwrap());
    assert_eq!(container(&settings), "None {}");
    let empty_level = load("logging: {console_level: }", &[]).unwrap().settings;
    assert_eq!(empty_level.logging().console_level, LogLevel::Info);
}

#[test]
fn names_at_the_top_have_no_case() {
    let loaded = load("container: {runtime: docker}\nNICKS: {a: {b: c}}\nLess_Colors: true\n", &[]).unwrap();
    assert_eq!(loaded.warnings, Vec::<String>::new());
    assert_eq!(container(&loaded.settings), r#"None {"runtime":"docker"}"#);
    assert!(loaded.settings.less_colors() && loaded.settings.nick("a").is_ok());
    assert_eq!(
        error("Container: {a: 1}\nother: 1\ncontainer: {b: 2}\n", &[]),
        "`container` (line 3) is the same setting as `Container` (line 1)"
    );
}

#[test]
fn files_of_older_versions() {
    let yaml = "
debug: False
host_username: old
host_password: secret
host_ssh_port: 2200
ssh: {host_password: new}
Container:
  instances:
    - docker: {host_username: a, default: True}
    - remote:
        host: lab
";
    let loaded = load(yaml, &[]).unwrap();
    assert_eq!(loaded.warnings, Vec::<String>::new());
    let ssh = loaded.settings.ssh().unwrap();
    assert_eq!(
        (ssh.host_username.as_deref(), password(&loaded.settings), ssh.host_ssh_port),
        (Some("old"), "new".to_owned(), Some(2200))
    );
    assert_eq!(container(&loaded.settings), r#"Some("docker") {"host_username":"a"}"#);
    assert_eq!(settings("ssh: {ssh_port: 2201}", &[]).ssh().unwrap().host_ssh_port, Some(2201));
}

#[test]
fn unknown_settings_warn() {
    let yaml = "
ngicks: {}
ssh: {host_pasword: x}
logging: {level: info}
Foreman: {foreman_url: x}
Beaker: {}
OpenStack: {cloud: x}
AnsibleTower: {base_url: x}
SCENARIO_IMPORT: {git_hosts: []}
Container: {anything: goes}
Widgets: {}
";
    let loaded =
        load(yaml, &[("BROKER_Contaner__runtime", "x"), ("BROKER_SSH__PORTT", "1"), ("BROKER_OTHER", "y")]).unwrap();
    let expected = [
        "unknown setting `ssh.host_pasword` (line 3), did you mean `ssh.host_password`?",
        "unknown setting `ssh.portt` (environment variable `BROKER_SSH__PORTT`)",
        "unknown setting `logging.level` (line 4)",
        "unknown setting `ngicks` (line 2), did you mean `nicks`?",
        "unknown setting `Widgets` (line 11)",
        "unknown setting `Contaner` (environment variable `BROKER_Contaner__runtime`), did you mean `Container`?",
    ];
    let mut warnings = loaded.warnings;
    warnings.sort();
    let mut expected = expected.map(str::to_owned).to_vec();
    expected.sort();
    assert_eq!(warnings, expected);
}

#[test]
fn wrong_values_are_errors_that_name_the_setting() {
    let table = [
        ("thread_limit: many", "setting `thread_limit` is `many` (line 1), and must be a whole number"),
        ("thread_limit: -1", "setting `thread_limit` is `-1` (line 1), and must be a whole number"),
        ("less_colors: [1]", "setting `less_colors` is a list (line 1), and must be `true` or `false`"),
        (
            "\nlogging:\n  console_level: loud",
            "setting `logging.console_level` is `loud` (line 3), and must be `error`, `warning`, `info`, `debug`, `trace` or \
             `silent`",
        ),
        (
            "less_colors: \"a\\nb\\e[31m0123456789012345678901234567890123456789012345678901234567890123456789\"",
            "setting `less_colors` is `a b [31m01234567890123456789012345678901234567890123456789…` (line 1), and must be \
             `true` or `false`",
        ),
        ("logging: x", "setting `logging` is `x` (line 1), and must be a mapping"),
        ("nicks: [a]", "setting `nicks` is a list (line 1), and must be a mapping"),
        ("nicks: {a: b}", "setting `nicks.a` is `b` (line 1), and must be a mapping"),
        ("inventory_fields: {A: [x]}", "setting `inventory_fields.A` is a list (line 1), and must be a text"),
        ("inventory_fields: {A: }", "setting `inventory_fields.A` is empty (line 1), and must be a text"),
        ("provider_labels: {a: {b: c}}", "setting `provider_labels.a` is a mapping (line 1), and must be a text"),
        ("default_lease: 24", "setting `default_lease` is `24` (line 1), and must be a time such as `90s` or `2h`"),
        (
            "max_lease: 1h\ndefault_lease: 2h",
            "setting `default_lease` is `2h` (line 2), and must be no longer than `max_lease`",
        ),
        ("ssh: {host_ssh_port: 70000}", "setting `ssh.host_ssh_port` is `70000` (line 1), and must be a whole number"),
        ("ssh: {host_password: [hunter2]}", "setting `ssh.host_password` is `***` (line 1), and must be a text"),
        (
            "ssh: {host_connection_timeout: soon}",
            "setting `ssh.host_connection_timeout` is `soon` (line 1), and must be a time such as `90s` or `2h`, or a \
             number of seconds",
        ),
        ("ssh: {backend: openssh}", "setting `ssh.backend` is `openssh` (line 1), and must be `ssh2` or `russh`"),
        (
            "ssh: {host_key_policy: trust}",
            "setting `ssh.host_key_policy` is `trust` (line 1), and must be `accept_new`, `strict` or `insecure`",
        ),
        (
            "ssh: {jump_host: 'a, b:x'}",
            "setting `ssh.jump_host` is `a, b:x` (line 1), and must be `none`, or hosts such as \
             `jane@bastion.example.com:2222`",
        ),
        ("ssh: {keepalive: 0}", "setting `ssh.keepalive` is `0` (line 1), and must be longer than nothing"),
        (
            "ssh: {config: [a]}",
            "setting `ssh.config` is a list (line 1), and must be `true`, `false` or the path of a file",
        ),
        (
            "Container: {instances: [a, b]}",
            "setting `Container.instances` is a list (line 1), and must be a mapping of names to settings",
        ),
        ("[1, 2]", "the text of the settings must hold a mapping, and holds a list"),
        ("just text", "the text of the settings must hold a mapping, and holds a text"),
        (
            "a: 1\nb: [2\nc: 3\n",
            "the text of the settings is malformed: line 3, column 2: illegal placement of ':' indicator\n3 | c: 3\n  |  ^",
        ),
    ];
    for (yaml, expected) in table {
        assert_eq!(error(yaml, &[]), expected);
    }
}

#[test]
fn wrong_values_of_the_environment() {
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);
    let table: &[Case<'_>] = &[
        (
            "",
            &[("BROKER_THREAD_LIMIT", "many")],
            "setting `thread_limit` is `many` (environment variable `BROKER_THREAD_LIMIT`), and must be a whole number",
        ),
        (
            "",
            &[("BROKER_NICKS", "x")],
            "setting `nicks` is `x` (environment variable `BROKER_NICKS`), and must be a mapping",
        ),
        (
            "",
            &[("BROKER_A__b", "@json {")],
            "environment variable `BROKER_A__b` has malformed JSON behind `@json`: EOF while parsing an object",
        ),
        ("", &[("BROKER_A__b", "@json")], "environment variable `BROKER_A__b` has `@json` and nothing behind it"),
        ("", &[("BROKER_A__b", "@int x")], "environment variable `BROKER_A__b` has no whole number behind `@int`"),
        (
            "",
            &[("BROKER_A__b", "@bool maybe")],
            "environment variable `BROKER_A__b` has neither `true` nor `false` behind `@bool`",
        ),
        (
            "",
            &[("BROKER_A__b", "@format {env[HOME]}")],
            "environment variable `BROKER_A__b` has `@format`, which is not supported; `@json`, `@int`, `@bool` and \
             `@none` are",
        ),
        (
            "",
            &[("BROKER_A__b", "1"), ("BROKER_A__b__c", "2")],
            "environment variable `BROKER_A__b__c` clashes with environment variable `BROKER_A__b`",
        ),
        (
            "",
            &[("BROKER_Container__host", "1"), ("BROKER_CONTAINER__HOST", "2")],
            "environment variable `BROKER_Container__host` clashes with environment variable `BROKER_CONTAINER__HOST`",
        ),
        (
            "nicks: {Rhel: {}, rhel: {}}",
            &[("BROKER_NICKS__RHEL__a", "1")],
            "environment variable `BROKER_NICKS__RHEL__a` can mean `Rhel` and `rhel`",
        ),
        (
            "nicks: {a: {b: [1]}}",
            &[("BROKER_nicks__a__b__c", "1")],
            "environment variable `BROKER_nicks__a__b__c` sets something below `nicks.a.b`, which is a list (line 1) and \
             must be a mapping",
        ),
    ];
    for (yaml, environment, expected) in table {
        assert_eq!(error(yaml, environment), *expected);
    }
}

#[test]
fn the_environment_finds_its_settings() {
    let yaml = "
AnsibleTower: {base_url: https://file/}
Container:
  runtime: podman
  password: '1'
  instances:
    myDocker: {host_username: a, default: true}
nicks:
  rhel9.4: {workflow: a, Version: 9.1}
";
    let environment = [
        ("BROKER_ansibletower__BASE_URL", "https://env/"),
        ("BROKER_CONTAINER__INSTANCES__MYDOCKER__HOST_USERNAME", "b"),
        ("BROKER_CONTAINER__HOST_PORT", "0123"),
        ("BROKER_Container__PASSWORD", "0123"),
        ("BROKER_Container__host_passWord2", ""),
        ("BROKER_NICKS__RHEL9.4__WORKFLOW", "b"),
        ("BROKER_NICKS__RHEL9.4__VERSION", "9.10"),
        ("BROKER_NICKS__New.Nick__Arg", "@json {\"a\": [1.50]}"),
        ("BROKER_LESS_COLORS", "true"),
        ("BROKER_LOGGING__Console_Level", "debug"),
        ("BROKER_ssh__host_password", "@home"),
        ("BROKER_DIRECTORY", "/nowhere"),
        ("BROKER_NON_INTERACTIVE", "1"),
        ("BROKER_JOB_ID", "1"),
        ("BROKER___X", "1"),
        ("BROKER_A____B", "1"),
        ("OTHER_Container__host", "x"),
        ("broker_Container__host", "x"),
    ];
    let loaded = load(yaml, &environment).unwrap();
    assert_eq!(loaded.warnings, Vec::<String>::new());
    let settings = loaded.settings;
    assert_eq!(settings.provider("AnsibleTower", None).unwrap().text("base_url"), Ok(Some("https://env/")));
    assert_eq!(
        container(&settings),
        r#"Some("myDocker") {"runtime":"podman","password":"0123","host_username":"b","host_port":"0123","host_passWord2":""}"#
    );
    let nick = settings.nick("rhel9.4").unwrap();
    assert_eq!(ArgValue::Map(nick.clone()).to_string(), r#"{"workflow":"b","Version":"9.10"}"#);
    let nick = settings.nick("New.Nick").unwrap();
    assert_eq!(ArgValue::Map(nick.clone()).to_string(), r#"{"Arg":{"a":["1.50"]}}"#);
    assert!(settings.less_colors());
    assert_eq!(settings.logging().console_level, LogLevel::Debug);
    assert_eq!(password(&settings), "@home");
}

#[test]
fn casts() {
    let value = |text: &str| {
        let settings = settings("Container: {x: set}", &[("BROKER_Container__x", text)]);
        settings.provider("Container", None).unwrap().values["x"].clone()
    };
    let plain = |text: &str| ArgValue::Plain(text.to_owned());
    assert_eq!(value("9.10"), plain("9.10"));
    assert_eq!(value(""), ArgValue::Text(String::new()));
    assert_eq!(value("null"), ArgValue::Text("null".into()));
    assert_eq!(value("@int 5"), plain("5"));
    assert_eq!(value("@bool Yes"), plain("true"));
    assert_eq!(value("@none"), plain("null"));
    assert_eq!(value("@json \"5\""), ArgValue::Text("5".into()));
    assert_eq!(value("@secret word"), plain("@secret word"));
    assert_eq!(value("@"), plain("@"));
}

#[test]
fn instances_are_chosen() {
    let two = "Container: {runtime: podman, instances: {a: {host: a}, b: {host: b, default: true}}}";
    let one = "Container: {instances: {only: {host: x}}}";
    let none = "Container: {runtime: docker}";
    let undecided = "Container: {instances: {a: {host: a}, b: }}";
    let ask = |yaml: &str, instance: Option<&str>| {
        let settings = settings(yaml, &[]).provider("Container", instance).map_err(|error| error.to_string())?;
        Ok::<_, String>(format!("{:?} {}", settings.instance, ArgValue::Map(settings.values)))
    };
    let ok = |text: &str| Ok(text.to_owned());
    let failed = |text: &str| Err(text.to_owned());
    assert_eq!(ask(two, None), ok(r#"Some("b") {"runtime":"podman","host":"b"}"#));
    assert_eq!(ask(two, Some("a")), ok(r#"Some("a") {"runtime":"podman","host":"a"}"#));
    assert_eq!(ask(one, None), ok(r#"Some("only") {"host":"x"}"#));
    assert_eq!(ask(none, None), ok(r#"None {"runtime":"docker"}"#));
    assert_eq!(ask("", None), ok("None {}"));
    assert_eq!(ask(undecided, Some("b")), ok(r#"Some("b") {}"#));
    assert_eq!(ask(two, Some("c")), failed("provider `Container` has no instance `c`; it has `a`, `b`"));
    assert_eq!(ask(two, Some("A")), failed("provider `Container` has no instance `A`; it has `a`, `b`"));
    assert_eq!(ask(none, Some("c")), failed("provider `Container` has no instance `c`; the settings have none of it"));
    assert_eq!(
        ask(undecided, None),
        failed("provider `Container` has several instances and none with `default: true`; it has `a`, `b`")
    );
    assert_eq!(
        ask("Container: {instances: {a: text}}", None),
        failed("setting `Container.instances.a` is `text` (line 1), and must be a mapping")
    );
    assert_eq!(
        ask("Container: {instances: {a: {default: often}, b: {}}}", None),
        failed("setting `Container.instances.a.default` is `often` (line 1), and must be `true` or `false`")
    );
    assert_eq!(ask("Container: text", None), failed("setting `Container` is `text` (line 1), and must be a mapping"));
}

#[test]
fn layers_of_a_provider() {
    let yaml =
        |more: &str| format!("Container: {{host: file, port: 1, instances: {{a: {{host: instance, port: {more}}}}}}}");
    let section = [("BROKER_CONTAINER__HOST", "env")];
    let both = [("BROKER_CONTAINER__HOST", "env"), ("BROKER_CONTAINER__INSTANCES__A__HOST", "env-instance")];
    let host = |yaml: &str, environment: &[(&str, &str)]| container(&settings(yaml, environment));
    assert_eq!(host(&yaml("2"), &[]), r#"Some("a") {"host":"instance","port":2}"#);
    assert_eq!(host(&yaml("2"), &section), r#"Some("a") {"host":"env","port":2}"#);
    assert_eq!(host(&yaml("2, override_envars: true"), &section), r#"Some("a") {"host":"instance","port":2}"#);
    assert_eq!(host(&yaml("2"), &both), r#"Some("a") {"host":"env-instance","port":2}"#);
    assert_eq!(host(&yaml("null"), &[]), r#"Some("a") {"host":"instance","port":null}"#);

    let program = Settings::builder()
        .yaml(yaml("2"))
        .environment(both)
        .known_providers(PROVIDERS)
        .set("container.host", "program")
        .section("Other", Args::from([("dotted.key".to_owned(), true.into())]))
        .build()
        .unwrap()
        .settings;
    assert_eq!(container(&program), r#"Some("a") {"host":"program","port":2}"#);
    assert_eq!(program.provider("Other", None).unwrap().boolean("dotted.key"), Ok(Some(true)));
}

#[test]
fn labels_of_a_provider_win() {
    let yaml = "
provider_labels: {a: top, b: top, version: 9.10}
Container:
  provider_labels: {b: section, c: section, bare: }
  instances: {x: {provider_labels: {c: instance}}}
";
    let settings = settings(yaml, &[("BROKER_PROVIDER_LABELS__Team", "qe")]);
    let labels = settings.provider("Container", None).unwrap().labels;
    let expected =
        [("Team", "qe"), ("a", "top"), ("b", "section"), ("bare", ""), ("c", "instance"), ("version", "9.10")];
    assert_eq!(labels, expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    assert_eq!(settings.provider("TestProvider", None).unwrap().labels.len(), 4);
}

#[test]
fn providers_read_by_type() {
    let yaml = "
Container:
  text: 0123
  yes: on
  port: '22'
  wait: 90
  wait2: 2m
  network: a, b
  networks: [a, 5]
  bad: [1]
  host_password: [hunter2]
  nothing: ~
";
    let settings = settings(yaml, &[("BROKER_Container__env_list", "[x, 'y, z']")]);
    let provider = settings.provider("Container", None).unwrap();
    assert_eq!(provider.text("text"), Ok(Some("0123")));
    assert_eq!(provider.boolean("yes"), Ok(Some(true)));
    assert_eq!(provider.number::<u16>("port"), Ok(Some(22)));
    assert_eq!(provider.duration("wait"), Ok(Some(Duration::from_secs(90))));
    assert_eq!(provider.duration("wait2"), Ok(Some(Duration::from_secs(120))));
    assert_eq!(provider.list("network").unwrap(), ["a", "b"]);
    assert_eq!(provider.list("networks").unwrap(), ["a", "5"]);
    assert_eq!(provider.list("env_list").unwrap(), ["x", "y, z"]);
    assert_eq!((provider.text("nothing"), provider.text("missing")), (Ok(None), Ok(None)));
    let message = |error: SettingError| error.to_string();
    assert_eq!(
        message(provider.number::<u16>("text2").and(provider.boolean("text")).unwrap_err()),
        "setting `Container.text` is `0123` (line 3), and must be `true` or `false`"
    );
    assert_eq!(
        message(provider.text("bad").unwrap_err()),
        "setting `Container.bad` is a list (line 10), and must be a text"
    );
    assert_eq!(
        message(provider.secret("host_password").unwrap_err()),
        "setting `Container.host_password` is `***` (line 11), and must be a text"
    );
    assert_eq!(
        message(provider.error("network", "one network")),
        "setting `Container.network` is `a, b` (line 8), and must be one network"
    );
}

#[test]
fn secrets_are_looked_up() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("token"), "from-file\n").unwrap();
    let yaml = "
Container:
  host_password: {env: LAB_PASSWORD}
  token: {file: token}
  api_key: {command: [printf, 'from command\\n']}
  home_token: {file: ~/token}
  auth: {client_secret: {env: LAB_PASSWORD}}
  host: {env: LAB_PASSWORD}
  password2: {env: A, file: b}
ssh:
  host_password: {env: LAB_PASSWORD}
nicks:
  a: {password: {env: LAB_PASSWORD}}
";
    let broker = BrokerDirectory::at(directory.path());
    fs::write(broker.settings_file(), yaml).unwrap();
    let environment = [("LAB_PASSWORD", "from-env"), ("HOME", directory.path().to_str().unwrap())];
    let settings = Settings::load(&broker, environment, PROVIDERS).unwrap().settings;
    let provider = settings.provider("Container", None).unwrap();
    let shown = ArgValue::Map(provider.values.clone()).to_string();
    let expected = concat!(
        r#"{"host_password":"from-env","token":"from-file","api_key":"from command","home_token":"from-file","#,
        r#""auth":{"client_secret":"from-env"},"host":{"env":"LAB_PASSWORD"},"password2":{"env":"A","file":"b"}}"#
    );
    assert_eq!(shown, expected);
    assert_eq!(provider.secret("token").unwrap().unwrap().expose(), "from-file");
    assert_eq!(password(&settings), "from-env");
    assert!(settings.nick("a").unwrap()["password"].as_map().is_some());

    for shown in [format!("{settings:?}"), format!("{provider:?}"), format!("{:?}", settings.ssh().unwrap())] {
        assert!(!shown.contains("from-"), "{shown}");
    }
}

#[test]
fn secrets_that_cannot_be_looked_up() {
    let table = [
        ("{env: NO_SUCH}", "environment variable `NO_SUCH` is not set"),
        ("{env: EMPTY}", "environment variable `EMPTY` is not set"),
        ("{env: [a]}", "`env` must be the name of a variable"),
        ("{file: }", "`file` must be a path"),
        ("{file: /nonexistent/x}", "file `/nonexistent/x`: No such file or directory (os error 2)"),
        ("{file: /dev/null}", "file `/dev/null` is empty"),
        ("{file: /dev/zero}", "file `/dev/zero` is too large for a secret"),
        ("{command: pass show x}", "`command` must be a list: a program and its arguments"),
        ("{command: []}", "`command` must be a list: a program and its arguments"),
        ("{command: [sh, -c, 'echo hunter2; exit 7']}", "command `sh` failed: exit status: 7"),
    ];
    for (lookup, problem) in table {
        // Nothing is looked up before it is needed.
        let settings =
            settings(&format!("Container:\n  token: {lookup}\nssh:\n  host_password: {lookup}"), &[("EMPTY", "")]);
        assert_eq!(
            settings.provider("Container", None).unwrap_err().to_string(),
            format!("cannot look up `Container.token` (line 2): {problem}")
        );
        assert_eq!(
            settings.ssh().unwrap_err().to_string(),
            format!("cannot look up `ssh.host_password` (line 4): {problem}")
        );
    }
}

#[test]
fn providers_have_a_say_about_ssh() {
    let yaml = "
ssh: {host_username: everywhere}
Container:
  ssh: {host_username: here, host_ssh_port: 2200, host_password: {env: LAB}}
  instances:
    one: {default: true, ssh: {host_ssh_port: 2201, prot: 1}}
    two: {}
";
    let environment = [("LAB", "secret"), ("BROKER_CONTAINER__INSTANCES__TWO__SSH__HOST_SSH_PORT", "2202")];
    let loaded = load(yaml, &environment).unwrap();
    assert_eq!(loaded.warnings, ["unknown setting `Container.instances.one.ssh.prot` (line 6)".to_owned()]);
    let ssh = |instance| loaded.settings.provider("Container", instance).unwrap().ssh().unwrap();
    let said = |ssh: SshSettings| (ssh.host_username, ssh.host_ssh_port, ssh.host_password);
    let expected = |port| (Some("here".to_owned()), Some(port), Some(Secret::new("secret")));
    assert_eq!(said(ssh(None)), expected(2201));
    assert_eq!(said(ssh(Some("two"))), expected(2202));
    assert_eq!(
        settings("Container: {a: b}", &[]).provider("Container", None).unwrap().ssh(),
        Ok(SshSettings::default())
    );

    let error = |yaml: &str| settings(yaml, &[]).provider("Container", None).unwrap_err().to_string();
    assert_eq!(
        error("Container: {ssh: {host_ssh_port: x}}"),
        "setting `Container.ssh.host_ssh_port` is `x` (line 1), and must be a whole number"
    );
    assert_eq!(error("Container: {ssh: root}"), "setting `Container.ssh` is `root` (line 1), and must be a mapping");
}

#[test]
fn the_python_tools_libraries_mean_ours() {
    for name in ["hussh", "paramiko", "ssh2-python", "ansible-pylibssh", "ssh2"] {
        let loaded = load(&format!("ssh: {{backend: {name}}}"), &[]).unwrap();
        assert_eq!(loaded.warnings, Vec::<String>::new());
        assert_eq!(loaded.settings.ssh().unwrap().backend, Some(SshBackend::Ssh2), "{name}");
    }
    assert_eq!(settings("ssh: {backend: russh}", &[]).ssh().unwrap().backend, Some(SshBackend::Russh));
}

#[test]
fn unknown_nicks() {
    let message = |yaml: &str, nick: &str| settings(yaml, &[]).nick(nick).unwrap_err().to_string();
    assert_eq!(
        message("nicks: {rhel8: {}, rhel9: {}}", "rhle9"),
        "there is no nick `rhle9` (the settings have `rhel8`, `rhel9`), did you mean `rhel9`?"
    );
    assert_eq!(message("nicks: {a: {}}", "rhel"), "there is no nick `rhel` (the settings have `a`)");
    assert_eq!(message("", "rhel"), "there is no nick `rhel` (the settings have none)");
    let many: String = (0..15).map(|n| format!("  n{n}: {{}}\n")).collect();
    assert!(message(&format!("nicks:\n{many}"), "xyz").ends_with("`n9` and 5 more)"));
}

#[test]
fn the_directory() {
    let from = |environment: &[(&str, &str)]| {
        BrokerDirectory::from_environment(environment.to_vec()).unwrap().path().to_owned()
    };
    assert_eq!(from(&[("BROKER_DIRECTORY", "/x/y"), ("HOME", "/home/jane")]), PathBuf::from("/x/y"));
    assert_eq!(from(&[("BROKER_DIRECTORY", "~/y"), ("HOME", "/home/jane")]), PathBuf::from("/home/jane/y"));
    assert_eq!(from(&[("BROKER_DIRECTORY", ""), ("HOME", "/home/jane")]), PathBuf::from("/home/jane/.broker"));
    assert_eq!(from(&[("HOME", "/home/jane")]), PathBuf::from("/home/jane/.broker"));
    assert!(from(&[("BROKER_DIRECTORY", "relative")]).is_absolute());

    let parent = tempfile::tempdir().unwrap();
    let directory = BrokerDirectory::at(parent.path().join("a/b"));
    Settings::load(&directory, NO_ENVIRONMENT, PROVIDERS).unwrap();
    assert!(!parent.path().join("a").exists(), "reading makes nothing");
    directory.ensure().unwrap();
    directory.ensure().unwrap();
    assert_eq!(fs::metadata(directory.path()).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "no settings file is made");

    let file = parent.path().join("file");
    fs::write(&file, "").unwrap();
    let error = BrokerDirectory::at(&file).ensure().unwrap_err();
    assert_eq!(error.to_string(), format!("cannot create the Broker directory `{}`", file.display()));

    let log = |path: &str| {
        directory.log_file(&LoggingSettings { log_path: path.into(), ..Settings::default().logging().clone() })
    };
    assert_eq!(log("logs/broker.log"), directory.path().join("logs/broker.log"));
    assert_eq!(log("/var/log/broker"), PathBuf::from("/var/log/broker/broker.log"));
}

#[test]
fn a_file_is_named_in_errors() {
    let parent = tempfile::tempdir().unwrap();
    let directory = BrokerDirectory::at(parent.path());
    let file = directory.settings_file();
    let load = |text: &[u8]| {
        fs::write(&file, text).unwrap();
        Settings::load(&directory, NO_ENVIRONMENT, PROVIDERS)
    };
    let shown = file.display();
    assert_eq!(
        chain(&load(b"a: 1\nContainer: {runtime: docker\n").unwrap_err()),
        format!(
            "settings file `{shown}` is malformed: line 2, column 28: while parsing a flow mapping, did not find expected \
             ',' or '}}'\n2 | Container: {{runtime: docker\n  |                            ^"
        )
    );
    assert_eq!(
        load(b"\nthread_limit: x").unwrap_err().to_string(),
        format!("setting `thread_limit` is `x` (`{shown}:2`), and must be a whole number")
    );
    assert_eq!(
        load(b"- a").unwrap_err().to_string(),
        format!("settings file `{shown}` must hold a mapping, and holds a list")
    );
    assert_eq!(
        load(b"nick: {}").unwrap().warnings,
        [format!("unknown setting `nick` (`{shown}:1`), did you mean `nicks`?")]
    );
    assert!(chain(&load(b"a: \xff").unwrap_err()).contains("UTF-8"));
    assert!(load(b"").unwrap().warnings.is_empty());
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    let error = Settings::load(&directory, NO_ENVIRONMENT, PROVIDERS).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot read settings file `{shown}`"));
}

/// As people have it who never filled in what they do not use.
#[test]
fn files_that_began_as_the_python_tools_example() {
    let file = "\
debug: False
inventory_file: inventory.yaml
host_username: <username>
host_password: <password>
host_ssh_port: <port>
host_ssh_key_filename: </path/to/the/ssh-key>
logging:
  console_level: info
Container:
  instances:
    - docker:
        host_username: <username>
        host_password: <plain text password>
        host_port: None
        network: None
        default: True
    - remote:
        host: <remote hostname>
  auto_map_ports: False
nicks:
  rhel9: {workflow: deploy-rhel, notes: None}
";
    let loaded = load(file, &[]).unwrap();
    assert_eq!(loaded.warnings, Vec::<String>::new());
    let settings = loaded.settings;
    let ssh = settings.ssh().unwrap();
    assert_eq!((ssh.host_username, ssh.host_ssh_port, ssh.host_ssh_key_filename), (None, None, None));
    assert_eq!(ssh.host_password.unwrap().expose(), "<password>", "who knows");
    let provider = settings.provider("Container", None).unwrap();
    assert_eq!(provider.instance.as_deref(), Some("docker"));
    assert_eq!((provider.number::<u16>("host_port"), provider.list("network")), (Ok(None), Ok(vec![])));
    assert_eq!(settings.nick("rhel9").unwrap()["notes"].as_str(), Some("None"), "arguments are people's own");

    let moved = load("inventory_file: ~/hosts/inventory.yaml", &[]).unwrap();
    let [warning] = moved.warnings.as_slice() else { panic!("{:?}", moved.warnings) };
    assert!(warning.contains("`~/hosts/inventory.yaml`") && warning.contains("--import"), "{warning}");
}

/// The example that people copy, as it is and with everything in it.
#[test]
fn the_example() {
    let example = include_str!("../../../broker_settings.yaml.example");
    let is_setting =
        |line: &str| line.trim_start().strip_prefix('#').is_some_and(|rest| !rest.is_empty() && !rest.starts_with(' '));
    let whole: String = example
        .lines()
        .map(|line| if is_setting(line) { line.replacen('#', "", 1) } else { line.to_owned() } + "\n")
        .collect();

    let bare = load(example, &[]).unwrap();
    assert_eq!(bare.warnings, Vec::<String>::new());
    assert_eq!(container(&bare.settings), container(&Settings::default()));

    let loaded = load(&whole, &[]).unwrap();
    assert_eq!(loaded.warnings, Vec::<String>::new());
    let settings = loaded.settings;
    assert_eq!(settings.logging(), Settings::default().logging());
    let ssh = settings.ssh().unwrap();
    assert_eq!((ssh.host_username.as_deref(), ssh.host_ssh_port), (Some("root"), Some(22)));
    assert_eq!((ssh.host_key_policy, ssh.config), (Some(HostKeyRule::AcceptNew), Some(ClientConfigFile::Users)));
    assert_eq!(settings.inventory_fields().len(), 7);
    assert_eq!(settings.nick("three").unwrap()["count"].as_str(), Some("3"));
    let provider = settings.provider("Container", None).unwrap();
    assert_eq!(provider.instance.as_deref(), Some("local"));
    assert_eq!(provider.text("runtime"), Ok(Some("docker")));
    assert_eq!(provider.duration("timeout"), Ok(Some(Duration::from_secs(120))));
    assert_eq!(provider.boolean("auto_map_ports"), Ok(Some(true)));
    assert_eq!(provider.labels.keys().collect::<Vec<_>>(), ["purpose", "team"]);
    // Every setting that there is stands in it.
    for line in ["default_lease", "max_lease", "stop_grace", "thread_limit", "less_colors", "inventory_list_vars"] {
        assert!(whole.contains(&format!("\n{line}: ")), "{line}");
    }
    for key in schema::keys_of("ssh").chain(schema::keys_of("logging")) {
        assert!(whole.contains(&format!("\n  {key}: ")), "{key}");
    }
}

proptest! {
    #[test]
    fn any_text_of_the_environment_arrives_as_it_is(text in "[^\0@][^\0]{0,20}", upper in any::<bool>()) {
        let name = if upper { "BROKER_CONTAINER__HOST_PASSWORD" } else { "BROKER_container__Host_Password" };
        let settings = settings("Container: {host_password: old}", &[(name, &text)]);
        let provider = settings.provider("Container", None).unwrap();
        let secret = provider.secret("host_password").unwrap().unwrap();
        prop_assert_eq!(secret.expose(), &text);
    }

    #[test]
    fn dotted_names_survive(nick in "[a-z][a-z0-9.\\[\\]-]{0,8}[a-z0-9]", argument in "[a-z][a-z0-9.-]{0,6}") {
        let yaml = format!("nicks:\n  '{nick}':\n    '{argument}': file\n");
        let file = settings(&yaml, &[]);
        prop_assert_eq!(file.nick(&nick).unwrap()[&argument].as_str(), Some("file"));
        let name = format!("BROKER_NICKS__{}__{}", nick.to_uppercase(), argument.to_uppercase());
        let both = settings(&yaml, &[(&name, "9.10")]);
        prop_assert_eq!(both.nick_names().collect::<Vec<_>>(), [nick.as_str()]);
        prop_assert_eq!(&both.nick(&nick).unwrap()[&argument], &ArgValue::Plain("9.10".into()));
    }

    #[test]
    fn no_environment_makes_it_panic(names in prop::collection::vec("BROKER_[A-Ca-c_.]{0,12}", 0..5), value in "[@a-z\\[{:\" ]{0,10}") {
        let environment: Vec<_> = names.iter().map(|name| (name.as_str(), value.as_str())).collect();
        let _either = load("a: {b: {c: [1]}}\nc:\n", &environment);
    }

    #[test]
    fn spelling_order_and_quotes_survive_the_layers(
        entries in prop::collection::vec(("[a-rt-z]{1,6}", "[a-z0-9.:-]{1,8}", any::<bool>()), 1..10)
    ) {
        let mut expected = Args::new();
        for (key, text, quoted) in entries {
            let value = if quoted { ArgValue::Text(text) } else { ArgValue::Plain(text) };
            expected.insert(key, value);
        }
        let settings = Settings::builder().section("X", expected.clone()).build().unwrap().settings;
        let values = settings.provider("X", None).unwrap().values;
        expected.retain(|key, _| key != "default");
        prop_assert_eq!(values.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        prop_assert_eq!(values, expected);
    }
}
