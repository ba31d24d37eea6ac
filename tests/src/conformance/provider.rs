//! What every provider must do alike.
//!
//! A provider is put to the test by a type that is a [`ProviderSubject`], and these lines:
//!
//! ```text
//! provider_conformance!(MySubject);
//! core_conformance!(MySubject);
//! provider_conformance_over_the_wire!(MySubject); // where the provider talks to a service
//! ```
//!
//! After every case, what exists at the provider by the provider's own means is compared with the inventory.

pub mod cancel;
pub mod crash;
pub mod guards;
pub mod life;
pub mod race;
pub mod reap;
pub mod recovery;
pub mod shared;
pub mod sync;
pub mod trouble;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use broker::prelude::*;
use broker_core::inventory::{Holding, HostRecord, HostState, Inventory, Owner, Snapshot};
use broker_core::provider::{ErrorKind, Provider, ProviderFactory, Scope};
use broker_core::settings::Settings;
use broker_core::{Builder, Error, FailureCause, HostId, Released, RunId};

use super::{Case, Subject};
use crate::wait;

/// The instances that the settings of a subject must have. `Main` is the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// Where hosts are made if nothing else is said.
    Main,
    /// Another place, with another identity.
    Other,
    /// The same place as `Main`, under another name.
    Alias,
}

impl At {
    /// The instance's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Other => "other",
            Self::Alias => "alias",
        }
    }
}

/// What becomes of the place that an instance leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// It is there, and works.
    Fair,
    /// It does not answer.
    Unreachable,
    /// Another place answers at the same address.
    Elsewhere,
}

/// How requests fare on the wire, counted in pieces that go to the service, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// This one arrives, and its answer does not come.
    After(u32),
    /// This one does not arrive.
    Before(u32),
    /// This one arrives a second after its sender was cut off.
    Late(u32),
    /// As `After`, and nothing arrives any more until the weather is fair.
    ForGoodAfter(u32),
}

/// What stands in the way of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// It fails.
    Fails,
    /// It does not end.
    Hangs,
}

/// A request that fails in a known way.
#[derive(Debug, Clone)]
pub struct Failure {
    /// What it is about, for messages.
    pub name: &'static str,
    /// The request.
    pub request: HostRequest,
    /// The kinds of error that do.
    pub kinds: &'static [ErrorKind],
    /// Something that the error, with all that is underneath it, must say: the thing's name.
    pub says: String,
    /// Whether an entry may stay as `failed`, where no guard is there to undo it.
    pub stays: bool,
}

/// What a provider can do beyond what all must.
#[derive(Debug, Clone, Default)]
pub struct Abilities {
    /// Whether a lease can be extended.
    pub extend: bool,
    /// A request to execute, and a word that its output has.
    pub execute: Option<(HostRequest, &'static str)>,
    /// A command that has `hello` printed on the host's console, where there is one.
    pub log: Option<&'static str>,
}

/// A provider, and all that the suite needs to know of it.
pub trait ProviderSubject: Subject {
    /// What makes the provider.
    fn factory(&self) -> Arc<dyn ProviderFactory>;

    /// The whole text of a settings file: `stop_grace: 500ms`, and the provider with the instances of [`At`].
    fn settings(&self) -> String;

    /// A host that is soon there.
    fn request(&self) -> HostRequest;

    /// A host that is made at once and takes at least a second to be ready.
    fn slow(&self) -> HostRequest;

    /// A host that is made and never ready, if possible also not after it was cancelled.
    fn stuck(&self) -> HostRequest;

    /// How often a race is run: fewer times where hosts cost much.
    fn races(&self) -> usize {
        5
    }

    /// How the wire is cut at every request of a checkout: in all ways, unless hosts cost much.
    fn cuts(&self, holding: Holding) -> &'static [fn(u32) -> Cut] {
        let _the_same_for_both = holding;
        &[Cut::After, Cut::Before, Cut::Late]
    }

    /// Requests that fail.
    fn failures(&self) -> Vec<Failure>;

    /// A request for several hosts, of which at least one can and at least one cannot be had.
    fn mixed(&self) -> HostRequest;

    /// A request for a host whose release [`obstruct`](Self::obstruct) makes difficult. It need not be at `Main`.
    fn stubborn(&self, how: Obstacle) -> HostRequest;

    /// From now on the stubborn hosts are difficult to release.
    fn obstruct(&self, how: Obstacle);

    /// From now on the stubborn hosts are as easy to release as others.
    fn mend(&self);

    /// Changes the weather at `Main`.
    fn weather(&self, weather: Weather);

    /// Spoils the wire to `Main`. Only for those that go through `provider_conformance_over_the_wire`.
    ///
    /// # Panics
    ///
    /// Where there is no wire.
    fn cut(&self, cut: Cut) {
        panic!("no wire leads to this provider, so {cut:?} cannot be");
    }

    /// Whether the last cut has not happened, as there were not so many requests.
    fn has_yet_to_cut(&self) -> bool {
        false
    }

    /// The hosts that exist at a place, by the provider's own means: whatever the weather.
    fn hosts(&self, at: At) -> BTreeSet<HostId>;

    /// The labels, metadata or the like of a host, by the provider's own means.
    fn labels(&self, at: At, id: HostId) -> BTreeMap<String, String>;

    /// Removes a host behind Broker's back.
    fn remove(&self, at: At, id: HostId);

    /// What a sync has to look at, so that it sees the hosts of this case and no others.
    fn scope(&self) -> Scope;

    /// What it can do.
    fn abilities(&self) -> Abilities;
}

/// Makes a test of every case in which the provider itself decides how it ends, in the module that it is called in.
#[macro_export]
macro_rules! provider_conformance {
    ($subject:ty) => {
        $crate::conformance_tests! { $subject =>
            life::a_host_is_checked_out_used_and_released,
            life::a_host_carries_its_identity,
            life::a_second_release_does_no_harm,
            life::a_host_that_has_vanished_can_be_released,
            life::a_host_is_released_by_its_id_alone,
            life::leases_are_extended_or_it_is_said_that_they_cannot_be,
            life::an_action_is_executed_or_it_is_said_that_it_cannot_be,
            life::the_console_can_be_read_or_it_is_said_that_it_cannot_be,
            life::twenty_come_and_go_at_once,
            trouble::another_place_at_the_same_address_releases_nothing,
            trouble::what_is_gone_elsewhere_is_not_gone,
            trouble::nothing_is_found_where_nobody_can_tell,
            trouble::an_unreachable_provider_keeps_its_hosts,
            trouble::an_unreachable_provider_gets_no_orders,
            trouble::each_failure_leaves_nothing_or_an_entry,
            trouble::a_guarded_failure_leaves_nothing,
            trouble::of_a_mixed_batch_the_good_ones_are_handed_over,
            cancel::a_cancelled_checkout_keeps_what_is_recorded,
            cancel::a_stopped_broker_leaves_nothing_half_made,
            cancel::a_checkout_that_takes_too_long_is_undone,
            cancel::a_provider_that_hangs_is_undone,
            sync::what_the_provider_has_is_taken_in,
            sync::what_has_changed_is_updated,
            sync::what_the_provider_has_no_more_is_marked,
            sync::other_instances_are_left_alone,
            sync::a_place_of_two_names_is_listed_once,
            sync::what_cannot_be_listed_changes_nothing,
            recovery::what_a_dead_process_made_can_be_used,
            recovery::what_a_dead_process_did_not_make_is_not_there,
            recovery::nobody_can_tell_where_the_provider_is_not_there,
            recovery::a_sync_settles_what_dead_processes_left,
            recovery::orphans_are_shown_and_left_alone,
            reap::what_no_inventory_has_is_reaped_after_its_lease,
            guards::guards_drop_in_every_kind_of_runtime,
            guards::blocking_calls_work_inside_a_runtime,
            guards::a_guard_in_a_static_is_released_at_exit,
        }
    };
}

/// Makes a test of every other case, in the module that it is called in: what the core makes of a provider that does what
/// the cases of `provider_conformance` are about.
#[macro_export]
macro_rules! core_conformance {
    ($subject:ty) => {
        $crate::conformance_tests! { $subject =>
            life::ten_at_once,
            trouble::all_or_nothing_leaves_nothing,
            trouble::a_named_batch_is_all_or_nothing,
            trouble::one_that_fails_to_go_does_not_hold_up_nine,
            trouble::one_that_hangs_does_not_hold_up_nine,
            cancel::a_cancelled_guarded_checkout_leaves_nothing,
            cancel::a_cancelled_checkin_goes_on,
            crash::a_process_killed_while_it_checks_out,
            crash::a_process_killed_while_it_checks_in,
            recovery::what_a_dead_process_left_can_be_checked_in,
            recovery::recoveries_at_once_do_no_harm,
            reap::hosts_past_their_lease_are_reaped,
            reap::what_dead_processes_left_is_reaped,
            reap::what_is_not_due_any_more_is_left_alone,
            reap::two_reapers_release_a_host_once,
            reap::what_is_of_others_is_left_to_them,
            shared::twenty_processes_share_one_host_and_the_first_is_killed,
            shared::the_first_is_killed_while_it_makes_the_host,
            shared::what_all_have_died_of_is_reaped,
            shared::guards_of_one_process_share_too,
            shared::an_idle_host_waits_for_the_next,
            shared::a_kept_host_stays_when_all_have_left,
            shared::one_name_is_one_host,
            shared::a_shared_host_that_cannot_be_had_is_an_error_to_all,
            race::two_brokers_check_the_same_host_in,
            race::two_processes_check_the_same_hosts_in,
            race::four_processes_check_out_at_once,
            guards::a_dropped_guard_releases,
            guards::a_panic_releases,
            guards::a_kept_host_stays,
            guards::a_failed_test_keeps_its_host,
            guards::a_test_that_passes_keeps_nothing,
            guards::a_scope_releases,
            guards::a_scope_that_panics_releases,
            guards::a_failed_setup_releases,
            guards::a_teardown_runs_on_checkin,
            guards::a_teardown_runs_on_drop,
            guards::a_bad_teardown_stops_no_release,
            guards::the_blocking_twins_do_the_same,
            guards::an_exit_in_mid_test_releases,
            guards::a_forgotten_guard_is_released_at_exit,
            guards::a_guard_of_a_thread_is_released_with_it,
        }
    };
}

/// Makes a test of every case that needs a wire to cut, in a module of its own.
#[macro_export]
macro_rules! provider_conformance_over_the_wire {
    ($subject:ty) => {
        mod wire {
            use super::*;

            $crate::conformance_tests! { $subject =>
                trouble::a_wire_cut_at_any_request_of_a_checkout,
                trouble::a_wire_cut_at_any_request_of_a_guarded_checkout,
                trouble::a_wire_cut_at_any_request_of_an_execution,
                trouble::a_wire_cut_at_any_request_of_a_checkin,
                trouble::a_service_that_goes_in_mid_checkout,
            }
        }
    };
}

/// Makes tests of cases of the provider suite.
#[macro_export]
#[doc(hidden)]
macro_rules! conformance_tests {
    ($subject:ty => $($about:ident::$name:ident,)*) => {
        $( $crate::conformance_test! { $subject => $about::$name } )*
    };
}

/// Makes a test of one case of the provider suite.
#[macro_export]
#[doc(hidden)]
macro_rules! conformance_test {
    ($subject:ty => $about:ident::$name:ident) => {
        #[test]
        fn $name() {
            let test = concat!(module_path!(), "::", stringify!($name));
            $crate::conformance::run::<$subject>(test, $crate::conformance::provider::$about::$name);
        }
    };
}

impl<S: ProviderSubject> Case<S> {
    /// A broker on the directory of the case, as another process would make it.
    ///
    /// # Panics
    ///
    /// If the subject's settings do not do.
    pub fn broker(&self) -> Broker {
        self.builder().directory(self.place.join("broker")).build().unwrap()
    }

    /// A broker that shares nothing with the others but the provider.
    ///
    /// # Panics
    ///
    /// If the subject's settings do not do.
    pub fn stranger(&self) -> Broker {
        self.builder().directory(self.place.join("stranger")).build().unwrap()
    }

    fn settings(&self) -> Settings {
        let text = self.subject.settings();
        Settings::builder().yaml(text).known_providers([self.provider_name()]).build().unwrap().settings
    }

    fn builder(&self) -> Builder {
        // A guardian would do what the process itself has to.
        Broker::bare().provider(self.subject.factory()).settings(self.settings()).without_guardian()
    }

    /// The provider's name.
    pub fn provider_name(&self) -> &'static str {
        self.subject.factory().info().name
    }

    /// The provider itself, without a broker around it.
    ///
    /// # Panics
    ///
    /// If the subject's settings do not do.
    pub fn provider(&self, at: At) -> Arc<dyn Provider> {
        let settings = self.settings().provider(self.provider_name(), Some(at.name())).unwrap();
        self.subject.factory().build(&settings).unwrap()
    }

    /// The hosts at `Main`, by the provider's own means.
    pub fn hosts(&self) -> BTreeSet<HostId> {
        self.subject.hosts(At::Main)
    }

    /// Checks hosts out that nobody guards.
    ///
    /// # Panics
    ///
    /// If one of them cannot be had.
    pub async fn kept(&self, broker: &Broker, request: HostRequest) -> Vec<Host> {
        let outcomes = broker.checkout_kept(request).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
        outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(|error| panic!("{}", chain(&error)))).collect()
    }

    /// Fails unless the hosts at `Main` are these.
    ///
    /// # Panics
    ///
    /// If they are not.
    #[track_caller]
    pub fn exactly<'a>(&self, hosts: impl IntoIterator<Item = &'a Host>) {
        let expected: BTreeSet<_> = hosts.into_iter().map(Host::id).collect();
        assert_eq!(self.hosts(), expected, "the hosts that exist");
    }

    /// Fails unless nothing is left: no host at any place, and no entry.
    ///
    /// # Panics
    ///
    /// If there is.
    #[track_caller]
    pub fn nothing_is_left(&self) {
        let left = [At::Main, At::Other].map(|at| self.subject.hosts(at));
        let records = records(&self.block(self.broker().inventory()).unwrap());
        assert!(left.iter().all(BTreeSet::is_empty), "hosts that exist: {left:?}, entries: {records:#?}");
        assert!(records.is_empty(), "entries are left: {records:#?}");
    }

    /// As [`nothing_is_left`](Self::nothing_is_left), in a while.
    ///
    /// # Panics
    ///
    /// If there is, after a long while.
    #[track_caller]
    pub fn nothing_is_left_soon(&self) {
        let broker = self.broker();
        wait::until("everything to be gone", || {
            let entries = self.block(broker.inventory()).unwrap().records;
            entries.is_empty() && [At::Main, At::Other].iter().all(|at| self.subject.hosts(*at).is_empty())
        });
    }

    /// Waits until nobody is at work on any host, and fails unless journal and provider agree then: what is active
    /// exists, and what exists has an entry.
    ///
    /// # Panics
    ///
    /// If they do not agree.
    #[track_caller]
    pub fn journal_and_provider_agree(&self) -> Vec<HostRecord> {
        let broker = self.broker();
        let look = || records(&self.block(broker.inventory()).unwrap());
        let busy = |record: &HostRecord| matches!(record.state, HostState::Pending | HostState::Releasing);
        let mut records = Vec::new();
        wait::until("all work to be done", || {
            records = look();
            !records.iter().any(busy)
        });
        let exist: BTreeSet<_> = [At::Main, At::Other].iter().flat_map(|at| self.subject.hosts(*at)).collect();
        let known: BTreeSet<_> = records.iter().map(|record| record.id).collect();
        let active: BTreeSet<_> =
            records.iter().filter(|record| record.state == HostState::Active).map(|record| record.id).collect();
        assert!(exist.is_subset(&known), "hosts that nothing knows: {exist:?}, entries: {records:#?}");
        assert!(active.is_subset(&exist), "entries without a host; hosts: {exist:?}, entries: {records:#?}");
        records
    }

    /// Writes into the journal that a host is in the hands of a process that has died. In mid-checkout nothing is known
    /// of it but its id.
    ///
    /// # Panics
    ///
    /// If it cannot be written.
    pub async fn owned_by_the_dead(&self, record: &HostRecord, state: HostState, holding: Holding) -> HostRecord {
        let journal = Inventory::open(&self.place.join("broker"));
        let current = entry(&self.broker(), record.id).await;
        let owner = current.owner.clone().map(|owner| Owner { run: RunId::generate(), ..owner });
        let mut left = HostRecord { state, holding, owner, ..current };
        if state == HostState::Pending {
            let facts = (left.name.take(), left.hostname.take(), left.address.take(), left.ssh_port.take());
            drop((
                facts,
                std::mem::take(&mut left.details.ports),
                std::mem::take(&mut left.details.facts),
                left.details.handle.take(),
            ));
            left.checked_out_at = None;
        }
        journal.update(left).await.unwrap()
    }

    /// Checks everything in that the inventory has, as another process would.
    ///
    /// # Panics
    ///
    /// If anything cannot be released, or is left after that.
    pub fn everything_can_be_checked_in(&self) {
        let broker = self.broker();
        let all = records(&self.block(broker.inventory()).unwrap());
        for (record, outcome) in self.block(broker.checkin(all)).unwrap() {
            outcome.unwrap_or_else(|error| panic!("{record:#?} could not be released: {}", chain(&error)));
        }
        self.nothing_is_left();
    }
}

/// Checks hosts in. All of them must go well.
///
/// # Panics
///
/// If one does not.
pub async fn check_in(broker: &Broker, records: Vec<HostRecord>) -> Vec<Released> {
    let outcomes = broker.checkin(records).await.unwrap();
    outcomes.into_iter().map(|(_, outcome)| outcome.unwrap_or_else(|error| panic!("{}", chain(&error)))).collect()
}

/// The one entry of an id, as it is now.
///
/// # Panics
///
/// If there is none.
pub async fn entry(broker: &Broker, id: HostId) -> HostRecord {
    let found = records(&broker.inventory().await.unwrap()).into_iter().find(|record| record.id == id);
    found.unwrap_or_else(|| panic!("no entry of {id} is left"))
}

/// The records of a snapshot.
pub fn records(snapshot: &Snapshot) -> Vec<HostRecord> {
    snapshot.records.iter().map(|record| HostRecord::clone(record)).collect()
}

/// An error with all that is underneath it.
pub fn chain(error: &dyn std::error::Error) -> String {
    broker_core::error_chain(error)
}

/// What kinds of trouble with a provider an error is about: one for each host that failed.
pub fn kinds(error: &Error) -> Vec<ErrorKind> {
    match error {
        Error::Provider { source, .. } => vec![source.kind()],
        Error::Checkout(error) => error
            .failures()
            .iter()
            .filter_map(|failure| match &*failure.source {
                FailureCause::Provider(error) => Some(error.kind()),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    }
}
