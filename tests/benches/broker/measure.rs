//! Time and memory: of child processes, of this one, and of things that take turns.

use std::fs::File;
use std::io::{Read, Seek};
use std::mem::MaybeUninit;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::Result;
use crate::report::{Samples, Value};

/// What something cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) wall: Duration,
    /// User and system time of all threads.
    pub(crate) cpu: Duration,
    /// The largest resident set in bytes. A child counts what its parent had when it was started.
    pub(crate) peak: u64,
}

/// Runs a program to its end with its output thrown away.
pub(crate) fn child(command: &mut Command) -> Result<Usage> {
    let mut stderr = tempfile::tempfile()?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr.try_clone()?);
    let begun = Instant::now();
    let (status, usage) = wait(command.spawn()?)?;
    let wall = begun.elapsed();
    if !status.success() {
        return Err(format!("`{command:?}` ended with {status}:\n{}", text_of(&mut stderr)?).into());
    }
    Ok(Usage { wall, cpu: cpu_of(&usage), peak: u64::try_from(usage.ru_maxrss).unwrap_or_default() * 1024 })
}

fn text_of(file: &mut File) -> Result<String> {
    let mut text = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Runs something in this process.
pub(crate) fn here<T>(work: impl FnOnce() -> Result<T>) -> Result<Usage> {
    let (begun, before) = (Instant::now(), own_cpu());
    drop(work()?);
    let wall = begun.elapsed();
    Ok(Usage { wall, cpu: own_cpu().saturating_sub(before), peak: 0 })
}

/// How long something takes.
pub(crate) fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(Duration, T)> {
    let begun = Instant::now();
    let value = work()?;
    Ok((begun.elapsed(), value))
}

#[expect(unsafe_code, reason = "the standard library does not tell what a child has used")]
fn wait(child: Child) -> Result<(ExitStatus, libc::rusage)> {
    let pid = libc::pid_t::try_from(child.id())?;
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    loop {
        // SAFETY: both pointers are to values of ours that are large enough. Zeros are a valid `rusage`. The child has
        // not been waited for, so that the number is its own.
        let waited = unsafe { libc::wait4(pid, &raw mut status, 0, usage.as_mut_ptr()) };
        if waited == pid {
            // SAFETY: it was filled with zeros, and then by the call.
            return Ok((ExitStatus::from_raw(status), unsafe { usage.assume_init() }));
        }
        let error = std::io::Error::last_os_error();
        if error.kind() != std::io::ErrorKind::Interrupted {
            return Err(error.into());
        }
    }
}

#[expect(unsafe_code, reason = "the standard library does not tell what this process has used")]
fn own_cpu() -> Duration {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointer is to a value that is large enough, and filled with zeros where the call should fail.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        usage.assume_init()
    };
    cpu_of(&usage)
}

fn cpu_of(usage: &libc::rusage) -> Duration {
    let time = |time: libc::timeval| {
        let seconds = Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or_default());
        seconds + Duration::from_micros(u64::try_from(time.tv_usec).unwrap_or_default())
    };
    time(usage.ru_utime) + time(usage.ru_stime)
}

/// Does several things in turn, `rounds` times, and gives the samples of each. Every other round goes backwards, so that
/// nothing has the better place. A round before them warms up.
pub(crate) fn in_turn<T, const N: usize>(
    rounds: usize,
    mut works: [&mut dyn FnMut() -> Result<T>; N],
) -> Result<[Vec<T>; N]> {
    let mut samples: [Vec<T>; N] = std::array::from_fn(|_| Vec::with_capacity(rounds));
    for round in 0..=rounds {
        let mut each: Vec<_> = works.iter_mut().zip(&mut samples).collect();
        if round % 2 == 1 {
            each.reverse();
        }
        for (work, samples) in each {
            let sample = work()?;
            if round > 0 {
                samples.push(sample);
            }
        }
    }
    Ok(samples)
}

pub(crate) fn median(numbers: impl Iterator<Item = f64>) -> f64 {
    let mut numbers: Vec<f64> = numbers.collect();
    numbers.sort_by(f64::total_cmp);
    let at = |index: usize| numbers.get(index).copied().unwrap_or(f64::NAN);
    let half = numbers.len() / 2;
    if numbers.len() % 2 == 1 { at(half) } else { f64::midpoint(at(half.wrapping_sub(1)), at(half)) }
}

pub(crate) fn wall(usages: &[Usage]) -> Samples {
    seconds(usages.iter().map(|usage| usage.wall))
}

pub(crate) fn cpu(usages: &[Usage]) -> Samples {
    seconds(usages.iter().map(|usage| usage.cpu))
}

pub(crate) fn peak(usages: &[Usage]) -> Samples {
    Samples { of: Value::Bytes, numbers: usages.iter().map(|usage| usage.peak as f64).collect() }
}

pub(crate) fn seconds(times: impl Iterator<Item = Duration>) -> Samples {
    Samples { of: Value::Seconds, numbers: times.map(|time| time.as_secs_f64()).collect() }
}
