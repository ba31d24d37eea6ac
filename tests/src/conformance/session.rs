//! What every way to a host must do alike.
//!
//! A way to a host is put to the test by a type that is a [`SessionSubject`], and one line:
//!
//! ```text
//! session_conformance!(MySubject);
//! ```
//!
//! The host's side of things is looked at with commands on the host, this side's with this machine's own calls.

pub mod commands;
pub mod ends;
pub mod files;
pub mod large;
pub mod progress;
pub mod pty;
pub mod tail;
pub mod trees;

use broker_core::session::SessionErrorKind;
use broker_core::{Error, Host, HostGuard};

use super::{Case, Subject};

/// A way to hosts, and what the suite needs to know of it.
///
/// The hosts have a POSIX shell with the usual small programs beside it (`cat`, `cmp`, `dd`, `ls`, `md5sum`, `od`,
/// `sleep`, `stat`, `stty`, `tail`, `tr`, `wc`) and `/proc`.
pub trait SessionSubject: Subject {
    /// A host of the case's own.
    fn host(&self) -> HostGuard;

    /// A directory on the host that is there, is empty, and can be written to.
    fn directory(&self, host: &Host) -> String;

    /// Makes the host go away, behind Broker's back.
    fn end(&self, host: &Host);

    /// What this way can do.
    fn traits(&self) -> Traits;
}

/// What a way to a host can do, where ways differ.
#[derive(Debug, Clone)]
pub struct Traits {
    /// Another user than the usual one that commands can be run as, by a name or number that `id` also shows.
    pub user: Option<&'static str>,
    /// A directory on the host where nobody can write, not even its superuser.
    pub read_only: &'static str,
    /// Whether all output arrives of a command that ends without having read its input. Podman may lose it: a broken
    /// input ends its copying of the output.
    pub unread_input_is_harmless: bool,
    /// Whether a command that prints more than anybody reads has to wait.
    pub holds_back: bool,
}

/// Makes a test of every case, in the module that it is called in.
#[macro_export]
macro_rules! session_conformance {
    ($subject:ty) => {
        $crate::session_conformance! { $subject =>
            commands::outputs_are_apart_and_exact,
            commands::statuses_are_told,
            commands::a_check_names_the_command_and_its_last_lines,
            commands::one_word_is_a_line_and_several_are_words,
            commands::words_survive_as_they_are,
            commands::environment_and_directory_are_set,
            commands::another_user_runs_it_or_it_is_said_that_none_can,
            commands::what_is_given_is_read,
            commands::what_a_reader_gives_is_read,
            commands::input_ends,
            commands::input_and_output_at_the_same_time,
            commands::much_on_both_outputs_arrives_whole,
            commands::a_slow_reader_gets_everything,
            commands::output_that_nobody_takes_holds_nothing_up,
            commands::fifty_at_once,
            commands::what_cannot_be_run_is_an_error_that_names_it,
            commands::a_session_that_was_closed_opens_again,
            ends::a_deadline_ends_the_command_and_its_children,
            ends::a_command_that_nobody_waits_for_is_ended,
            ends::a_command_that_was_dropped_at_once_is_ended,
            ends::what_is_dropped_ends_alone,
            ends::signals_arrive,
            ends::a_signal_does_not_wait_for_what_is_not_read,
            ends::a_child_in_the_background_outlives_its_command,
            ends::a_host_that_is_gone_is_an_error,
            ends::a_command_ends_when_its_host_does,
            pty::a_terminal_is_given_on_request,
            pty::a_terminal_has_a_size_that_changes,
            pty::keys_reach_the_command,
            pty::a_terminal_carries_much,
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
            tail::the_last_lines_of_a_file,
            tail::what_is_added_to_a_file,
            tail::a_tail_that_was_dropped_ends_there,
            large::a_large_file_takes_little_memory,
            large::transfers_and_commands_at_the_same_time,
        }
    };
    ($subject:ty => $($about:ident::$name:ident,)*) => {
        $(
            #[test]
            fn $name() {
                let test = concat!(module_path!(), "::", stringify!($name));
                $crate::conformance::run::<$subject>(test, $crate::conformance::session::$about::$name);
            }
        )*
    };
}

impl<S: SessionSubject> Case<S> {
    /// A path on this machine that nobody else uses.
    ///
    /// # Panics
    ///
    /// If there is no room.
    pub fn scratch(&self, name: &str) -> std::path::PathBuf {
        let directory = self.place.join("scratch");
        std::fs::create_dir_all(&directory).unwrap();
        directory.join(name)
    }

    /// Runs the body with a host of its own and an empty directory on it.
    pub fn on_host(&self, body: impl AsyncFnOnce(&Host, &str)) {
        let guard = self.subject.host();
        let directory = self.subject.directory(&guard);
        self.block(body(&guard, &directory));
    }
}

/// The output of a line for the shell, which must succeed.
///
/// # Panics
///
/// If it does not.
pub async fn output(host: &Host, line: impl Into<String>) -> String {
    let output = host.execute(line.into()).await.and_then(broker_core::Output::check);
    output.unwrap_or_else(|error| panic!("{}", broker_core::error_chain(&error))).stdout().into_owned()
}

/// What kind of trouble with a session an error is about.
///
/// # Panics
///
/// If it is about something else.
pub fn kind(error: &Error) -> SessionErrorKind {
    match error {
        Error::Session { source, .. } => source.kind(),
        other => panic!("not about a session: {other:?}"),
    }
}

/// Bytes without an order, the same for the same seed.
pub fn noise(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes = Vec::with_capacity(count + 8);
    while bytes.len() < count {
        bytes.extend_from_slice(&next());
    }
    bytes.truncate(count);
    bytes
}
