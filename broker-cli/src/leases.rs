//! What is said of leases that end soon.

use std::borrow::Borrow;

use broker::inventory::HostRecord;
use jiff::{SignedDuration, Timestamp};

use crate::commands::labels;
use crate::output;

/// A lease that has less than this left ends soon. A short one does in its last tenth.
const SOON: SignedDuration = SignedDuration::from_mins(15);

/// One line about the leases that end soon, and those that have ended, if there are any.
pub(crate) fn warning<R: Borrow<HostRecord>>(records: &[R], now: Timestamp) -> Option<String> {
    let mut soon: Vec<&HostRecord> =
        records.iter().map(Borrow::borrow).filter(|record| ends_soon(record, now)).collect();
    soon.sort_by_key(|record| record.lease_until);
    let first = soon.first()?;
    let when = output::lease(first.lease_until, now);
    let past = if first.lease_until.is_some_and(|until| until < now) { "" } else { "ends " };
    let number = first.number;
    Some(match soon.as_slice() {
        [only] => format!(
            "the lease of {} {past}{when}; `broker extend {number} --lease TIME` gives it more",
            labels(&[*only])
        ),
        several => format!(
            "leases end soon or have ended, the first {when}: {}; `broker extend HOST --lease TIME` gives more",
            labels(several)
        ),
    })
}

fn ends_soon(record: &HostRecord, now: Timestamp) -> bool {
    let Some(until) = record.lease_until else { return false };
    let tenth = record.checked_out_at.map(|begun| until.duration_since(begun) / 10);
    until.duration_since(now) <= tenth.map_or(SOON, |tenth| tenth.min(SOON))
}

#[cfg(test)]
mod tests {
    use broker::HostId;
    use serde_json::json;

    use super::*;

    fn record(number: u64, begun: &str, until: Option<&str>) -> HostRecord {
        let mut fields = json!({
            "id": HostId::generate(), "number": number, "rev": 1, "state": "active", "at": begun,
            "_broker_provider": "TestProvider", "hostname": "h", "checked_out_at": begun,
        });
        if let Some(until) = until {
            fields["lease_until"] = until.into();
        }
        serde_json::from_value(fields).unwrap()
    }

    #[test]
    fn leases_that_end_soon() {
        let day = record(0, "2026-01-01T00:00:00Z", Some("2026-01-02T00:00:00Z"));
        let hour = record(1, "2026-01-01T00:00:00Z", Some("2026-01-01T01:00:00Z"));
        let forever = record(2, "2026-01-01T00:00:00Z", None);
        let soon = |record: &HostRecord, now: &str| ends_soon(record, now.parse().unwrap());
        for (record, now, expected) in [
            (&day, "2026-01-01T23:44:00Z", false),
            (&day, "2026-01-01T23:45:00Z", true),
            (&day, "2026-01-03T00:00:00Z", true),
            (&hour, "2026-01-01T00:53:00Z", false),
            (&hour, "2026-01-01T00:54:00Z", true),
            (&forever, "2099-01-01T00:00:00Z", false),
        ] {
            assert_eq!(soon(record, now), expected, "{now}");
        }
        let said = |records: &[HostRecord], now: &str| warning(records, now.parse().unwrap());
        assert_eq!(said(&[forever, day.clone()], "2026-01-01T12:00:00Z"), None);
        assert_eq!(
            said(std::slice::from_ref(&day), "2026-01-01T23:50:00Z").unwrap(),
            "the lease of 0 (h) ends in 10m; `broker extend 0 --lease TIME` gives it more"
        );
        let both = said(&[day, hour], "2026-01-02T00:05:00Z").unwrap();
        assert!(both.contains("the first expired 23h5m ago: 1 (h), 0 (h);"), "{both}");
    }
}
