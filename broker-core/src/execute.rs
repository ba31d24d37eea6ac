//! Actions that make no host, and questions to a provider.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use crate::broker::{Asked, Batch, Broker, GUARD_LEASE, Limit, ask, awaited, default_origin, draft, order};
use crate::context::Core;
use crate::engine::{self, Undone, Unfinished};
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::host::Host;
use crate::provider::{Execution, Query, Table};
use crate::request::{HostRequest, RequestError, Wanted};

impl Broker {
    /// Runs an action that makes no host: a workflow, a container to its end.
    ///
    /// # Errors
    ///
    /// If the request does not do or the action could not be run. One that ran and failed is no error but an
    /// [`Execution`] with a failure.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the action, as far as the provider can.
    pub async fn execute(&self, request: HostRequest) -> Result<Execution> {
        let resolved = request.resolve(&self.core.settings, &self.core.infos(), Wanted::Execution)?;
        let instance = self.instance(&resolved.provider, resolved.instance.as_deref()).await?;
        if resolved.count != 1 {
            return Err(RequestError::NotOne(resolved.count).into());
        }
        // No journal knows of it, so that its lease alone tells `broker reap` when nobody can be waiting for it any more.
        let longest = resolved.timeout.map_or(GUARD_LEASE, |timeout| timeout.max(GUARD_LEASE));
        let lease = self.lease(resolved.lease, Some(longest))?;
        let origin = resolved.origin.clone().unwrap_or_else(default_origin);
        let batch = Batch::<Host>::new(resolved, instance, lease, origin);
        let cancel = self.core.stop.child_token();
        let _cancel_on_drop = cancel.clone().drop_guard();
        engine::call("executing an action", run_action(Arc::clone(&self.core), batch, cancel)).await?
    }

    /// Asks what a provider offers.
    ///
    /// # Errors
    ///
    /// If the provider or its instance does not exist, or cannot answer; if the filter asks for a column that the answer
    /// does not have.
    pub async fn query(&self, provider: &str, instance: Option<&str>, mut query: Query) -> Result<Table> {
        let doing = format!("could not look up `{}` of provider `{provider}`", query.name);
        let provider = self.instance(provider, instance).await?.provider;
        let (filter, limit) = (query.filter.take(), query.limit);
        if filter.is_some() {
            // What is wanted may come last.
            query.limit = Some(usize::MAX);
        }
        let answer = engine::call_while_wanted("looking something up", async move { provider.query(&query).await });
        let mut table = answer.await?.map_err(|source| Error::Provider { doing, source })?;
        if let Some(filter) = filter {
            table = filtered(table, &filter)?;
            table.rows.truncate(limit.unwrap_or(usize::MAX));
        }
        Ok(table)
    }
}

/// Runs an action that makes no host. It is not in the inventory; what it leaves behind when it is cut off is released.
async fn run_action(core: Arc<Core>, batch: Batch<Host>, cancel: CancellationToken) -> Result<Execution> {
    let _unfinished = Unfinished::begin();
    let limit = Limit::new(batch.resolved.timeout);
    let wrap = |source| Error::Provider { doing: format!("could not execute {}", batch.resolved.wanted), source };
    let owner = core.owner().await?;
    let order = order(&core, &batch, &owner, &cancel);
    let prepared = engine::caught(batch.provider.prepare(std::slice::from_ref(&order)));
    limit.bound(&cancel, prepared).await.map_err(wrap)?;
    let error = match ask(&core, &order, limit, batch.provider.execute(&order)).await {
        Ok(execution) => return Ok(execution),
        Err(Asked::TooLate(error, _)) => return Err(wrap(error)),
        Err(Asked::Failed(error)) if !error.may_exist() => return Err(wrap(error)),
        Err(Asked::Failed(error) | Asked::CutOff(error)) => error,
    };
    let undone = async {
        let endpoint = engine::caught(batch.provider.endpoint()).await?;
        let record = draft(&order, &batch, &endpoint, &owner);
        engine::undo(batch.provider.as_ref(), &record, Duration::ZERO, engine::PATIENCE).await
    };
    match tokio::time::timeout(engine::undo_limit(batch.provider.as_ref()), undone).await {
        Ok(Ok(Undone::Released | Undone::Nothing)) => {}
        Ok(Ok(Undone::Awaited(left))) => {
            let left = awaited(left);
            tracing::warn!(id = %order.id, left, "the action was cut off; `broker reap --unknown` finds what it leaves");
        }
        Ok(Err(error)) => {
            tracing::warn!(id = %order.id, error = crate::error_chain(&error), "what the action left could not be released");
        }
        Err(_) => tracing::warn!(id = %order.id, "what the action left could not be released in time"),
    }
    Err(wrap(error))
}

/// The rows of an answer that a filter selects.
fn filtered(table: Table, filter: &Filter) -> Result<Table> {
    let object = |row: &Vec<String>| -> Map<String, Value> {
        table.columns.iter().cloned().zip(row.iter().cloned().map(Value::String)).collect()
    };
    let objects: Vec<_> = table.rows.iter().map(object).collect();
    let selection = filter.select(&objects, &table.columns, Timestamp::now())?;
    for note in selection.notes {
        tracing::warn!("{note}");
    }
    let rows = selection.indices.into_iter().filter_map(|index| table.rows.get(index).cloned()).collect();
    Ok(Table { rows, ..table })
}
