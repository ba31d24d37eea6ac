//! Hosts over SSH: TestProvider's, told where a server is.

mod keys;
mod run;
mod settings;
mod terminal;

use broker_tests::ssh::{Server, Setup};

use crate::support::Env;

/// An environment whose settings let it in at a server. Both go with the value.
pub(crate) struct Lab {
    pub(crate) env: Env,
    pub(crate) server: Server,
}

impl Lab {
    pub(crate) fn new() -> Self {
        Self::of(Setup::openssh().jailed_where_possible())
    }

    pub(crate) fn of(setup: Setup) -> Self {
        let mut env = Env::new();
        // What has just been checked out may be booting, and is waited for.
        env.set("BROKER_ssh__boot_patience", "1s");
        if let Some(backend) = std::env::var_os(broker_tests::ssh::BACKEND_VARIABLE) {
            env.set("BROKER_ssh__backend", backend);
        }
        let lab = Self { env, server: setup.start() };
        lab.env.write_settings(&format!(
            "ssh:\n  host_username: {}\n  host_ssh_key_filename: {}\n",
            lab.server.user(),
            lab.server.key().path().display()
        ));
        lab
    }

    /// Checks hosts out that are the server, and returns their numbers.
    #[track_caller]
    pub(crate) fn check_out(&self, options: &str) -> Vec<u64> {
        self.env.check_out(&format!("--test-ssh {} {options}", self.server.address()))
    }
}
