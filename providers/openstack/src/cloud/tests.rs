use super::*;

/// A directory with files, and the surroundings that look there.
struct Lab {
    directory: tempfile::TempDir,
    around: Surroundings,
}

const CLOUDS: &str = "clouds:
  one:
    auth: {auth_url: 'http://one:5000', username: me, project_name: p, project_domain_id: d}
    region_name: R1
    verify: false
  two:
    profile: vendor
    auth: {username: 0123, password: from-clouds, project_id: abc}
    interface: internalURL
";

impl Lab {
    fn new(files: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let directories = ["here", "user", "system"].map(|name| directory.path().join(name)).to_vec();
        Self { directory, around: Surroundings { directories, ..Surroundings::default() } }
    }

    fn with(mut self, variables: &[(&str, &str)]) -> Self {
        self.around.variables.extend(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        self
    }

    fn cloud(&self, values: &[(&str, &str)]) -> Result<Cloud, ProviderError> {
        Cloud::of(&settings(values), &self.around)
    }

    fn error(&self, settings: &[(&str, &str)]) -> String {
        let error = self.cloud(settings).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Settings);
        error.to_string().replace(&*self.directory.path().to_string_lossy(), "")
    }
}

fn settings(values: &[(&str, &str)]) -> ProviderSettings {
    let value = |(key, value): &(&str, &str)| ((*key).to_owned(), ArgValue::Plain((*value).to_owned()));
    let values = values.iter().map(value).collect();
    ProviderSettings { provider: "OpenStack".into(), values, ..ProviderSettings::default() }
}

fn password(cloud: &Cloud) -> (&Named, &str, Option<&Named>) {
    match &cloud.credentials {
        Credentials::Password { user, password, scope } => (user, password.expose(), scope.as_ref()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_path_may_begin_at_home() {
    let home = std::env::home_dir().unwrap();
    for (written, meant) in [("~/lab/clouds.yaml", home.join("lab/clouds.yaml")), ("a/~/b", "a/~/b".into())] {
        assert_eq!(super::at_home(written), meant);
    }
}

#[test]
fn files_are_looked_for_in_their_order() {
    let one = |url: &str| format!("clouds: {{x: {{auth: {{auth_url: '{url}', username: u, password: p}}}}}}");
    let [here, user, system] = ["http://here", "http://user", "http://system"].map(one);
    let files = [("here/clouds.yaml", &*here), ("user/clouds.yml", &*user), ("system/clouds.json", &*system)];
    for (from, url) in [(0, "http://here/v3"), (1, "http://user/v3"), (2, "http://system/v3")] {
        assert_eq!(Lab::new(&files[from..]).cloud(&[("cloud", "x")]).unwrap().auth_url, url);
    }
    let lab = Lab::new(&files);
    let named = lab.directory.path().join("system/clouds.json").to_string_lossy().into_owned();
    assert_eq!(lab.cloud(&[("cloud", "x"), ("clouds_file", &named)]).unwrap().auth_url, "http://system/v3");
    let lab = lab.with(&[("OS_CLIENT_CONFIG_FILE", &named)]);
    assert_eq!(lab.cloud(&[("cloud", "x")]).unwrap().auth_url, "http://system/v3");
    let lab = Lab::new(&files).with(&[("OS_CLIENT_CONFIG_FILE", "/no/such/file")]);
    assert_eq!(lab.error(&[("cloud", "x")]), "`/no/such/file` does not exist");
}

#[test]
fn secrets_and_profiles_come_from_files_of_their_own() {
    let lab = Lab::new(&[
        ("user/clouds.yaml", CLOUDS),
        ("system/secure.yaml", "clouds: {one: {auth: {password: hunter2}}, two: {auth: {password: from-secure}}}"),
        (
            "here/clouds-public.yaml",
            "public-clouds: {vendor: {auth: {auth_url: 'https://v/identity'}, region_name: V}}",
        ),
    ]);
    let one = lab.cloud(&[("cloud", "one")]).unwrap();
    assert_eq!(
        (one.name.as_deref(), &*one.auth_url, one.region.as_deref()),
        (Some("one"), "http://one:5000/v3", Some("R1"))
    );
    assert!(!one.tls.verify);
    let domain = |name: &str| Domain::Name(name.to_owned());
    let (user, secret, project) = password(&one);
    assert_eq!((user, secret), (&Named::Name { name: "me".into(), domain: domain("Default") }, "hunter2"));
    assert_eq!(project, Some(&Named::Name { name: "p".into(), domain: Domain::Id("d".into()) }));

    let two = lab.cloud(&[("cloud", "two"), ("region_name", "Mine")]).unwrap();
    assert_eq!(
        (&*two.auth_url, two.region.as_deref(), &*two.interface),
        ("https://v/identity/v3", Some("Mine"), "internal")
    );
    let (user, secret, project) = password(&two);
    assert_eq!((user, secret), (&Named::Name { name: "0123".into(), domain: domain("Default") }, "from-secure"));
    assert_eq!(project, Some(&Named::Id("abc".into())));
    assert!(!format!("{one:?}").contains("hunter2"));
}

#[test]
fn the_environment_decides_where_the_settings_do_not() {
    let files = [("here/clouds.yaml", CLOUDS)];
    let secure = [("OS_CLOUD", "one")];
    let lab = Lab::new(&files).with(&secure);
    assert_eq!(lab.error(&[]), "cloud `one`: there is no `password`");
    assert_eq!(lab.cloud(&[("password", "0042")]).map(|cloud| password(&cloud).1.to_owned()).unwrap(), "0042");

    let variables = [
        ("OS_AUTH_URL", "https://env:5000/v3/"),
        ("OS_USERNAME", "u"),
        ("OS_PASSWORD", "p"),
        ("OS_PROJECT_ID", "id"),
        ("OS_USER_DOMAIN_NAME", "D"),
        ("OS_REGION_NAME", "E"),
        ("OS_INSECURE", "true"),
        ("OS_CACERT", "/ca.pem"),
    ];
    let cloud = Lab::new(&files).with(&variables).cloud(&[]).unwrap();
    assert_eq!((&*cloud.auth_url, cloud.region.as_deref(), cloud.name), ("https://env:5000/v3", Some("E"), None));
    assert_eq!(cloud.tls, Tls { verify: false, ca: Some("/ca.pem".into()), client: None });

    let only = "clouds: {x: {auth: {auth_url: 'http://x', token: t}}}";
    let cloud = Lab::new(&[("here/clouds.yaml", only)]).cloud(&[]).unwrap();
    assert_eq!(cloud.credentials, Credentials::Token { token: Secret::new("t"), scope: None });
    assert!(Lab::new(&files).error(&[]).ends_with("of `one`, `two`"));
    assert!(Lab::new(&[]).error(&[]).starts_with("nothing says which cloud is meant: "));
}

#[test]
fn variables_win_over_the_files_where_they_choose_the_cloud() {
    let files = [("here/clouds.yaml", CLOUDS)];
    let variables =
        [("OS_CLOUD", "one"), ("OS_PASSWORD", "from-env"), ("OS_REGION_NAME", "E"), ("OS_INSECURE", "false")];
    let lab = Lab::new(&files).with(&variables);
    let cloud = lab.cloud(&[]).unwrap();
    assert_eq!((cloud.name.as_deref(), &*cloud.auth_url), (Some("one"), "http://one:5000/v3"));
    assert_eq!((password(&cloud).1, cloud.region.as_deref(), cloud.tls.verify), ("from-env", Some("E"), true));
    // What the settings say wins over both, and a cloud that they name is none of the variables' business.
    let cloud = lab.cloud(&[("region_name", "Mine")]).unwrap();
    assert_eq!((password(&cloud).1, cloud.region.as_deref()), ("from-env", Some("Mine")));
    assert_eq!(lab.error(&[("cloud", "one")]), "cloud `one`: there is no `password`");
}

#[test]
fn an_instance_is_the_cloud_of_its_name() {
    let lab = Lab::new(&[("here/clouds.yaml", CLOUDS), ("here/secure.yaml", "clouds: {one: {auth: {password: p}}}")]);
    let lab = lab.with(&[("OS_CLOUD", "one")]);
    let of = |instance: &str, values: &[(&str, &str)]| {
        let settings = ProviderSettings { instance: Some(instance.to_owned()), ..settings(values) };
        Cloud::of(&settings, &lab.around)
    };
    let error = of("two", &[]).unwrap_err().to_string();
    assert!(error.starts_with("cloud `two` has the profile `vendor`"), "{error}");
    // What says more than a name wins; and where there is no such cloud, it is a name and no more.
    assert_eq!(of("two", &[("cloud", "one")]).unwrap().name.as_deref(), Some("one"));
    assert_eq!(of("three", &[]).unwrap().name.as_deref(), Some("one"));
    let cloud = of("two", &[("auth_url", "http://k"), ("username", "u"), ("password", "p")]).unwrap();
    assert_eq!((cloud.name, &*cloud.auth_url), (None, "http://k/v3"));
}

/// Whoever is told them has neither the files nor the variables, and is somewhere else.
#[test]
fn resolved_settings_need_nothing_else() {
    let nothing = Surroundings::default();
    for (values, variables) in [
        (&[("cloud", "one"), ("server_timeout", "90")][..], &[][..]),
        (&[], &[("OS_CLOUD", "one"), ("OS_REGION_NAME", "E")]),
        (
            &[("cacert", "certificates/ca.pem")],
            &[("OS_AUTH_URL", "http://k"), ("OS_TOKEN", "t"), ("OS_CERT", "~/me.pem"), ("OS_INTERFACE", "internal")],
        ),
        (&[("auth_url", "http://k"), ("username", "u"), ("password", "p"), ("verify", "./ca.pem")], &[]),
    ] {
        let files = [("here/clouds.yaml", CLOUDS), ("here/secure.yaml", "clouds: {one: {auth: {password: p}}}")];
        let lab = Lab::new(&files).with(variables);
        let whole = resolved(&settings(values), &lab.around).unwrap();
        let cloud = lab.cloud(values).unwrap();
        let again = Cloud::of(&whole, &nothing).unwrap();
        assert_eq!((format!("{again:?}"), &again.credentials), (format!("{cloud:?}"), &cloud.credentials));
        assert!(cloud.tls.ca.is_none_or(|path| path.is_absolute()));
        // What was resolved is as it was.
        assert_eq!(resolved(&whole, &nothing).unwrap().values, whole.values);
    }
}

#[test]
fn the_python_tools_settings_are_read() {
    let lab = Lab::new(&[]);
    let base = [("auth_url", "http://k"), ("username", "u"), ("password", "p"), ("project_name", "x")];
    let cloud = lab.cloud(&base).unwrap();
    assert_eq!((password(&cloud).1, &*cloud.interface), ("p", "public"));
    let both = [("auth_url", "http://k"), ("application_credential_id", "i"), ("application_credential_secret", "s")];
    let id = ApplicationCredential::Id("i".into());
    assert_eq!(
        lab.cloud(&both).unwrap().credentials,
        Credentials::ApplicationCredential { id, secret: Secret::new("s") }
    );
    let override_ = [("compute_endpoint_override", "http://nova/v2.1")];
    let cloud = lab.cloud(&[&base[..], &override_].concat()).unwrap();
    assert_eq!(cloud.overrides["compute"], "http://nova/v2.1");
}

#[test]
fn what_does_not_do_is_said() {
    let lab = Lab::new(&[("here/clouds.yaml", CLOUDS)]);
    assert_eq!(
        lab.error(&[("cloud", "three")]),
        "there is no cloud `three` in `/here/clouds.yaml`: it has `one`, `two`"
    );
    assert_eq!(
        lab.error(&[("cloud", "two")]),
        "cloud `two` has the profile `vendor`, and no `clouds-public.yaml` has that; those that are part of openstacksdk \
         are not known here, so what it says must be written there or into the cloud"
    );
    let base = [("auth_url", "http://k"), ("username", "u"), ("password", "p")];
    for (key, value, says) in [
        ("interface", "secret", "`interface` is `secret`, and must be `public`, `internal` or `admin`"),
        ("identity_api_version", "2.0", "`identity_api_version` is `2.0`, and must be `3`"),
        ("verify", "maybe", "`verify` must be `true`, `false` or the path of a file"),
        ("auth_type", "v3oidcpassword", "`auth_type` is `v3oidcpassword`, and must be"),
        ("auth_type", "v3totp", "`auth_type` is `v3totp`, which cannot be used here"),
        ("key", "/k.pem", "`key` is `/k.pem`, and there is no `cert`"),
        ("application_credential_id", "x", "there is no `application_credential_secret`"),
    ] {
        let error = lab.error(&[&base[..], &[(key, value)]].concat());
        assert!(error.starts_with("provider `OpenStack`: ") && error.contains(says), "{error}");
    }
    assert!(Lab::new(&[("here/clouds.yaml", "clouds: [")]).error(&[("cloud", "x")]).ends_with("is no YAML"));
}

#[test]
fn addresses_get_a_version_where_they_have_none() {
    for (address, versioned) in [
        ("http://k:5000", "http://k:5000/v3"),
        ("http://k:5000/v3/", "http://k:5000/v3"),
        ("https://k/identity", "https://k/identity/v3"),
        ("https://k/v2.0", "https://k/v2.0"),
        ("https://k/vault", "https://k/vault/v3"),
        ("https://nova/v2.1/6a6a6a6a00004000", "https://nova/v2.1/6a6a6a6a00004000"),
        ("https://cloud/compute/v2.1/6a6a6a6a00004000/", "https://cloud/compute/v2.1/6a6a6a6a00004000"),
        ("https://v2.1/identity", "https://v2.1/identity/v3"),
        ("http://v3", "http://v3/v3"),
        ("https://k/v3x", "https://k/v3x/v3"),
    ] {
        assert_eq!(with_version(address, "v3"), versioned);
    }
}
