//! Letting a host live longer: by the extend workflow, in the words that it takes.

use std::collections::BTreeMap;
use std::time::Duration;

use broker_core::inventory::HostRecord;
use broker_core::labels_of;
use broker_core::provider::{ErrorKind, Extension, HostFacts, ProviderError};
use serde_json::{Map, Value, json};

use crate::TowerProvider;
use crate::api::job::{JobId, Status};
use crate::api::template::Kind;
use crate::arguments::{LABELS, NEW_EXPIRE_TIME};
use crate::artifacts::{self, Strategy};
use crate::facts;
use crate::launch::NotLaunched;
use crate::release::{Release, machine_of};
use crate::run::Ended;

/// The variable that tells the extend workflow which host is meant.
const TARGET_VM: &str = "target_vm";

/// A span in the form that extend workflows take.
pub(crate) fn relative(span: Duration) -> String {
    // One that has begun counts whole.
    format!("+{}", span.as_secs() + u64::from(span.subsec_nanos() > 0))
}

impl TowerProvider {
    /// Whether leases can be given at all.
    pub(crate) async fn can_extend(&self) -> Result<(), ProviderError> {
        let workflow = &self.settings.extend_workflow;
        match self.known.blueprint(&self.client, Kind::Workflow, workflow).await {
            Ok(_) => Ok(()),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Permission) => {
                let message = format!("a lease is given by setting `AnsibleTower.extend_workflow`, and {error}");
                Err(ProviderError::new(error.kind(), message))
            }
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn extend_host(&self, host: &HostRecord, wanted: &Extension) -> Result<HostFacts, ProviderError> {
        self.at_home(host).await?;
        // Extending takes nothing away, unless somebody says it in the workflow's own words.
        if let (Some(by), Some(until), true) = (wanted.by, host.lease_until, wanted.args.is_empty())
            && until >= by.until()
        {
            return Ok(HostFacts::default());
        }
        let given = wanted.args.get(NEW_EXPIRE_TIME).map(ToString::to_string).filter(|time| !time.is_empty());
        let time = given.or_else(|| wanted.by.map(|by| relative(by.0)));
        let time = time.unwrap_or_else(|| self.settings.new_expire_time.clone());
        let name = host.name.clone().or_else(|| host.hostname.clone()).ok_or_else(|| {
            let message = format!("host `{}` has no name by which the extend workflow could know it", host.label());
            ProviderError::new(ErrorKind::BadRequest, message)
        })?;
        // Whether it is there otherwise the workflow knows best.
        let machine = machine_of(host).unwrap_or_else(|| name.clone());
        if self.is_released(host, &[machine]).await? {
            let message = format!("there is no host `{name}` any more");
            return Err(ProviderError::new(ErrorKind::NotFound, message));
        }
        let labels = wanted.args.get(LABELS).map(labels_of).transpose();
        let labels = labels.map_err(|error| ProviderError::new(ErrorKind::BadRequest, error.to_string()))?;
        self.run_extend(&name, &time, &Release::of_host(host), labels.unwrap_or_default()).await
    }

    /// Has the extend workflow extend a host's life, and returns what it tells of that.
    pub(crate) async fn run_extend(
        &self,
        name: &str,
        time: &str,
        of: &Release,
        mut labels: BTreeMap<String, String>,
    ) -> Result<HostFacts, ProviderError> {
        let workflow = &self.settings.extend_workflow;
        let variables = [(TARGET_VM, json!(name)), (NEW_EXPIRE_TIME, json!(time))];
        labels.extend(self.settings.labels.clone());
        let wanted = of.wanted(workflow, &variables).labelled(&labels);
        let prepared = self.prepared(&wanted).await?;
        let label = prepared.label();
        let missing: Vec<&str> = [TARGET_VM, NEW_EXPIRE_TIME]
            .into_iter()
            .filter(|name| prepared.left_out.iter().any(|left| left == name))
            .collect();
        if !missing.is_empty() {
            let message = format!("{label} does not take `{}` on launch", missing.join("`, `"));
            return Err(ProviderError::new(ErrorKind::Settings, message));
        }
        let job = self.launch(&prepared).await.map_err(|NotLaunched { error, .. }| error)?;
        let id = JobId { kind: Kind::Workflow, id: job.id };
        let job = match self.ended(id, &label, None).await? {
            Ended::Over(job) => job,
            Ended::GoesOn(error) | Ended::Stopped(error, _) => return Err(error),
        };
        let ran = self.ran(id, &job).await?;
        if job.status != Status::Successful {
            let reasons = self.reasons(id, &job, &ran).await?;
            return Err(self.failed(&format!("{label} for host `{name}`"), id, &job, &reasons));
        }
        let left = artifacts::of_all(&self.patient(), &ran).await;
        let left = left.map_err(|error| crate::about(error, id, "read the artifacts of"))?;
        Ok(self.extended(&artifacts::chosen(&left, Strategy::Merge, &[]), time))
    }

    /// What artifacts say of the new end; where they do not, what was asked for.
    fn extended(&self, artifacts: &Map<String, Value>, time: &str) -> HostFacts {
        let expiry = &self.settings.expiry_facts;
        let told = artifacts.get(facts::FACTS).and_then(Value::as_object).unwrap_or(artifacts);
        let new: Map<String, Value> =
            told.iter().filter(|(name, _)| expiry.contains(name)).map(|(k, v)| (k.clone(), v.clone())).collect();
        let lease_until = facts::lease_until(&new, expiry).or_else(|| facts::moment(&json!(time)));
        HostFacts { lease_until, facts: new, ..HostFacts::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_told_in_seconds() {
        assert_eq!(relative(Duration::from_secs(7200)), "+7200");
        assert_eq!(relative(Duration::from_millis(1500)), "+2");
    }

    #[test]
    fn the_new_end_is_what_the_workflow_says_or_what_was_asked_for() {
        let provider =
            TowerProvider::new(crate::settings::tests::read("base_url: http://h\ntoken: t").unwrap()).unwrap();
        let map = |value: Value| value.as_object().cloned().unwrap();
        let told = provider.extended(&map(json!({"_broker_facts": {"remove_time": 1_795_219_200, "x": 1}})), "+3600");
        assert_eq!(told.lease_until.unwrap().to_string(), "2026-11-21T00:00:00Z");
        assert_eq!(told.facts.keys().collect::<Vec<_>>(), ["remove_time"]);
        let recorded = provider.extended(&map(json!({"extended": "rig-vm01", "new_expire_time": "+3600"})), "+3600");
        let left = recorded.lease_until.unwrap().duration_since(jiff::Timestamp::now()).as_secs();
        assert!((3590..=3600).contains(&left), "{left}");
        assert_eq!(provider.extended(&Map::new(), "tomorrow").lease_until, None);
    }
}
