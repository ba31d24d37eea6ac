//! Glance: images.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::or_default;
use crate::client::{CallError, Client, Service, encoded};

/// What servers are made of.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Image {
    pub(crate) id: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) name: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) status: String,
    /// In bytes.
    #[serde(default)]
    pub(crate) size: Option<i64>,
    /// What it takes on a disk, in bytes.
    #[serde(default)]
    pub(crate) virtual_size: Option<i64>,
    /// In GiB.
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) min_disk: i64,
    /// In MiB.
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) min_ram: i64,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) visibility: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) created_at: String,
    /// Whatever else people have written on it.
    #[serde(flatten)]
    properties: Map<String, Value>,
}

impl Image {
    /// A property that is a text, and not empty.
    pub(crate) fn property(&self, name: &str) -> Option<&str> {
        self.properties.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
    }
}

/// The images that a query leaves: `name=…` or nothing.
pub(crate) async fn images(client: &Client, query: &str) -> Result<Vec<Image>, CallError> {
    let path = if query.is_empty() { "/images".to_owned() } else { format!("/images?{query}") };
    Ok(client.all(Service::Image, &path, "images").await?.0)
}

pub(crate) async fn image(client: &Client, id: &str) -> Result<Image, CallError> {
    client.get(Service::Image, &format!("/images/{}", encoded(id))).await?.read()
}
