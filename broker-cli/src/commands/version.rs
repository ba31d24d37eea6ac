//! `broker --version`

use broker::Error;
use broker::settings::{BrokerDirectory, Settings};
use serde_json::json;

use crate::args::{Format, Global};
use crate::error::CommandError;
use crate::output::{self, Console};

/// Prints the version, and where things are. Works with settings that do not do.
pub(crate) fn version(console: &Console, global: &Global) -> Result<u8, CommandError> {
    let directory = BrokerDirectory::from_environment(std::env::vars_os()).map_err(Error::from)?;
    let settings = Settings::load(&directory, std::env::vars_os(), &[]).map(|loaded| loaded.settings);
    let log = directory.log_file(settings.unwrap_or_default().logging());
    let version = env!("CARGO_PKG_VERSION");
    let places = [
        ("directory", directory.path().to_owned()),
        ("settings", directory.settings_file()),
        ("inventory", directory.inventory_file()),
        ("log", log),
    ];
    if global.output == Format::Table {
        let rows: Vec<Vec<String>> =
            places.iter().map(|(name, path)| vec![format!("{name}:"), path.display().to_string()]).collect();
        let places = output::columns(rows.iter().map(Vec::as_slice));
        console.print(format!("broker {version}\n{places}").as_bytes())?;
    } else {
        let mut value = json!({"version": version});
        for (name, path) in places {
            value[name] = json!(path.display().to_string());
        }
        console.print_value(global.output, &value)?;
    }
    Ok(0)
}
