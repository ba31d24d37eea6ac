//! The calls that are used, typed: compute, network, image.

pub(crate) mod compute;
pub(crate) mod image;
pub(crate) mod network;

use serde::{Deserialize, Deserializer};

/// Fields that services leave out, or give as null, as it suits them.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}
