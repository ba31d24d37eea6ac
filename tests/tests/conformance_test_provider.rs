//! The suites, on TestProvider.
#![expect(clippy::unwrap_used, reason = "all of this runs inside of tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use broker::prelude::*;
use broker_core::HostId;
use broker_core::provider::{ErrorKind, ProviderFactory, Scope};
use broker_core::settings::Settings;
use broker_tests::conformance::provider::{Abilities, At, Failure, Obstacle, ProviderSubject, Weather};
use broker_tests::conformance::session::{SessionSubject, Traits};
use broker_tests::conformance::{Case, Place, Subject};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Its hosts are files in directories. What the main instance's setting names is a link, which is led elsewhere to
/// change the weather.
struct TestProvider {
    place: Place,
}

impl TestProvider {
    fn directory(&self, at: At) -> PathBuf {
        self.place.join(match at {
            At::Main | At::Alias => "main",
            At::Other => "other",
        })
    }

    fn lead(&self, to: &str) {
        let fresh = self.place.join("fresh");
        symlink(self.place.join(to), &fresh).unwrap();
        fs::rename(&fresh, self.place.join("link")).unwrap();
    }

    fn file(&self, at: At, id: HostId) -> PathBuf {
        self.directory(at).join(format!("{id}.json"))
    }
}

impl Subject for TestProvider {
    fn open(place: &Place) -> Self {
        let subject = Self { place: place.clone() };
        if !place.is_child() {
            fs::create_dir(subject.directory(At::Main)).unwrap();
            fs::write(place.join("nothing"), "").unwrap();
            subject.lead("main");
        }
        subject
    }

    fn clean(&self) {}
}

impl ProviderSubject for TestProvider {
    fn factory(&self) -> Arc<dyn ProviderFactory> {
        broker_test_provider::factory()
    }

    fn settings(&self) -> String {
        format!(
            "stop_grace: 500ms\nTestProvider:\n  instances:\n    main: {{directory: {:?}, default: true}}\n    alias: \
             {{directory: {:?}}}\n    other: {{directory: {:?}}}\n",
            self.place.join("link"),
            self.place.join("link"),
            self.directory(At::Other),
        )
    }

    fn request(&self) -> HostRequest {
        HostRequest::action("test_action", "demo").arg("delay", "20ms")
    }

    fn slow(&self) -> HostRequest {
        // Half of it comes before the host is made.
        HostRequest::action("test_action", "slow").arg("delay", "1200ms")
    }

    fn stuck(&self) -> HostRequest {
        HostRequest::action("test_action", "stuck").arg("hang", "true")
    }

    fn failures(&self) -> Vec<Failure> {
        let failure = |name: &'static str, kinds, stays| Failure {
            name,
            request: HostRequest::action("test_action", "failing").arg("fail", name),
            kinds,
            says: "failing".to_owned(),
            stays,
        };
        vec![
            failure("auth", &[ErrorKind::Auth], false),
            failure("permission", &[ErrorKind::Permission], false),
            failure("not_found", &[ErrorKind::NotFound], false),
            failure("quota", &[ErrorKind::Quota], false),
            failure("conflict", &[ErrorKind::Conflict], false),
            failure("unreachable", &[ErrorKind::Unreachable], false),
            failure("bad_request", &[ErrorKind::BadRequest], false),
            failure("failed", &[ErrorKind::Failed], false),
            failure("timeout", &[ErrorKind::Timeout], true),
            failure("bug", &[ErrorKind::Bug], true),
            failure("panic", &[ErrorKind::Bug], false),
        ]
    }

    fn mixed(&self) -> HostRequest {
        self.request().arg("fail_every", "3").arg("fail", "quota").count(7)
    }

    fn stubborn(&self, how: Obstacle) -> HostRequest {
        let how = match how {
            Obstacle::Fails => "unreachable",
            Obstacle::Hangs => "hang",
        };
        self.request().arg("fail_release", how)
    }

    fn obstruct(&self, _how: Obstacle) {}

    fn mend(&self) {
        for id in self.hosts(At::Main) {
            let path = self.file(At::Main, id);
            let mut host: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            host["args"].as_object_mut().unwrap().remove("fail_release");
            fs::write(&path, host.to_string()).unwrap();
        }
    }

    fn weather(&self, weather: Weather) {
        self.lead(match weather {
            Weather::Fair => "main",
            Weather::Unreachable => "nothing",
            Weather::Elsewhere => {
                fs::create_dir_all(self.directory(At::Other)).unwrap();
                "other"
            }
        });
    }

    fn hosts(&self, at: At) -> BTreeSet<HostId> {
        let Ok(entries) = fs::read_dir(self.directory(at)) else { return BTreeSet::new() };
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter_map(|name| name.strip_suffix(".json")?.parse().ok()).collect()
    }

    fn labels(&self, at: At, id: HostId) -> BTreeMap<String, String> {
        let host: Value = serde_json::from_slice(&fs::read(self.file(at, id)).unwrap()).unwrap();
        serde_json::from_value(host["labels"].clone()).unwrap()
    }

    fn remove(&self, at: At, id: HostId) {
        fs::remove_file(self.file(at, id)).unwrap();
    }

    fn scope(&self) -> Scope {
        Scope::default()
    }

    fn abilities(&self) -> Abilities {
        Abilities {
            extend: true,
            execute: Some((HostRequest::action("test_action", "anything").arg("word", "magic"), "magic")),
            log: Some("echo hello >> \"$BROKER_TEST_CONSOLE\""),
        }
    }
}

impl SessionSubject for TestProvider {
    fn host(&self) -> HostGuard {
        let settings =
            Settings::builder().yaml(ProviderSubject::settings(self)).known_providers(["TestProvider"]).build();
        let broker =
            Broker::builder().settings(settings.unwrap().settings).directory(self.place.join("broker")).build();
        broker_core::block_on(broker.unwrap().checkout(self.request())).unwrap().unwrap()
    }

    fn directory(&self, host: &Host) -> String {
        let directory = self.place.join(&format!("disk-{}", host.id()));
        fs::create_dir(&directory).unwrap();
        directory.into_os_string().into_string().unwrap()
    }

    /// Its commands are processes of this machine, which go with a host only where somebody makes them go.
    fn end(&self, host: &Host) {
        self.remove(At::Main, host.id());
        let console = format!("{}.log", host.id());
        for process in fs::read_dir("/proc").unwrap() {
            let path = process.unwrap().path();
            let environment = fs::read(path.join("environ")).unwrap_or_default();
            let pid = path.file_name().and_then(|name| name.to_str()?.parse().ok()).and_then(Pid::from_raw);
            if let Some(pid) = pid.filter(|_| String::from_utf8_lossy(&environment).contains(&console)) {
                // It may have ended just now.
                kill_process(pid, Signal::KILL).ok();
            }
        }
    }

    fn traits(&self) -> Traits {
        Traits { user: None, read_only: "/sys", unread_input_is_harmless: true, holds_back: true }
    }
}

mod provider {
    use super::TestProvider;

    broker_tests::provider_conformance!(TestProvider);
    broker_tests::core_conformance!(TestProvider);
}

/// Guards that are dropped while releases hang share one limit, and guards that are dropped one after the other, with
/// work in between, do not. Both take more than that limit to see, so they do at the same time.
#[test]
fn only_guards_that_are_dropped_together_share_a_limit() {
    broker_tests::conformance::run::<TestProvider>("::only_guards_that_are_dropped_together_share_a_limit", limits);
}

fn limits(case: &Case<TestProvider>) {
    let limit = Duration::from_secs(60);
    match case.role() {
        None => {
            let children = ["together", "apart"].map(|role| case.place.command(role).spawn().unwrap());
            for (mut child, expected) in children.into_iter().zip([Some(9), None]) {
                let status = child.wait().unwrap();
                assert!(status.signal() == expected && (status.success() || expected.is_some()), "{status}");
            }
            // Those that hang.
            assert_eq!(case.hosts().len(), 3);
        }
        Some("together") => {
            let request = case.subject.stubborn(Obstacle::Hangs).count(3);
            let guards = case.block(case.broker().checkout_many(request)).unwrap();
            let one_by_one: Vec<HostGuard> = guards.into_iter().collect();
            let begun = Instant::now();
            drop(one_by_one);
            let took = begun.elapsed();
            assert!(took >= limit - Duration::from_secs(1) && took < limit + Duration::from_secs(10), "{took:?}");
            // What hangs would hold up the end of the process as well.
            kill_process(rustix::process::getpid(), Signal::KILL).unwrap();
        }
        Some(_) => {
            let broker = case.broker();
            let begun = Instant::now();
            while begun.elapsed() < limit + Duration::from_secs(8) {
                let request = case.subject.request().arg("slow_release", "2s");
                let guard = case.block(broker.checkout(request)).unwrap();
                let id = guard.id();
                drop(guard);
                assert!(!case.hosts().contains(&id), "after {:?} a drop did not wait", begun.elapsed());
            }
        }
    }
}

mod session {
    use super::TestProvider;

    broker_tests::session_conformance!(TestProvider);
}
