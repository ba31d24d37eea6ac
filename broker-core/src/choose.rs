//! Which hosts of the inventory somebody means.

use std::sync::Arc;

use jiff::Timestamp;

use crate::broker::Broker;
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::host::Host;
use crate::inventory::{HostRecord, Secrets, Snapshot, select};

/// Which hosts of the inventory are meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choice {
    /// Numbers, ids, names or hostnames.
    pub hosts: Vec<String>,
    /// All of them; `hosts` is then not looked at.
    pub all: bool,
    /// Narrows what `hosts` or `all` chose.
    pub filter: Option<String>,
}

/// The hosts that were chosen.
#[derive(Debug, Clone, Default)]
pub struct Chosen {
    /// Their records, by number where all were meant, else in the order in which they were named.
    pub records: Vec<Arc<HostRecord>>,
    /// What a person should know about the inventory and the filter.
    pub warnings: Vec<String>,
}

impl Broker {
    /// The hosts in the inventory that a filter selects; no filter at all selects all of them.
    ///
    /// # Errors
    ///
    /// If the filter does not do. A filter that matches nothing is no error.
    pub async fn from_inventory(&self, filter: Option<&str>) -> Result<Vec<Host>> {
        let choice = Choice { all: true, filter: filter.map(str::to_owned), ..Choice::default() };
        let chosen = self.choose(&choice).await?;
        Ok(chosen.records.into_iter().map(|record| self.host(Arc::unwrap_or_clone(record))).collect())
    }

    /// A host out of the inventory, by its number, id, name or hostname.
    ///
    /// # Errors
    ///
    /// If there is no such host, or more than one.
    pub async fn find(&self, word: &str) -> Result<Host> {
        let choice = Choice { hosts: vec![word.to_owned()], ..Choice::default() };
        let record = self.choose(&choice).await?.records.pop().ok_or(Error::Closed)?;
        Ok(self.host(Arc::unwrap_or_clone(record)))
    }

    /// Chooses hosts of the inventory: those named or all of them, narrowed by a filter.
    ///
    /// # Errors
    ///
    /// If any name does not fit exactly one host, or the filter does not do. Nothing is chosen then.
    pub async fn choose(&self, choice: &Choice) -> Result<Chosen> {
        self.choose_from(self.inventory().await?, choice)
    }

    /// As [`choose`](Self::choose), from an inventory that was read before: with [`inventory::read`](crate::inventory::read),
    /// say, which needs no engine.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn choose_from(&self, snapshot: Snapshot, choice: &Choice) -> Result<Chosen> {
        let filter = choice.filter.as_deref().map(Filter::parse).transpose()?;
        let mut warnings = snapshot.warnings;
        let records = match choice.all {
            true => snapshot.records,
            false => select(&snapshot.records, &choice.hosts)?.into_iter().map(Arc::clone).collect(),
        };
        let Some(filter) = filter else { return Ok(Chosen { records, warnings }) };
        let views: Vec<_> = records.iter().map(|record| record.to_json(Secrets::Shown)).collect();
        let selection = filter.select(&views, self.fields(), Timestamp::now())?;
        warnings.extend(selection.notes.iter().map(ToString::to_string));
        let chosen = selection.indices.iter().filter_map(|index| records.get(*index).cloned());
        Ok(Chosen { records: chosen.collect(), warnings })
    }

    /// The names of fields that a filter may use: Broker's own and those of the providers.
    pub fn fields(&self) -> Vec<&str> {
        let facts = self.core.infos().into_iter().flat_map(|info| info.facts.iter().copied());
        crate::inventory::FIELDS.iter().copied().chain(facts).collect()
    }
}
