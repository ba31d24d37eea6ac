//! How much memory a process needs to move a large file, in a process of its own.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use broker::block_on;
use broker::prelude::*;
use broker_tests::ssh::{HOST_ACTION, Lab, Server};

use super::{Master, server};
use crate::report::{Bench, Samples, Target, Value};
use crate::{Result, fixtures};

/// The first argument of such a process.
pub(crate) const MODE: &str = "--ssh-memory";

const CASE: &str = "ssh/memory/1 GiB there and back";

/// What the process may have at the most, with all that it brings along.
const LIMIT: f64 = 64.0 * 1024.0 * 1024.0;

pub(super) fn run(bench: &mut Bench) -> Result {
    if !bench.wants(CASE) {
        return Ok(());
    }
    let server = server();
    let directory = fixtures::directory()?;
    let source = directory.path().join("source");
    // Without room on the disk; on its way it is as any other.
    File::create(&source)?.set_len(bench.size(1 << 30, 128 << 20))?;
    let mut ours = Command::new(std::env::current_exe()?);
    ours.arg(MODE).arg(server.port().to_string()).arg(server.user()).arg(server.key().path()).arg(&source);
    let ours = peak_of(&mut ours)?;
    let floor = floor(&server, &source)?;
    let bytes = |number: u64| Samples { of: Value::Bytes, numbers: vec![number as f64] };
    bench.row(&format!("{CASE}/peak"), &bytes(ours), &bytes(floor), Target::AtMost(Value::Bytes(LIMIT)));
    bench.note("the floor: `sftp` doing the same, without the `ssh` that it goes through");
    Ok(())
}

fn floor(server: &Server, source: &Path) -> Result<u64> {
    let master = Master::open(server, server.address(), 0)?;
    let (batch, there, back) =
        (source.with_file_name("batch"), source.with_file_name("there"), source.with_file_name("back"));
    let lines = format!("put {0} {1}\nget {1} {2}\n", source.display(), there.display(), back.display());
    std::fs::write(&batch, lines)?;
    peak_of(master.client("sftp").arg("-q").arg("-b").arg(&batch).arg("lab"))
}

/// The largest resident set of a program, in bytes, as the kernel has it while the program runs.
fn peak_of(command: &mut Command) -> Result<u64> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let mut peak = 0;
    let status = loop {
        peak = peak_so_far(child.id()).unwrap_or(peak);
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    };
    if status.success() {
        return Ok(peak);
    }
    let mut said = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        stderr.read_to_string(&mut said)?;
    }
    Err(format!("`{command:?}` ended with {status}: {said}").into())
}

fn peak_so_far(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// What the process does: the file there, and back.
pub(crate) fn child(arguments: &[String]) -> Result {
    let [port, user, key, source] = arguments else { return Err("expected PORT USER KEY FILE".into()) };
    let lab = Lab::new();
    let request = HostRequest::action(HOST_ACTION, "bench")
        .arg("address", "127.0.0.1")
        .arg("port", port.as_str())
        .arg("user", user.as_str())
        .arg("key_file", key.as_str());
    let host = lab.host(request);
    let (source, there, back) =
        (Path::new(source), format!("{source}-there"), Path::new(source).with_file_name("own-back"));
    block_on(host.put(source, there.as_str()))??;
    block_on(host.get(there.as_str(), &back))??;
    for path in [Path::new(&there), &back] {
        let (moved, size) = (std::fs::metadata(path)?.len(), std::fs::metadata(source)?.len());
        if moved != size {
            return Err(format!("`{}` has {moved} bytes of {size}", path.display()).into());
        }
        std::fs::remove_file(path)?;
    }
    Ok(())
}
