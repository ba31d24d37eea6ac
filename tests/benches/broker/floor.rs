//! Floors that have to be processes: this program again, told to do the least that the job needs.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::Result;

/// The first argument of such a process.
pub(crate) const MODE: &str = "--floor";

/// Reads a file and parses each of its lines.
pub(crate) fn parse(file: &Path) -> Result<Command> {
    let mut command = this_program()?;
    command.arg("parse").arg(file);
    Ok(command)
}

/// Appends so many bytes to a file in so many writes, with a sync each.
pub(crate) fn append(file: &Path, bytes: u64, writes: u64) -> Result<Command> {
    let mut command = this_program()?;
    command.arg("append").arg(file).args([bytes.to_string(), writes.to_string()]);
    Ok(command)
}

fn this_program() -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(MODE);
    Ok(command)
}

/// What the process does.
pub(crate) fn run(arguments: &[String]) -> Result {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["parse", file] => parse_lines(Path::new(file)),
        ["append", file, bytes, writes] => {
            let file = OpenOptions::new().append(true).create(true).open(file)?;
            append_synced(&file, bytes.parse()?, writes.parse()?)
        }
        _ => Err(format!("there is no floor `{}`", arguments.join(" ")).into()),
    }
}

/// Reads a file and parses each of its lines.
pub(crate) fn parse_lines(file: &Path) -> Result {
    let text = std::fs::read(file)?;
    for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        drop(std::hint::black_box(serde_json::from_slice::<Value>(line)?));
    }
    Ok(())
}

/// Appends so many bytes in so many writes, with a sync each.
pub(crate) fn append_synced(mut file: &File, bytes: usize, writes: usize) -> Result {
    let piece = vec![b'x'; bytes / writes];
    for _ in 0..writes {
        file.write_all(&piece)?;
        file.sync_data()?;
    }
    Ok(())
}
