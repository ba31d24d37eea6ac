//! Starting a job, being one, and asking one to stop.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use broker::provider::ProviderFactory;
use broker::settings::{BrokerDirectory, LogLevel};
use jiff::Timestamp;
use rustix::process::{Pid, Signal, kill_process};

use super::folder::{End, Folder, Job, Process, State};
use crate::app;
use crate::error::{Code, CommandError};
use crate::output::Console;

/// The word that makes a process a job. What it is to do comes by standard input, where no list of processes shows it.
const WORD: &str = "job";

/// A job, for the command that it runs.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) folder: Folder,
    /// The hosts that were chosen, and perhaps confirmed, when it was started: their ids.
    pub(crate) hosts: Vec<String>,
}

/// Starts a job that does what the words say, to these hosts where the command is about hosts. It goes on when this
/// process and its terminal are gone.
pub(crate) fn start(
    directory: &Path,
    command: &str,
    words: &[OsString],
    hosts: &[String],
) -> Result<Folder, CommandError> {
    let cannot = |error: io::Error| {
        CommandError::new(Code::Failed, format!("cannot start a job: {error}")).hint(
            "a job has a folder in the Broker directory, which `broker --version` names; without `-b` none is needed",
        )
    };
    let folder = Folder::make(directory).map_err(cannot)?;
    let started = begin(&folder, command, words, hosts);
    if started.is_err() {
        // What is left of it has no number that anybody was told.
        drop(folder.remove());
    }
    started.map_err(cannot)?;
    Ok(folder)
}

fn begin(folder: &Folder, command: &str, words: &[OsString], hosts: &[String]) -> io::Result<()> {
    folder.write(&Job { command: command.to_owned(), started_at: Timestamp::now(), process: None })?;
    let log = folder.create(&folder.log())?;
    // The lock belongs to the open file, which the job has as its standard error: so it runs from now on.
    log.lock()?;
    let printed = folder.create(&folder.printed())?;
    let mut child = Command::new(std::env::current_exe()?);
    child.arg(WORD).stdin(Stdio::piped()).stdout(printed).stderr(log);
    broker::in_own_session(&mut child);
    let mut child = child.spawn()?;
    let mut request = Vec::new();
    let head = [folder.number.to_string(), hosts.len().to_string(), words.len().to_string()];
    let head = head.iter().chain(hosts).map(|field| field.as_bytes());
    for field in head.chain(words.iter().map(|word| word.as_bytes())) {
        request.extend_from_slice(field);
        request.push(0);
    }
    let mut input = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
    input.write_all(&request)
}

/// Whether a command line makes this process a job.
pub(crate) fn is_meant(words: &[OsString]) -> bool {
    words == [WORD]
}

/// Does what a job is to do, and leaves its exit status behind.
pub(crate) fn run(providers: Vec<Arc<dyn ProviderFactory>>) -> u8 {
    let (job, words) = match prepare() {
        Ok(prepared) => prepared,
        Err(error) => {
            let error = CommandError::new(Code::Failed, format!("cannot begin the job: {error}"));
            Console::new(LogLevel::Info, false).failure(&error.into(), "");
            return Code::Failed.number();
        }
    };
    let folder = job.folder.clone();
    let code = app::run_words(providers, words, Some(job));
    if let Err(error) = folder.end(End { code, ended_at: Timestamp::now() }) {
        let error = CommandError::new(Code::Failed, format!("cannot write how the job ended: {error}"));
        Console::new(LogLevel::Info, false).failure(&error.into(), "");
    }
    code
}

fn prepare() -> io::Result<(Running, Vec<OsString>)> {
    let mut request = Vec::new();
    io::stdin().lock().read_to_end(&mut request)?;
    let (number, hosts, words) =
        parse(&request).ok_or_else(|| io::Error::other("half of what it is to do is missing"))?;
    let directory = BrokerDirectory::from_environment(std::env::vars_os()).map_err(io::Error::other)?;
    let folder = Folder::of(directory.path(), number);
    let pid = std::process::id();
    let process = Some(Process { pid, started: started(pid) });
    folder.write(&Job { process, ..folder.read()? })?;
    Ok((Running { folder, hosts }, words))
}

/// The number of the job, its hosts and its words; nothing if any of it is missing.
fn parse(request: &[u8]) -> Option<(u64, Vec<String>, Vec<OsString>)> {
    let mut fields = request.strip_suffix(b"\0")?.split(|byte| *byte == 0);
    let mut text = || String::from_utf8(fields.next()?.to_vec()).ok();
    let (number, hosts, words) =
        (text()?.parse().ok()?, text()?.parse::<usize>().ok()?, text()?.parse::<usize>().ok()?);
    let hosts: Vec<String> = (0..hosts).map_while(|_| text()).collect::<Vec<_>>();
    let given: Vec<OsString> = fields.map(|field| OsString::from_vec(field.to_vec())).collect();
    (given.len() == words).then_some((number, hosts, given))
}

/// When the system started a process; nothing where it does not tell.
fn started(pid: u32) -> Option<u64> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is a name in brackets that can have anything in it. This is the twenty-second (proc(5)).
    line.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// Asks a job to stop, as SIGTERM does. Whether there was one to ask.
pub(crate) fn cancel(folder: &Folder) -> io::Result<bool> {
    let State::Running = folder.state()? else { return Ok(false) };
    let Some(process) = folder.read()?.process else { return Ok(false) };
    let is_it = started(process.pid) == process.started;
    let pid = i32::try_from(process.pid).ok().and_then(Pid::from_raw).filter(|_| is_it);
    match pid.map(|pid| kill_process(pid, Signal::TERM)) {
        Some(Ok(())) => Ok(true),
        Some(Err(error)) if error != rustix::io::Errno::SRCH => Err(error.into()),
        Some(Err(_)) | None => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_request_is_none() {
        let whole = b"7\x002\x001\x00a\x00b\x00checkin\x00";
        let expected = (7, vec!["a".to_owned(), "b".to_owned()], vec![OsString::from("checkin")]);
        assert_eq!(parse(whole), Some(expected));
        for length in 0..whole.len() {
            assert_eq!(parse(&whole[..length]), None, "{length}");
        }
    }

    #[test]
    fn a_process_has_a_beginning() {
        assert!(started(std::process::id()).is_some() || !Path::new("/proc/self/stat").exists());
        assert_eq!(started(u32::MAX), None);
    }
}
