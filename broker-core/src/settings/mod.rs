//! The settings: `broker_settings.yaml`, the environment, and what a program gives.

mod provider;

pub use provider::{ProviderSettings, SettingError};
