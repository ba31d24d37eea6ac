//! Images: which one a name means, and getting it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bollard::errors::Error as ApiError;
use bollard::query_parameters as query;
use broker_core::provider::{ErrorKind, ProviderError};
use futures_util::StreamExt;
use parking_lot::Mutex;

use crate::credentials;
use crate::engine::Engine;
use crate::engine::error::is_missing;
use crate::engine::model::Image;
use crate::request::{Pull, Spec};

/// How long a pull may stand still.
const STALL: Duration = Duration::from_secs(300);

/// An image that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resolved {
    /// The name to make containers by: one that means the same everywhere, without what the engine may add to it.
    pub(crate) reference: String,
    /// The ports that the image exposes, such as `22/tcp`.
    pub(crate) exposed: Vec<String>,
}

/// What makes two wishes for an image the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Wish {
    name: String,
    platform: Option<String>,
}

/// The images that were looked up, so that a checkout asks for none.
#[derive(Default)]
pub(crate) struct Images {
    known: Mutex<HashMap<Wish, Resolved>>,
    /// A lock for each wish, so that an image is looked up and pulled once.
    busy: Mutex<HashMap<Wish, Arc<tokio::sync::Mutex<()>>>>,
}

impl Images {
    /// The image of an order: as it was looked up before, else by looking, else by pulling. `always` pulls in any case.
    pub(crate) async fn resolve(
        &self,
        engine: &Engine,
        spec: &Spec,
        always: bool,
        progress: &(dyn Fn(String) + Sync),
    ) -> Result<Resolved, ProviderError> {
        let wish = Wish { name: spec.image.clone(), platform: spec.platform.clone() };
        let busy = Arc::clone(self.busy.lock().entry(wish.clone()).or_default());
        let _turn = busy.lock().await;
        if !always && let Some(known) = self.known.lock().get(&wish) {
            return Ok(known.clone());
        }
        let resolved = look_or_pull(engine, spec, always, progress).await?;
        self.known.lock().insert(wish, resolved.clone());
        Ok(resolved)
    }

    /// Forgets an image that turned out to be gone.
    pub(crate) fn forget(&self, spec: &Spec) {
        let wish = Wish { name: spec.image.clone(), platform: spec.platform.clone() };
        self.known.lock().remove(&wish);
    }
}

async fn look_or_pull(
    engine: &Engine,
    spec: &Spec,
    always: bool,
    progress: &(dyn Fn(String) + Sync),
) -> Result<Resolved, ProviderError> {
    let podman = engine.about().await?.podman;
    let platform = spec.platform.as_deref();
    if !always && let Some(found) = look(engine, &spec.image, platform, podman).await? {
        return Ok(found);
    }
    if spec.pull == Pull::Never {
        let of = platform.map(|platform| format!(" for platform `{platform}`")).unwrap_or_default();
        return Err(ProviderError::new(
            ErrorKind::NotFound,
            format!("there is no image `{}`{of} at `{}`, and `pull` is `never`", spec.image, engine.uri()),
        ));
    }
    let target = if podman { qualified(&spec.image) } else { spec.image.clone() };
    pull(engine, &target, platform, progress).await?;
    match look(engine, &target, platform, podman).await? {
        Some(found) => Ok(found),
        None => Err(ProviderError::new(ErrorKind::Failed, format!("image `{target}` was pulled, and is not there"))),
    }
}

/// Looks for an image under the name as it is written, and under those that a short name can stand for. One for another
/// platform is none: Podman would take it all the same.
async fn look(
    engine: &Engine,
    name: &str,
    platform: Option<&str>,
    podman: bool,
) -> Result<Option<Resolved>, ProviderError> {
    let mut names = vec![name.to_owned()];
    if registry_of(name).is_none() {
        names.push(format!("localhost/{name}"));
        if podman {
            names.push(qualified(name));
        }
    }
    for candidate in names {
        match engine.image(&candidate).await {
            Ok(image) if platform.is_some_and(|platform| !is_for(&image, platform)) => {}
            Ok(image) => {
                let reference = if podman { full_name(&image.tags, &candidate) } else { None };
                let reference = reference.unwrap_or(candidate);
                return Ok(Some(Resolved { reference, exposed: image.config.exposed.0 }));
            }
            Err(error) if is_missing(&error) => {}
            Err(error) => return Err(engine.failed(&format!("could not look for image `{name}`"), &error)),
        }
    }
    Ok(None)
}

/// Whether an image is for a platform: `linux/arm64`, `linux/arm/v7`, or only one of the two words.
fn is_for(image: &Image, platform: &str) -> bool {
    let same = |wanted: &str, is: &str| {
        let usual = |word: &str| match word.to_ascii_lowercase().as_str() {
            "x86_64" => "amd64".to_owned(),
            "aarch64" => "arm64".to_owned(),
            word => word.to_owned(),
        };
        usual(wanted) == usual(is)
    };
    let words: Vec<&str> = platform.split('/').collect();
    match words.as_slice() {
        [word] => same(word, &image.os) || same(word, &image.architecture),
        [os, architecture] => same(os, &image.os) && same(architecture, &image.architecture),
        // Engines leave the variant out where there is but one.
        [os, architecture, variant] => {
            same(os, &image.os)
                && same(architecture, &image.architecture)
                && (image.variant.is_empty() || same(variant, &image.variant))
        }
        _ => false,
    }
}

/// The tag of an image that a short name meant: Podman finds images by the end of their names, and takes short names in
/// requests for those of a registry.
fn full_name(tags: &[String], name: &str) -> Option<String> {
    let tagged = if name.contains('@') || tag_of(name).is_some() { name.to_owned() } else { format!("{name}:latest") };
    let tail = format!("/{tagged}");
    let exact = tags.iter().find(|tag| **tag == tagged);
    exact.or_else(|| tags.iter().find(|tag| tag.ends_with(&tail))).cloned()
}

/// The registry in an image's name, if it has one: the first part, where it looks like a host.
pub(crate) fn registry_of(name: &str) -> Option<&str> {
    let (first, _) = name.split_once('/')?;
    (first.contains(['.', ':']) || first == "localhost").then_some(first)
}

/// The name with Docker Hub in front where it names no registry, as Docker reads it.
fn qualified(name: &str) -> String {
    match registry_of(name) {
        Some(_) => name.to_owned(),
        None if name.contains('/') => format!("docker.io/{name}"),
        None => format!("docker.io/library/{name}"),
    }
}

/// The tag in an image's name.
fn tag_of(name: &str) -> Option<&str> {
    let last = name.rsplit('/').next().unwrap_or(name);
    last.split_once(':').map(|(_, tag)| tag)
}

/// A name without its tag, and the tag or digest to ask for; without one a pull would fetch all tags there are.
fn split_tag(name: &str) -> (&str, &str) {
    if let Some((repository, digest)) = name.split_once('@') {
        return (repository, digest);
    }
    match tag_of(name) {
        Some(tag) => (name.get(..name.len() - tag.len() - 1).unwrap_or(name), tag),
        None => (name, "latest"),
    }
}

async fn pull(
    engine: &Engine,
    name: &str,
    platform: Option<&str>,
    progress: &(dyn Fn(String) + Sync),
) -> Result<(), ProviderError> {
    let failed = |error: &ApiError| {
        let error = engine.failed(&format!("could not pull image `{name}`"), error);
        // Registries say the same of what does not exist and of what is not for us.
        let text = error.to_string();
        if ["manifest unknown", "not found", "does not exist"].iter().any(|words| text.contains(words)) {
            return ProviderError::new(ErrorKind::NotFound, text);
        }
        error
    };
    let (repository, tag) = split_tag(name);
    let registry = registry_of(name).unwrap_or("docker.io").to_owned();
    let credentials = tokio::task::spawn_blocking(move || credentials::find(&registry)).await.unwrap_or_default();
    let options = query::CreateImageOptions {
        from_image: Some(repository.to_owned()),
        tag: Some(tag.to_owned()),
        platform: platform.unwrap_or_default().to_owned(),
        ..Default::default()
    };
    progress(format!("pulling image `{name}`"));
    let mut layers = Layers::default();
    let mut steps = std::pin::pin!(engine.patient.create_image(Some(options), None, credentials));
    loop {
        let step = match tokio::time::timeout(STALL, steps.next()).await {
            Err(_) => return Err(failed(&ApiError::RequestTimeoutError)),
            Ok(None) => return Ok(()),
            Ok(Some(Err(error))) => return Err(failed(&error)),
            Ok(Some(Ok(step))) => step,
        };
        let detail = step.progress_detail.unwrap_or_default();
        let status = step.status.unwrap_or_default();
        if let Some(text) = layers.step(step.id.as_deref(), &status, detail.current, detail.total) {
            progress(format!("pulling image `{name}`: {text}"));
        }
    }
}

/// How far the layers of a pull have come.
#[derive(Default)]
struct Layers {
    layers: HashMap<String, Layer>,
    said: String,
}

#[derive(Default)]
struct Layer {
    done: bool,
    current: i64,
    total: i64,
}

impl Layers {
    /// Takes a step in; a text where it changes what is to be said.
    fn step(&mut self, id: Option<&str>, status: &str, current: Option<i64>, total: Option<i64>) -> Option<String> {
        let layer = self.layers.entry(id?.to_owned()).or_default();
        match status {
            "Pull complete" | "Already exists" | "Download complete" => {
                layer.done = true;
                layer.current = layer.total;
            }
            "Downloading" => {
                layer.current = current.unwrap_or(layer.current);
                layer.total = total.unwrap_or(layer.total);
            }
            "Pulling fs layer" | "Waiting" | "Verifying Checksum" | "Extracting" => {}
            // `Pulling from library/x` comes with the tag for an id.
            _ => {
                self.layers.remove(id?);
                return None;
            }
        }
        let done = self.layers.values().filter(|layer| layer.done).count();
        let (current, total) =
            self.layers.values().fold((0, 0), |(current, total), layer| (current + layer.current, total + layer.total));
        let mut text = format!("{done} of {} layers", self.layers.len());
        if total > 0 {
            // Tenths, so that not every step is said.
            text.push_str(&format!(", {}%", (current * 10 / total) * 10));
        }
        if text == self.said {
            return None;
        }
        self.said.clone_from(&text);
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_taken_apart() {
        for (name, registry, full, repository, tag) in [
            ("ubi9", None, "docker.io/library/ubi9", "ubi9", "latest"),
            ("jane/x:1", None, "docker.io/jane/x:1", "jane/x", "1"),
            ("quay.io/a/b", Some("quay.io"), "quay.io/a/b", "quay.io/a/b", "latest"),
            ("reg:5000/b:2", Some("reg:5000"), "reg:5000/b:2", "reg:5000/b", "2"),
            ("localhost/b", Some("localhost"), "localhost/b", "localhost/b", "latest"),
            ("a.b/c@sha256:0", Some("a.b"), "a.b/c@sha256:0", "a.b/c", "sha256:0"),
        ] {
            assert_eq!(registry_of(name), registry, "{name}");
            assert_eq!(qualified(name), full, "{name}");
            assert_eq!(split_tag(name), (repository, tag), "{name}");
        }
    }

    #[test]
    fn a_short_name_becomes_the_tag_that_it_meant() {
        let tags = ["localhost/mine:latest".to_owned(), "localhost/mine:1".to_owned()];
        assert_eq!(full_name(&tags, "mine").as_deref(), Some("localhost/mine:latest"));
        assert_eq!(full_name(&tags, "mine:1").as_deref(), Some("localhost/mine:1"));
        assert_eq!(full_name(&tags, "localhost/mine:1").as_deref(), Some("localhost/mine:1"));
        assert_eq!(full_name(&tags, "ne:1"), None);
        assert_eq!(full_name(&tags, "0123abcd"), None);
    }

    #[test]
    fn progress_is_said_when_it_changes() {
        let mut layers = Layers::default();
        assert_eq!(layers.step(Some("latest"), "Pulling from library/x", None, None), None);
        assert_eq!(layers.step(None, "Digest: sha256:0", None, None), None);
        assert_eq!(layers.step(Some("a"), "Pulling fs layer", None, None).as_deref(), Some("0 of 1 layers"));
        assert_eq!(layers.step(Some("b"), "Pulling fs layer", None, None).as_deref(), Some("0 of 2 layers"));
        assert_eq!(layers.step(Some("a"), "Downloading", Some(30), Some(100)).as_deref(), Some("0 of 2 layers, 30%"));
        assert_eq!(layers.step(Some("a"), "Downloading", Some(31), Some(100)), None);
        assert_eq!(layers.step(Some("a"), "Pull complete", None, None).as_deref(), Some("1 of 2 layers, 100%"));
    }
}
