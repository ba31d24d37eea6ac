//! Hosts that are containers, on Docker and on Podman alike.

mod apps;
mod bad_input;
mod copy;
mod endpoint;
mod exec;
mod life;
mod sync;

use std::process::Command;

use broker_tests::engines::{Engine, image};

use crate::support::Env;

/// Makes two tests of every function that takes a [`Lab`]: one on Docker, one on Podman.
/// What no engine has a part in comes behind `docker:`, and is tested there alone.
macro_rules! on_each_engine {
    ($($test:ident),* $(,)? $(; docker: $($once:ident),* $(,)?)?) => {
        mod docker {
            $(#[test] fn $test() { crate::containers::run("docker", super::$test); })*
            $($(#[test] fn $once() { crate::containers::run("docker", super::$once); })*)?
        }
        mod podman {
            $(#[test] fn $test() { crate::containers::run("podman", super::$test); })*
        }
    };
}
pub(crate) use on_each_engine;

/// An environment whose containers are one engine's. They are gone when it is.
pub(crate) struct Lab {
    pub(crate) env: Env,
    pub(crate) engine: Engine,
}

/// Runs a test on an engine, if the tests are to use it.
pub(crate) fn run(name: &str, test: fn(Lab)) {
    let Some(engine) = Engine::named(name) else { return };
    let mut env = Env::new();
    env.set("DOCKER_HOST", format!("unix://{}", engine.socket.display()));
    test(Lab { env, engine });
}

impl Lab {
    /// Checks containers of a test image out, and returns their numbers.
    #[track_caller]
    pub(crate) fn check_out(&self, name: &str, options: &str) -> Vec<u64> {
        self.env.broker(&format!("checkout --container-host {} {options}", image(name))).ok().numbers()
    }

    /// How many containers there are of this environment, whatever their state.
    pub(crate) fn containers(&self) -> usize {
        self.env.containers(&self.engine)
    }

    #[track_caller]
    pub(crate) fn assert_nothing_left(&self) {
        assert_eq!(self.env.inventory(), [] as [serde_json::Value; 0]);
        assert_eq!(self.containers(), 0);
    }

    /// The engine's own command line client.
    pub(crate) fn client(&self, line: &str) -> String {
        let uri = format!("unix://{}", self.engine.socket.display());
        let mut command = Command::new(self.engine.name);
        if self.engine.name == "docker" {
            command.args(["--host", &uri]);
        } else {
            command.args(["--remote", "--url", &uri]);
        }
        let output = command.args(line.split_whitespace()).output().unwrap();
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Starts a container without Broker. It goes with the environment all the same.
    pub(crate) fn start_foreign(&self, name: &str, options: &str) {
        let owner = self.env.user();
        self.client(&format!(
            "run --detach --name {name} --label broker.owner={owner}@test {options} {}",
            image("tiny")
        ));
    }
}
