//! What a guardian does about one host.

use jiff::Timestamp;

use crate::id::RunId;
use crate::inventory::{Holding, HostRecord, HostState};

/// Whose a host is, and whether they live.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owner {
    pub(super) run: RunId,
    pub(super) is_dead: bool,
}

/// What is to be done about a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing, for good.
    Nothing,
    /// Nothing before its owner's end.
    Wait,
    /// Nothing before its lease ends.
    WaitUntil(Timestamp),
    /// It is to go.
    Release,
}

/// What is to be done about a host, by what the journal says of it.
///
/// While its owner lives that is a matter of its lease. Then a host goes if a guard held it, or if its owner died over
/// making or releasing it. One that was kept is for people, and stays until they give it back, or for its lease; without
/// a lease nobody may decide for them.
pub(super) fn next(record: &HostRecord, owner: Owner, now: Timestamp) -> Next {
    let is_at_work = matches!(record.state, HostState::Pending | HostState::Releasing);
    let is_its_own = record.owner.as_ref().is_some_and(|of_record| of_record.run == owner.run);
    // A shared host goes with the last of those who use it, which is not this one's affair.
    if record.state == HostState::Gone || record.shared.is_some() {
        return Next::Nothing;
    }
    if owner.is_dead && (record.holding == Holding::Guarded || (is_at_work && is_its_own)) {
        return Next::Release;
    }
    if record.is_expired(now) && !(is_at_work && is_its_own) {
        return Next::Release;
    }
    match record.lease_until {
        Some(until) if until > now => Next::WaitUntil(until),
        None if owner.is_dead => Next::Nothing,
        // Its owner is at work on it, or the clock is behind the record.
        _ => Next::Wait,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::id::HostId;

    fn record(state: HostState, holding: Holding, run: RunId, lease_until: Option<&str>) -> HostRecord {
        serde_json::from_value(json!({
            "id": HostId::generate(), "number": 0, "rev": 1, "state": state, "at": "2026-01-01T12:00:00Z",
            "_broker_provider": "Container", "holding": holding, "lease_until": lease_until,
            "owner": {"run": run, "user": "jane", "machine": "laptop", "pid": 1},
        }))
        .unwrap()
    }

    #[test]
    fn a_host_goes_with_its_owner_or_its_lease() {
        use Holding::{Guarded, Kept};
        use HostState::{Active, Failed, Gone, Pending, Releasing, Vanished};

        let now: Timestamp = "2026-01-01T13:00:00Z".parse().unwrap();
        let (over, ahead) = ("2026-01-01T12:30:00Z", "2026-01-01T14:00:00Z");
        let until = Next::WaitUntil(ahead.parse().unwrap());
        for (is_dead, state, holding, lease, expected) in [
            (false, Active, Guarded, Some(ahead), until),
            (false, Active, Guarded, None, Next::Wait),
            (false, Active, Guarded, Some(over), Next::Release),
            (false, Active, Kept, Some(ahead), until),
            (false, Failed, Kept, Some(over), Next::Release),
            (false, Pending, Guarded, Some(over), Next::Wait),
            (false, Releasing, Guarded, Some(over), Next::Wait),
            (false, Gone, Guarded, Some(over), Next::Nothing),
            (true, Active, Guarded, Some(ahead), Next::Release),
            (true, Active, Guarded, None, Next::Release),
            (true, Pending, Guarded, Some(ahead), Next::Release),
            (true, Releasing, Guarded, None, Next::Release),
            (true, Releasing, Kept, None, Next::Release),
            (true, Failed, Guarded, None, Next::Release),
            (true, Vanished, Guarded, None, Next::Release),
            (true, Active, Kept, Some(ahead), until),
            (true, Active, Kept, Some(over), Next::Release),
            (true, Active, Kept, None, Next::Nothing),
            (true, Gone, Guarded, None, Next::Nothing),
        ] {
            let run = RunId::generate();
            let record = record(state, holding, run, lease);
            assert_eq!(next(&record, Owner { run, is_dead }, now), expected, "{is_dead} {record:?}");
        }
    }

    #[test]
    fn what_another_process_is_at_is_left_to_it() {
        let now: Timestamp = "2026-01-01T13:00:00Z".parse().unwrap();
        let owner = Owner { run: RunId::generate(), is_dead: true };
        // Somebody checks a kept host in at this moment.
        let kept = record(HostState::Releasing, Holding::Kept, RunId::generate(), None);
        assert_eq!(next(&kept, owner, now), Next::Nothing);
        // A guarded one has to go; the claim sees to it that only one releases it.
        let guarded = record(HostState::Releasing, Holding::Guarded, RunId::generate(), None);
        assert_eq!(next(&guarded, owner, now), Next::Release);
    }

    #[test]
    fn a_clock_that_jumps_back_ends_nothing() {
        let before: Timestamp = "2026-01-01T11:00:00Z".parse().unwrap();
        let owner = Owner { run: RunId::generate(), is_dead: false };
        let host = record(HostState::Active, Holding::Kept, owner.run, Some("2026-01-01T10:00:00Z"));
        assert_eq!(next(&host, owner, before), Next::Wait);
    }
}
