//! A server on loopback, from its start to its end.

use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use tempfile::TempDir;

use super::jail::{self, Jail};
use super::keys::{Key, Kind};
use super::openssh;
use super::process::{self, Process, bound_to_this_process};
use super::setup::{Program, Setup};
use crate::wait;

/// A server. Dropping it ends it, with its connections and all that they have started.
#[derive(Debug)]
pub struct Server {
    directory: TempDir,
    setup: Setup,
    port: Mutex<u16>,
    key: Key,
    jail: Option<Jail>,
    log: PathBuf,
    process: Mutex<Option<Process>>,
}

/// A port that is free now, and that no outgoing connection is given.
///
/// # Panics
///
/// If there is none.
pub fn free_port() -> u16 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let mut seed = u64::from(std::process::id()) << 32 | u64::from(now.subsec_nanos());
    for _ in 0..1000 {
        let number = u16::from_le_bytes(crate::conformance::session::noise(seed, 2).try_into().unwrap());
        let port = 12_000 + number % 20_000;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
        seed = seed.wrapping_add(0x9e37_79b9);
    }
    panic!("no free port between 12000 and 32000");
}

impl Server {
    /// What `setup` says, not started.
    pub(super) fn prepared(setup: Setup) -> Self {
        let directory = tempfile::Builder::new().prefix("broker-ssh-").tempdir().unwrap();
        // The users of a jail have to get through.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let at = |name: &str| directory.path().join(name);
        for kind in &setup.host_keys {
            Key::make(at(&format!("host_{}", kind.name())), *kind, "");
        }
        let jail = setup.jailed.then(|| Jail::make(at("jail"), &setup.shell));
        let key = Key::make(at("user"), Kind::Ed25519, "");
        let (log, port) = (at("log"), Mutex::new(free_port()));
        let server = Self { directory, setup, port, key, jail, log, process: Mutex::new(None) };
        server.authorize(&server.key);
        server
    }

    /// The directory of its files.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Where it listens: stays the same when it is stopped and started again.
    ///
    /// # Panics
    ///
    /// If a test has panicked in the middle of a change.
    pub fn address(&self) -> SocketAddr {
        (self.setup.listens_at, *self.port.lock().unwrap()).into()
    }

    /// The port that it listens at.
    pub fn port(&self) -> u16 {
        self.address().port()
    }

    /// The user to log in as.
    pub fn user(&self) -> String {
        if self.jail.is_some() { "root".to_owned() } else { jail::own_user() }
    }

    /// A key that lets everybody in.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Its users' homes and the like.
    ///
    /// # Panics
    ///
    /// If it has none of its own.
    pub fn jail(&self) -> &Jail {
        self.jail.as_ref().expect("the server has no jail")
    }

    /// The public host key of a kind.
    ///
    /// # Panics
    ///
    /// If it has none.
    pub fn host_key(&self, kind: Kind) -> String {
        self.host_key_pair(kind).public()
    }

    /// The host key of a kind.
    ///
    /// # Panics
    ///
    /// If it has none.
    pub fn host_key_pair(&self, kind: Kind) -> Key {
        assert!(self.setup.host_keys.contains(&kind), "no host key {kind:?}");
        Key::at(self.directory.path().join(format!("host_{}", kind.name())))
    }

    /// A line of `known_hosts` with one of its keys.
    ///
    /// # Panics
    ///
    /// If it has none of that kind.
    pub fn known_hosts_line(&self, kind: Kind) -> String {
        format!("[{}]:{} {}\n", self.address().ip(), self.port(), self.host_key(kind))
    }

    /// Gives it other host keys. It has them after its next start.
    ///
    /// # Panics
    ///
    /// If they cannot be made.
    pub fn change_host_keys(&self) {
        for kind in &self.setup.host_keys {
            let path = self.directory.path().join(format!("host_{}", kind.name()));
            fs::remove_file(&path).unwrap();
            Key::make(path, *kind, "");
        }
    }

    /// Lets a key in.
    ///
    /// # Panics
    ///
    /// If that cannot be written down.
    pub fn authorize(&self, key: &Key) {
        let path = self.directory.path().join("authorized_keys");
        let keys = fs::read_to_string(&path).unwrap_or_default() + &key.public() + "\n";
        if let Some(jail) = &self.jail {
            for user in ["root", jail::TESTER] {
                jail.write(user, ".ssh/authorized_keys", &keys);
            }
        }
        fs::write(&path, keys).unwrap();
    }

    /// Starts it, and returns when it answers.
    ///
    /// # Panics
    ///
    /// If it does not, or runs already.
    pub fn start(&self) {
        let mut process = self.process.lock().unwrap();
        assert!(process.is_none(), "it runs already");
        // Somebody else may take the port between the look and the use, and an old connection may still have it.
        for attempt in 1.. {
            let begun = fs::metadata(&self.log).map_or(0, |log| log.len());
            let started = Process::start(self.command(), &self.log);
            if answers(&started, self.address()) {
                *process = Some(started);
                return;
            }
            started.kill();
            let log = started.log();
            let said = log.get(usize::try_from(begun).unwrap()..).unwrap_or_default();
            assert!(said.contains("in use") && attempt < 20, "the server does not run:\n{said}");
            if begun == 0 {
                *self.port.lock().unwrap() = free_port();
                fs::remove_file(&self.log).unwrap();
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Kills it, its connections and their commands, as a machine that loses its power.
    ///
    /// # Panics
    ///
    /// If it cannot be waited for.
    pub fn stop(&self) {
        if let Some(process) = self.process.lock().unwrap().take() {
            process.kill();
        }
    }

    /// Kills its connections and their commands; it goes on listening.
    ///
    /// # Panics
    ///
    /// If it does not run.
    pub fn drop_connections(&self) {
        let process = self.process.lock().unwrap();
        let process = process.as_ref().expect("the server does not run");
        let servers = self.listeners(process);
        let below: Vec<u32> = process.descendants().into_iter().filter(|pid| !servers.contains(pid)).collect();
        process::kill_all(&below);
    }

    /// How many connections it has.
    ///
    /// # Panics
    ///
    /// If it does not run.
    pub fn connections(&self) -> usize {
        let process = self.process.lock().unwrap();
        let process = process.as_ref().expect("the server does not run");
        let listener = self.listeners(process).last().copied();
        let below = process.descendants();
        below.into_iter().filter(|pid| listener.is_some_and(|listener| process::parent(*pid) == Some(listener))).count()
    }

    /// The processes from the one that was started to the one that listens.
    fn listeners(&self, process: &Process) -> Vec<u32> {
        // In a jail: `unshare`, and the server as its only child.
        if self.jail.is_none() { vec![process.pid()] } else { process.descendants().into_iter().take(1).collect() }
    }

    /// Everything that it has printed.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// `ssh`, `scp` or `sftp` of OpenSSH, set up for this server under the name `lab`.
    ///
    /// # Panics
    ///
    /// If there is no room for its settings.
    pub fn client(&self, program: &str) -> Command {
        self.client_at(program, self.address())
    }

    /// The same by way of another address.
    ///
    /// # Panics
    ///
    /// If there is no room for its settings.
    pub fn client_at(&self, program: &str, at: SocketAddr) -> Command {
        let settings = self.directory.path().join(format!("client_config_{}", at.port()));
        let known_hosts = self.directory.path().join("client_known_hosts");
        let keys: String =
            self.setup.host_keys.iter().map(|kind| format!("{} {}\n", openssh::ALIAS, self.host_key(*kind))).collect();
        fs::write(&known_hosts, keys).unwrap();
        fs::write(&settings, openssh::client_settings(at, &self.user(), self.key.path(), &known_hosts)).unwrap();
        let mut command = Command::new(program);
        command.arg("-F").arg(settings);
        command
    }

    fn command(&self) -> Command {
        let program = match self.setup.program {
            Program::OpenSsh => "/usr/sbin/sshd",
            Program::Dropbear => "/usr/sbin/dropbear",
        };
        assert!(Path::new(program).is_file(), "there is no `{program}`: `cargo xtask setup` installs it");
        if jail::is_root() {
            // Where `sshd` puts the part of itself that strangers talk to. Debian makes it when the service starts.
            fs::create_dir_all("/run/sshd").unwrap();
        }
        let mut command = match &self.jail {
            Some(jail) => jail.command(program),
            None => bound_to_this_process(program),
        };
        let key = |kind: &Kind| self.directory.path().join(format!("host_{}", kind.name()));
        match self.setup.program {
            Program::OpenSsh => {
                let settings = self.directory.path().join("sshd_config");
                let keys: Vec<PathBuf> = self.setup.host_keys.iter().map(key).collect();
                let authorized = self.directory.path().join("authorized_keys");
                let text = openssh::server_settings(
                    &self.setup.options,
                    self.address(),
                    &keys,
                    &authorized,
                    self.setup.sftp.as_deref(),
                    self.jail.is_some(),
                );
                fs::write(&settings, text).unwrap();
                command.args(["-D", "-e", "-f"]).arg(settings);
            }
            Program::Dropbear => {
                command.args(["-F", "-E", "-m", "-P", "/dev/null", "-p", &self.address().to_string()]);
                for kind in &self.setup.host_keys {
                    command.arg("-r").arg(dropbear_key(&key(kind)));
                }
                command.args(&self.setup.options);
            }
        }
        command
    }
}

/// The host key in dropbear's own form.
fn dropbear_key(key: &Path) -> PathBuf {
    let converted = key.with_extension("dropbear");
    let output =
        Command::new("dropbearconvert").args(["openssh", "dropbear"]).arg(key).arg(&converted).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    converted
}

/// Waits until a server has said who it is, or has ended.
fn answers(process: &Process, at: SocketAddr) -> bool {
    let end = Instant::now() + wait::SOON;
    while Instant::now() < end && process.is_running() {
        let greeted = || -> std::io::Result<bool> {
            let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(5))?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            let mut greeting = [0; 4];
            stream.read_exact(&mut greeting)?;
            Ok(&greeting == b"SSH-")
        };
        if greeted().unwrap_or(false) {
            return true;
        }
        std::thread::sleep(wait::PERIOD);
    }
    false
}
