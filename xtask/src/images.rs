//! The host images of the tests, built alike in every engine from `tests/images/NAME/Dockerfile`.

use std::fs;
use std::path::{Path, PathBuf};

use crate::engines::Engine;
use crate::rootfs::Recipe;
use crate::shell::{Context, Result, Workspace, finished, quietly, say};

struct Image {
    name: &'static str,
    origin: Origin,
}

enum Origin {
    /// `ADD rootfs.tar`, which is made by the recipe.
    Made(Recipe),
    /// `FROM` the tiny image.
    Tiny,
}

/// In the order in which they build on each other.
const IMAGES: [Image; 7] = [
    Image { name: "tiny", origin: Origin::Made(Recipe::Busybox) },
    Image { name: "debian", origin: Origin::Made(Recipe::Debian) },
    Image { name: "dropbear", origin: Origin::Made(Recipe::Busybox) },
    Image { name: "exits", origin: Origin::Tiny },
    Image { name: "health", origin: Origin::Tiny },
    Image { name: "health-late", origin: Origin::Tiny },
    Image { name: "ports", origin: Origin::Tiny },
];

/// The label that says which definition an image was built from.
const BUILT_FROM: &str = "broker.testhost";

/// The full name of a test image.
pub(crate) fn reference(name: &str) -> String {
    format!("localhost/broker-testhost:{name}")
}

/// Builds what this engine lacks, or has from another definition.
pub(crate) fn build_missing(workspace: &Workspace, engine: Engine) -> Result {
    for image in &IMAGES {
        let digest = image.digest(workspace)?;
        let present = image.present(engine)?;
        if present.as_ref().is_some_and(|(_, built_from)| *built_from == digest) {
            continue;
        }
        say(format!("building {} in {engine}", reference(image.name)));
        image.build(workspace, engine, &digest)?;
        if let Some((old, _)) = present {
            // It has lost its name. Where a container still uses it, it stays.
            finished(engine.command().args(["image", "rm", &old]))?;
        }
    }
    Ok(())
}

impl Image {
    fn definition(&self, workspace: &Workspace) -> PathBuf {
        workspace.root.join("tests/images").join(self.name)
    }

    /// Changes when anything changes that the image is made of.
    fn digest(&self, workspace: &Workspace) -> Result<String> {
        let mut digest = Digest::new();
        digest.folder(&self.definition(workspace))?;
        match self.origin {
            Origin::Made(_) => digest.add(include_bytes!("rootfs.rs")),
            Origin::Tiny => digest.add(IMAGES[0].digest(workspace)?.as_bytes()),
        }
        Ok(digest.hex())
    }

    /// The id of the image in this engine, and what it was built from.
    fn present(&self, engine: Engine) -> Result<Option<(String, String)>> {
        let format = format!("{{{{.Id}}}}|{{{{index .Config.Labels {BUILT_FROM:?}}}}}");
        let output = finished(engine.command().args(["image", "inspect", "--format", &format, &reference(self.name)]))?;
        let printed = String::from_utf8_lossy(&output.stdout);
        let fields = printed.trim().split_once('|').filter(|_| output.status.success());
        Ok(fields.map(|(id, built_from)| (id.to_owned(), built_from.to_owned())))
    }

    fn build(&self, workspace: &Workspace, engine: Engine, digest: &str) -> Result {
        let context = workspace.own("build").join(self.name);
        empty_folder(&context)?;
        for file in files(&self.definition(workspace))? {
            let to = context.join(file.file_name().unwrap_or_default());
            fs::copy(&file, &to).context(|| format!("cannot copy `{}`", file.display()))?;
        }
        if let Origin::Made(recipe) = &self.origin {
            let tar = self.rootfs(workspace, recipe, digest)?;
            fs::hard_link(&tar, context.join("rootfs.tar")).context(|| format!("cannot link `{}`", tar.display()))?;
        }
        let label = format!("{BUILT_FROM}={digest}");
        let mut command = engine.command();
        command.args(["build", "--label", &label, "--tag", &reference(self.name)]);
        match engine {
            // BuildKit may be set up to build, and to leave the image, elsewhere.
            Engine::Docker => command.env("DOCKER_BUILDKIT", "0"),
            // Podman's own format has no HEALTHCHECK; and it would look for the base in a registry called `localhost`.
            Engine::Podman => command.args(["--format", "docker", "--pull=never"]),
        };
        quietly(command.arg(&context))?;
        fs::remove_dir_all(&context).context(|| format!("cannot remove `{}`", context.display()))
    }

    /// The image's file tree: from the last time, where that was made the same way.
    fn rootfs(&self, workspace: &Workspace, recipe: &Recipe, digest: &str) -> Result<PathBuf> {
        let folder = workspace.own("rootfs");
        let tar = folder.join(format!("{}-{digest}.tar", self.name));
        if tar.is_file() {
            return Ok(tar);
        }
        fs::create_dir_all(&folder).context(|| format!("cannot create `{}`", folder.display()))?;
        for old in files(&folder)? {
            let ours =
                old.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&format!("{}-", self.name)));
            if ours {
                fs::remove_file(&old).context(|| format!("cannot remove `{}`", old.display()))?;
            }
        }
        say(format!("making the file tree of {}", reference(self.name)));
        let scratch = workspace.own("scratch");
        empty_folder(&scratch)?;
        let unfinished = folder.join(format!("{}-unfinished", self.name));
        recipe.make(&self.definition(workspace), &scratch, &unfinished)?;
        fs::rename(&unfinished, &tar).context(|| format!("cannot name `{}`", tar.display()))?;
        fs::remove_dir_all(&scratch).context(|| format!("cannot remove `{}`", scratch.display()))?;
        Ok(tar)
    }
}

fn empty_folder(path: &Path) -> Result {
    if path.exists() {
        fs::remove_dir_all(path).context(|| format!("cannot empty `{}`", path.display()))?;
    }
    fs::create_dir_all(path).context(|| format!("cannot create `{}`", path.display()))
}

/// The files of a folder, sorted.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let cannot = || format!("cannot read `{}`", folder.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).context(cannot)? {
        files.push(entry.context(cannot)?.path());
    }
    files.sort();
    Ok(files)
}

/// FNV-1a, 64 bits: the same in every version of Rust, unlike the standard library's hasher. No secret depends on it.
struct Digest(u64);

impl Digest {
    const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn add(&mut self, bytes: &[u8]) {
        // The length first, so that moving bytes from one part to the next changes the sum.
        for byte in (bytes.len() as u64).to_le_bytes().iter().chain(bytes) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn folder(&mut self, folder: &Path) -> Result {
        for file in files(folder)? {
            self.add(file.file_name().unwrap_or_default().as_encoded_bytes());
            self.add(&fs::read(&file).context(|| format!("cannot read `{}`", file.display()))?);
        }
        Ok(())
    }

    fn hex(&self) -> String {
        format!("{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever copies a command out of the README finds its image.
    #[test]
    fn the_readme_names_images_that_are_made() {
        let readme = include_str!("../../README.md");
        let named: Vec<&str> = readme
            .split(|character: char| character.is_whitespace() || "\"')`".contains(character))
            .filter(|word| word.starts_with("localhost/"))
            .collect();
        assert!(!named.is_empty());
        for name in named {
            assert!(IMAGES.iter().any(|image| reference(image.name) == name), "`{name}` is not made");
        }
    }

    fn digest(parts: &[&str]) -> String {
        let mut digest = Digest::new();
        parts.iter().for_each(|part| digest.add(part.as_bytes()));
        digest.hex()
    }

    #[test]
    fn a_digest_tells_definitions_apart() {
        assert_eq!(digest(&["ab", "c"]), digest(&["ab", "c"]));
        assert_ne!(digest(&["ab", "c"]), digest(&["a", "bc"]));
        assert_ne!(digest(&["ab"]), digest(&["ab", ""]));
    }

    #[test]
    fn every_image_has_a_definition_and_every_definition_is_built() {
        let workspace = Workspace::find().unwrap();
        let mut defined = files(&workspace.root.join("tests/images")).unwrap();
        defined.retain(|path| path.is_dir());
        let mut listed: Vec<_> = IMAGES.iter().map(|image| image.definition(&workspace)).collect();
        listed.sort();
        assert_eq!(defined, listed);
    }
}
