//! The provider of OpenStack servers, end to end: the real `broker` and the real library on the lab's services.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a test's own work ends the test")]

mod answers;
mod failures;
mod floating;
mod guardian;
mod kill;
mod life;
mod logins;
mod lost;
mod outages;
mod questions;
mod reach;
mod states;
mod sync;
mod tls;

use std::panic::{AssertUnwindSafe, catch_unwind};

use broker_tests::env::TestEnv;
use broker_tests::openstack::{Place, Tenant, Wire};
use serde_json::Value;

/// A user with projects of its own, and a clean environment for the `broker` program, whose settings lead to the first.
struct Lab {
    tenant: Tenant,
    env: TestEnv,
    wire: Wire,
}

impl Lab {
    fn new() -> Self {
        Self::with("")
    }

    /// With further settings, each on a line of its own.
    fn with(more: &str) -> Self {
        let env = TestEnv::new();
        let tenant = Tenant::take();
        let wire = Wire::start(&tenant.main.user);
        let lab = Self { tenant, env, wire };
        lab.env.write_settings(&lab.settings(more));
        lab
    }

    fn settings(&self, more: &str) -> String {
        self.tenant.settings(&self.wire, more)
    }

    fn project(&self) -> &Place {
        &self.tenant.main
    }

    /// Runs `broker` with a line of arguments, and fails unless it succeeds.
    fn broker(&self, line: &str) -> broker_tests::env::Ran {
        self.env.ok(line.split_whitespace())
    }

    /// As `broker`, and fails unless it ends with this code.
    fn fails(&self, line: &str, code: i32) -> String {
        let ran = self.env.broker(line.split_whitespace());
        ran.expect(code);
        ran.stderr
    }

    fn inventory(&self) -> Vec<Value> {
        self.broker("inventory --output json").json().as_array().unwrap().clone()
    }

    /// Fails unless the project has nothing of Broker's any more.
    #[track_caller]
    fn nothing_is_left(&self) {
        let project = self.project();
        assert!(project.hosts().is_empty(), "{:?}", project.hosts());
        assert_eq!((project.servers().len(), project.ports()), (0, 0));
        assert_eq!(self.inventory(), Vec::<Value>::new());
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // It may have left what is not looked for.
            self.tenant.spoil();
        }
        // A test that has failed fails with its own words.
        let cleaned = catch_unwind(AssertUnwindSafe(|| self.tenant.clean()));
        assert!(cleaned.is_ok() || std::thread::panicking(), "the lab could not be cleaned");
    }
}
