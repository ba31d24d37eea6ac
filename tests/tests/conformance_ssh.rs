//! The suite of sessions over SSH: OpenSSH's server on loopback and in a container, dropbear with and without `sftp`.
#![expect(clippy::unwrap_used, reason = "all of this runs inside of tests")]

use std::sync::atomic::{AtomicUsize, Ordering};

use broker::prelude::*;
use broker_tests::conformance::session::{SessionSubject, Traits};
use broker_tests::conformance::{Place, Subject};
use broker_tests::engines::Engine;
use broker_tests::ssh::jail::is_root;
use broker_tests::ssh::{ContainerHost, HOST_ACTION, Lab, Server, Setup};
use serde_json::json;

/// What is alike with all servers. `user` is one that commands can be run as.
fn traits(user: Option<&'static str>) -> Traits {
    // russh takes in what comes as long as it has room for it, whoever reads it.
    let holds_back = broker_tests::ssh::backend() != "russh";
    Traits { user, read_only: "/sys", unread_input_is_harmless: true, holds_back }
}

/// A server on loopback. Its hosts see this machine's files.
struct Loopback {
    server: Server,
    lab: Lab,
    place: Place,
    directories: AtomicUsize,
}

impl Loopback {
    fn new(place: &Place, setup: Setup) -> Self {
        Self { server: setup.start(), lab: Lab::new(), place: place.clone(), directories: AtomicUsize::new(0) }
    }

    fn host(&self) -> HostGuard {
        self.lab.server(&self.server)
    }

    fn directory(&self, _host: &Host) -> String {
        let number = self.directories.fetch_add(1, Ordering::Relaxed);
        let name = if self.place.is_child() { "child" } else { "there" };
        let directory = self.place.join(&format!("{name}-{number}"));
        std::fs::create_dir(&directory).unwrap();
        directory.display().to_string()
    }

    fn end(&self, _host: &Host) {
        self.server.stop();
    }

    fn clean(&self) {
        self.server.stop();
    }

    /// Root can become anybody, and so can who may use `sudo` without a password.
    fn traits(&self) -> Traits {
        let sudo =
            || std::process::Command::new("sudo").args(["-n", "true"]).output().is_ok_and(|out| out.status.success());
        traits(Some("nobody").filter(|_| is_root() || sudo()))
    }
}

/// A server in a container, for the user that `prepare` makes sure of.
struct Contained {
    host: ContainerHost,
    lab: Lab,
    user: &'static str,
    password: &'static str,
    directories: AtomicUsize,
}

impl Contained {
    fn new(image: &str, user: &'static str, password: &'static str, prepare: &str) -> Self {
        let engine = Engine::docker().unwrap();
        Self {
            host: ContainerHost::start(&engine, image, prepare, &json!({})),
            lab: Lab::new(),
            user,
            password,
            directories: AtomicUsize::new(0),
        }
    }

    fn host(&self) -> HostGuard {
        let at = self.host.address();
        let request = HostRequest::action(HOST_ACTION, "container")
            .arg("address", at.ip().to_string())
            .arg("port", at.port().to_string());
        self.lab.host(request.arg("user", self.user).arg("password", self.password))
    }

    fn directory(&self, host: &Host) -> String {
        let directory = format!("/tmp/case-{}", self.directories.fetch_add(1, Ordering::Relaxed));
        broker_core::block_on(host.execute(["mkdir", &directory])).unwrap().unwrap().check().unwrap();
        directory
    }

    fn end(&self, _host: &Host) {
        self.host.remove();
    }

    fn clean(&self) {
        self.host.remove();
    }

    fn traits(&self) -> Traits {
        traits(Some("nobody").filter(|_| self.user == "root"))
    }
}

/// The subjects differ in their servers alone, and those have to be types for the macros.
macro_rules! subject {
    ($name:ident, $of:ident, |$place:ident| $made:expr) => {
        struct $name($of);

        impl Subject for $name {
            fn open($place: &Place) -> Self {
                Self($made)
            }

            fn clean(&self) {
                self.0.clean();
            }
        }

        impl SessionSubject for $name {
            fn host(&self) -> HostGuard {
                self.0.host()
            }

            fn directory(&self, host: &Host) -> String {
                self.0.directory(host)
            }

            fn end(&self, host: &Host) {
                self.0.end(host);
            }

            fn traits(&self) -> Traits {
                self.0.traits()
            }
        }
    };
}

subject!(OpenSsh, Loopback, |place| Loopback::new(place, Setup::openssh().jailed_where_possible()));
subject!(WithoutSftp, Loopback, |place| Loopback::new(place, Setup::openssh().jailed_where_possible().without_sftp()));
subject!(OldSftp, Loopback, |place| Loopback::new(
    place,
    Setup::openssh().jailed_where_possible().sftp_without(&["limits", "posix-rename"])
));
subject!(Dropbear, Loopback, |place| Loopback::new(place, Setup::dropbear().shell("/bin/sh")));

/// A user who is not the superuser.
const MAKE_TESTER: &str = "useradd --create-home --shell /bin/bash tester; echo 'tester:secret' | chpasswd";

subject!(OpenSshContainer, Contained, |_place| Contained::new("debian", "tester", "secret", MAKE_TESTER));
subject!(DropbearContainer, Contained, |_place| Contained::new("dropbear", "root", "toor", ""));

mod openssh {
    use super::OpenSsh;

    broker_tests::session_conformance!(OpenSsh);
}

mod openssh_container {
    use super::OpenSshContainer;

    broker_tests::session_conformance!(OpenSshContainer);
}

mod dropbear {
    use super::Dropbear;

    broker_tests::session_conformance!(Dropbear);
}

mod dropbear_container {
    use super::DropbearContainer;

    broker_tests::session_conformance!(DropbearContainer);
}

mod openssh_without_sftp {
    use super::WithoutSftp;

    // What goes another way without it.
    broker_tests::session_conformance! { WithoutSftp =>
        ends::a_host_that_is_gone_is_an_error,
        files::contents_come_back_as_they_were,
        files::modes_are_set,
        files::modes_and_times_are_kept,
        files::names_of_every_kind,
        files::missing_parents_are_made,
        files::a_trailing_slash_is_a_directory,
        files::a_file_is_replaced_whole_or_not_at_all,
        files::a_transfer_that_was_dropped_leaves_the_old_file,
        files::a_link_is_replaced_and_not_followed,
        files::what_is_not_there_cannot_be_read,
        files::a_directory_is_no_file,
        files::what_cannot_be_written_is_an_error,
        files::what_is_not_here_cannot_be_put,
        files::a_failed_get_leaves_nothing,
        files::relative_paths_begin_in_one_place,
        trees::a_tree_goes_and_comes_back,
        trees::names_that_are_no_text_survive,
        trees::a_thousand_files,
        trees::a_tree_is_merged_into_what_is_there,
        trees::links_stay_links,
        trees::a_tree_goes_from_host_to_host,
        progress::a_transfer_tells_how_far_it_has_come,
        large::a_large_file_takes_little_memory,
        large::transfers_and_commands_at_the_same_time,
    }
}

mod openssh_with_an_old_sftp {
    use super::OldSftp;

    // What is done in other pieces or in more steps without its extensions.
    broker_tests::session_conformance! { OldSftp =>
        files::contents_come_back_as_they_were,
        files::modes_and_times_are_kept,
        files::a_link_is_replaced_and_not_followed,
        files::a_failed_get_leaves_nothing,
        trees::a_tree_goes_and_comes_back,
        trees::a_tree_is_merged_into_what_is_there,
        trees::links_stay_links,
    }
}
