//! Logging in to registries: what `docker login` and `podman login` have stored.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bollard::auth::DockerCredentials;
use serde::Deserialize;

use crate::engine::discover::{Surroundings, here};

/// How long a credential helper may take. A helper that waits for somebody to type would wait for ever.
const HELPER: Duration = Duration::from_secs(10);

/// What Docker Hub is called in these files.
const HUB: &str = "https://index.docker.io/v1/";

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct AuthFile {
    auths: HashMap<String, Auth>,
    cred_helpers: HashMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Auth {
    auth: Option<String>,
    identitytoken: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperAnswer {
    username: String,
    secret: String,
}

/// The stored login for a registry, if there is one. Blocks. What cannot be read is logged, and the pull goes on without.
pub(crate) fn find(registry: &str) -> Option<DockerCredentials> {
    let around = here();
    files(&around).iter().find_map(|path| {
        let text = std::fs::read_to_string(path).ok()?;
        let file = match serde_json::from_str::<AuthFile>(&text) {
            Ok(file) => file,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot read the stored logins to registries.");
                return None;
            }
        };
        in_file(&file, registry)
    })
}

/// The files in the order in which they are asked.
fn files(around: &Surroundings<'_>) -> Vec<PathBuf> {
    if let Some(named) = (around.variable)("REGISTRY_AUTH_FILE").filter(|path| !path.is_empty()) {
        return vec![PathBuf::from(named)];
    }
    let mut files = Vec::new();
    files.extend(around.docker_config().map(|dir| dir.join("config.json")));
    files.extend(around.runtime_dir().map(|dir| dir.join("containers/auth.json")));
    files.extend(around.home().map(|home| home.join(".config/containers/auth.json")));
    if let Some(user) = around.user {
        files.push(Path::new("/run/containers").join(user.to_string()).join("auth.json"));
    }
    files
}

/// The spellings under which a registry is stored.
fn keys(registry: &str) -> Vec<String> {
    if matches!(registry, "docker.io" | "index.docker.io" | "registry-1.docker.io") {
        return vec![HUB.to_owned(), "docker.io".to_owned(), "index.docker.io".to_owned()];
    }
    vec![
        registry.to_owned(),
        format!("https://{registry}"),
        format!("https://{registry}/"),
        format!("https://{registry}/v1/"),
        format!("https://{registry}/v2/"),
    ]
}

fn in_file(file: &AuthFile, registry: &str) -> Option<DockerCredentials> {
    let keys = keys(registry);
    let helper = keys.iter().find_map(|key| file.cred_helpers.get(key)).or(file.creds_store.as_ref());
    if let Some(helper) = helper
        && let Some(found) = ask_helper(helper, keys.first()?)
    {
        return Some(found);
    }
    let (key, auth) = keys.iter().find_map(|key| file.auths.get_key_value(key))?;
    let mut found = DockerCredentials { serveraddress: Some(key.clone()), ..DockerCredentials::default() };
    if let Some(token) = auth.identitytoken.clone().filter(|token| !token.is_empty()) {
        found.identitytoken = Some(token);
        return Some(found);
    }
    let packed = auth.auth.as_ref().filter(|packed| !packed.is_empty())?;
    let text = BASE64_STANDARD.decode(packed).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let Some((user, password)) = text.as_deref().and_then(|text| text.split_once(':')) else {
        tracing::warn!(registry, "the stored login to a registry is damaged.");
        return None;
    };
    found.username = Some(user.to_owned());
    found.password = Some(password.trim_end_matches('\0').to_owned());
    Some(found)
}

/// Asks `docker-credential-HELPER get`. The protocol: the registry on its input, JSON on its output.
fn ask_helper(helper: &str, registry: &str) -> Option<DockerCredentials> {
    let fits = |character: char| character.is_ascii_alphanumeric() || "_.-".contains(character);
    if helper.is_empty() || !helper.chars().all(fits) {
        tracing::warn!(helper, "this is no name of a credential helper.");
        return None;
    }
    match run_helper(&format!("docker-credential-{helper}"), registry) {
        Ok(answer) => {
            let answer = serde_json::from_str::<HelperAnswer>(&answer).ok()?;
            let mut found =
                DockerCredentials { serveraddress: Some(registry.to_owned()), ..DockerCredentials::default() };
            if answer.username == "<token>" {
                found.identitytoken = Some(answer.secret);
            } else {
                found.username = Some(answer.username);
                found.password = Some(answer.secret);
            }
            Some(found)
        }
        Err(error) => {
            tracing::warn!(helper, %error, "a credential helper does not answer; going on without a login.");
            None
        }
    }
}

fn run_helper(program: &str, registry: &str) -> std::io::Result<String> {
    let mut child =
        Command::new(program).arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(registry.as_bytes())?;
    }
    // Its answer fits into a pipe, so that it can be read when the helper has ended.
    let begun = Instant::now();
    loop {
        if child.try_wait()?.is_some() {
            let output = child.wait_with_output()?;
            return String::from_utf8(output.stdout).map_err(std::io::Error::other);
        }
        if begun.elapsed() > HELPER {
            child.kill()?;
            child.wait()?;
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(json: &str) -> AuthFile {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn stored_logins() {
        let packed = BASE64_STANDARD.encode("jane:pass:word");
        let stored = file(&format!(
            r#"{{"auths":{{"https://index.docker.io/v1/":{{"auth":"{packed}"}},"reg:5000":{{"auth":"{packed}"}},
               "token.example":{{"auth":"","identitytoken":"t"}},"broken.example":{{"auth":"%%"}}}}}}"#
        ));
        for registry in ["docker.io", "reg:5000"] {
            let found = in_file(&stored, registry).unwrap();
            assert_eq!((found.username.as_deref(), found.password.as_deref()), (Some("jane"), Some("pass:word")));
        }
        assert_eq!(in_file(&stored, "token.example").unwrap().identitytoken.as_deref(), Some("t"));
        assert_eq!(in_file(&stored, "broken.example"), None);
        assert_eq!(in_file(&stored, "quay.io"), None);
    }

    #[test]
    fn helpers_that_do_not_do_leave_the_pull_without_a_login() {
        assert_eq!(in_file(&file(r#"{"credsStore":"../../bin/sh"}"#), "quay.io"), None);
        assert_eq!(in_file(&file(r#"{"credHelpers":{"quay.io":"does-not-exist"}}"#), "quay.io"), None);
    }

    #[test]
    fn a_helpers_answer_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("docker-credential-mine");
        std::fs::write(&program, "#!/bin/sh\nread r; printf '{\"Username\":\"u\",\"Secret\":\"%s\"}' \"$r\"\n")
            .unwrap();
        let mut mode = std::fs::metadata(&program).unwrap().permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o755);
        std::fs::set_permissions(&program, mode).unwrap();
        let answer = run_helper(program.to_str().unwrap(), "quay.io").unwrap();
        assert_eq!(serde_json::from_str::<HelperAnswer>(&answer).unwrap().secret, "quay.io");
    }

    #[test]
    fn the_named_file_is_the_only_one() {
        let lookup = |name: &str| (name == "REGISTRY_AUTH_FILE").then(|| "/x".to_owned());
        assert_eq!(files(&Surroundings { variable: &lookup, user: Some(1) }), [PathBuf::from("/x")]);
        let lookup = |name: &str| (name == "HOME").then(|| "/h".to_owned());
        let wanted = ["/h/.docker/config.json", "/h/.config/containers/auth.json", "/run/containers/1/auth.json"];
        assert_eq!(files(&Surroundings { variable: &lookup, user: Some(1) }), wanted.map(PathBuf::from));
    }
}
