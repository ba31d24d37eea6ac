//! What an engine offers: images to make hosts of, and to run.

use broker_core::provider::{ErrorKind, ProviderError, Query, QueryInfo, Table};

use crate::ContainerProvider;
use crate::engine::error::is_missing;
use crate::engine::model::{Image, ImageSummary};

/// The label of images that are meant to be hosts.
const COMPATIBLE: &str = "broker_compatible";

pub(crate) const QUERIES: &[QueryInfo] = &[
    QueryInfo { name: "container_hosts", value: None, help: "Images that are labelled `broker_compatible`" },
    QueryInfo { name: "container_host", value: Some("IMAGE"), help: "What an image is, and how it is set up" },
    QueryInfo { name: "container_app", value: Some("IMAGE"), help: "The same of an image to run to its end" },
    QueryInfo { name: "container_apps", value: None, help: "All images that have a name" },
];

impl ContainerProvider {
    pub(crate) async fn answer(&self, query: &Query) -> Result<Table, ProviderError> {
        let engine = self.engine().await?;
        let label = match query.name.as_str() {
            "container_hosts" => Some(COMPATIBLE),
            "container_apps" => None,
            "container_host" | "container_app" => {
                let name = query.value.as_deref().unwrap_or_default();
                let name = crate::request::image_name(name)
                    .map_err(|bad| ProviderError::new(ErrorKind::BadRequest, format!("`{}`: {}", query.name, bad.0)))?;
                // Short names mean the same as in a checkout.
                for candidate in [name.clone(), format!("localhost/{name}")] {
                    match engine.image(&candidate).await {
                        Ok(image) => return Ok(details(&image)),
                        Err(error) if is_missing(&error) => {}
                        Err(error) => {
                            return Err(engine.failed(&format!("could not look for image `{name}`"), &error));
                        }
                    }
                }
                let message = format!("there is no image `{name}` at `{}`", engine.uri());
                return Err(ProviderError::new(ErrorKind::NotFound, message));
            }
            other => {
                let message = format!("Container does not know the question `{other}`");
                return Err(ProviderError::new(ErrorKind::BadRequest, message));
            }
        };
        let images = engine.images(label).await;
        let images = images.map_err(|error| engine.failed("could not list the images", &error))?;
        let mut rows = rows(&images);
        rows.truncate(query.limit.or(self.settings.results_limit).unwrap_or(usize::MAX));
        Ok(Table { columns: ["image", "id", "size"].map(str::to_owned).to_vec(), rows })
    }
}

/// A row a name, in their order; images without a name are left out.
fn rows(images: &[ImageSummary]) -> Vec<Vec<String>> {
    let row = |image: &ImageSummary, tag: &String| vec![tag.clone(), short(&image.id), size(image.size)];
    let mut rows: Vec<Vec<String>> = images
        .iter()
        .flat_map(|image| image.tags.iter().filter(|tag| *tag != "<none>:<none>").map(move |tag| row(image, tag)))
        .collect();
    rows.sort();
    rows
}

fn details(image: &Image) -> Table {
    let config = &image.config;
    let mut rows = Vec::new();
    let mut row = |name: &str, value: String| {
        if !value.is_empty() {
            rows.push(vec![name.to_owned(), value]);
        }
    };
    row("names", image.tags.join(", "));
    row("id", short(&image.id));
    row("size", size(image.size));
    row("created", image.created.clone());
    row("platform", format!("{}/{}", image.os, image.architecture));
    row("entrypoint", words(&config.entrypoint));
    row("command", words(&config.command));
    row("user", config.user.clone());
    row("directory", config.directory.clone());
    row("ports", config.exposed.0.join(", "));
    let mut labels: Vec<String> = config.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    labels.sort();
    row("labels", labels.join(", "));
    Table { columns: ["property", "value"].map(str::to_owned).to_vec(), rows }
}

/// An argument vector on one line: as JSON, so that it is clear where words end.
fn words(words: &[String]) -> String {
    if words.is_empty() { String::new() } else { serde_json::to_string(words).unwrap_or_default() }
}

fn short(id: &str) -> String {
    id.trim_start_matches("sha256:").chars().take(12).collect()
}

fn size(bytes: i64) -> String {
    const UNITS: [(i64, &str); 3] = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    match UNITS.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_a_name() {
        let image = |id: &str, tags: &[&str]| ImageSummary {
            id: id.to_owned(),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            size: 1_990_000,
        };
        let images = [image("sha256:0123456789abcdef", &["b:1", "a:1"]), image("sha256:1", &["<none>:<none>"])];
        assert_eq!(rows(&images), [["a:1", "0123456789ab", "1.9 MB"], ["b:1", "0123456789ab", "1.9 MB"]]);
    }

    #[test]
    fn sizes_for_people() {
        for (bytes, text) in [(0, "0 B"), (999, "999 B"), (1_500, "1.5 kB"), (2_140_000_000, "2.1 GB")] {
            assert_eq!(size(bytes), text);
        }
    }
}
