//! The file trees of the host images, made of Debian's packages: no image registry is asked. What an image is made of
//! is said in its folder under `tests/images`.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::shell::{self, Context, Result, quietly, say, which};

/// How a tree is made.
pub(crate) enum Recipe {
    /// Busybox with a link for each of its applets, and what else the image's `packages` file names, unpacked.
    Busybox,
    /// The smallest Debian, with the packages that the image's `packages` file names.
    Debian,
}

impl Recipe {
    /// Writes the tree to a tar file. `definition` is the image's folder, `scratch` an empty one to work in.
    pub(crate) fn make(&self, definition: &Path, scratch: &Path, tar: &Path) -> Result {
        match self {
            Self::Busybox => busybox(definition, scratch, tar),
            Self::Debian => debian(definition, tar),
        }
    }
}

fn busybox(definition: &Path, scratch: &Path, tar: &Path) -> Result {
    let root = scratch.join("root");
    for package in words(&definition.join("packages"))? {
        download(&package, scratch)?;
        let deb = fs::read_dir(scratch)
            .context(|| format!("cannot read `{}`", scratch.display()))?
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .ok_or_else(|| format!("`apt-get download {package}` left no package"))?;
        quietly(Command::new("dpkg-deb").arg("--extract").arg(&deb).arg(&root))?;
        fs::remove_file(&deb).context(|| format!("cannot remove `{}`", deb.display()))?;
    }
    // Manuals and the like.
    fs::remove_dir_all(root.join("usr/share")).context(|| "the packages hold no `usr/share`".into())?;
    let installed = root.join("bin/busybox");
    let in_usr = root.join("usr/bin/busybox");
    if in_usr.is_file() {
        create_folder(&root.join("bin"))?;
        fs::rename(&in_usr, &installed).context(|| format!("cannot move `{}`", in_usr.display()))?;
    }
    for folder in ["bin", "dev", "etc", "proc", "root", "run", "srv", "sys", "tmp", "usr/bin", "var/tmp"] {
        create_folder(&root.join(folder))?;
    }
    for folder in ["tmp", "var/tmp"] {
        let path = root.join(folder);
        fs::set_permissions(&path, Permissions::from_mode(0o1777)).context(|| format!("`{}`", path.display()))?;
    }
    for applet in quietly(Command::new(&installed).arg("--list-full"))?.lines().filter(|path| *path != "bin/busybox") {
        let link = root.join(applet);
        if let Some(folder) = link.parent() {
            create_folder(folder)?;
        }
        if !link.exists() {
            symlink("/bin/busybox", &link).context(|| format!("cannot link `{}`", link.display()))?;
        }
    }
    write(&root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")?;
    write(&root.join("etc/group"), "root:x:0:\n")?;
    let owner = ["--owner=0", "--group=0", "--numeric-owner", "--create", "--file"];
    quietly(Command::new("tar").args(owner).arg(tar).arg("--directory").arg(&root).arg(".")).map(drop)
}

fn download(package: &str, into: &Path) -> Result {
    let fetch = || quietly(Command::new("apt-get").arg("download").arg(package).current_dir(into)).map(drop);
    fetch().or_else(|_| {
        shell::refresh_package_lists()?;
        fetch()
    })
}

fn debian(definition: &Path, tar: &Path) -> Result {
    // debootstrap does the same, four times slower.
    if which("mmdebstrap").is_none() {
        shell::install(&["mmdebstrap"])?;
    }
    let packages = words(&definition.join("packages"))?.join(",");
    let suite = words(&definition.join("suite"))?.join(" ");
    say(format!("downloading and unpacking Debian {suite}: about 20s"));
    let include = format!("--include={packages}");
    let output = File::create(tar).context(|| format!("cannot create `{}`", tar.display()))?;
    // Written to standard output, so that the file is this user's where sudo was needed.
    let child = shell::as_root(&[
        "mmdebstrap",
        "--variant=minbase",
        &include,
        "--aptopt=APT::Install-Recommends \"false\"",
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
        "--dpkgopt=path-exclude=/usr/share/man/*",
        // The engine makes /dev; unpacking device nodes would need an engine that runs as root.
        "--skip=output/dev",
        "--customize-hook=echo root:toor | chroot \"$1\" chpasswd",
        // Made at each start instead, so that no two hosts have the same.
        "--customize-hook=rm -f \"$1\"/etc/ssh/ssh_host_*",
        &suite,
        "-",
    ])?
    .stdin(Stdio::null())
    .stdout(output)
    .stderr(Stdio::piped())
    .spawn()
    .context(|| "cannot run `mmdebstrap`".into())?;
    let ended = child.wait_with_output().context(|| "cannot wait for `mmdebstrap`".into())?;
    if !ended.status.success() {
        let tail = shell::last_lines(&String::from_utf8_lossy(&ended.stderr), 15);
        return Err(format!("`mmdebstrap` failed ({})\n{tail}", ended.status));
    }
    Ok(())
}

/// The lines of a definition's list, without comments.
fn words(file: &PathBuf) -> Result<Vec<String>> {
    let text = fs::read_to_string(file).context(|| format!("cannot read `{}`", file.display()))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.map(str::to_owned).collect())
}

fn create_folder(path: &Path) -> Result {
    fs::create_dir_all(path).context(|| format!("cannot create `{}`", path.display()))
}

fn write(path: &Path, text: &str) -> Result {
    fs::write(path, text).context(|| format!("cannot write `{}`", path.display()))
}
