//! A server, and a wire to it that can be cut.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;

/// OpenSSH's server, one process a connection as inetd would start it, so that no port has to be guessed.
pub(super) struct Sshd {
    pub(super) directory: tempfile::TempDir,
    pub(super) address: SocketAddr,
    children: Arc<Mutex<Vec<Child>>>,
    over: Arc<AtomicBool>,
}

impl Sshd {
    pub(super) fn start(options: &str) -> Self {
        Self::start_on(TcpListener::bind("127.0.0.1:0").unwrap(), options)
    }

    pub(super) fn start_on(listener: TcpListener, options: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        for (name, kind) in [("host_ed25519", "ed25519"), ("user", "ed25519")] {
            keygen(&path(name), &["-t", kind]);
        }
        fs::copy(path("user.pub"), path("authorized")).unwrap();
        // Where it is missing, the server of Debian does not start for root.
        drop(fs::create_dir_all("/run/sshd"));
        let config = format!(
            "{options}\nUsePAM no\nStrictModes no\nPidFile none\nPermitRootLogin yes\nHostKey {}\n\
             AuthorizedKeysFile {}\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nSubsystem sftp internal-sftp\n\
             SetEnv HOME={}\n",
            path("host_ed25519").display(),
            path("authorized").display(),
            // What this user's shell reads when it starts is no part of the test, and may take seconds.
            directory.path().display(),
        );
        fs::write(path("config"), config).unwrap();
        let address = listener.local_addr().unwrap();
        let (children, over): (Arc<Mutex<Vec<Child>>>, Arc<AtomicBool>) = Default::default();
        std::thread::spawn({
            let (children, over) = (Arc::clone(&children), Arc::clone(&over));
            let directory = directory.path().to_owned();
            move || serve(&listener, &directory, &children, &over)
        });
        Self { directory, address, children, over }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(super) fn key(&self) -> Credential {
        Credential::KeyFile { path: self.path("user"), passphrase: None, named: true }
    }

    pub(super) fn target(&self) -> SshTarget {
        target(self.address, vec![self.key()])
    }

    pub(super) async fn connect(&self) -> Arc<dyn Connection> {
        connect(&self.target()).await.unwrap().0
    }

    /// Ends all its processes.
    pub(super) fn kill(&self) {
        for mut child in self.children.lock().unwrap().drain(..) {
            drop((child.kill(), child.wait()));
        }
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(self.address));
        self.kill();
    }
}

fn serve(listener: &TcpListener, directory: &Path, children: &Mutex<Vec<Child>>, over: &AtomicBool) {
    for stream in listener.incoming() {
        if over.load(Ordering::Relaxed) {
            return;
        }
        let stream = stream.unwrap();
        let log = fs::File::options().create(true).append(true).open(directory.join("log")).unwrap();
        let child = Command::new("/usr/sbin/sshd")
            .arg("-i")
            .arg("-e")
            .arg("-f")
            .arg(directory.join("config"))
            .stdin(Stdio::from(OwnedFd::from(stream.try_clone().unwrap())))
            .stdout(Stdio::from(OwnedFd::from(stream)))
            .stderr(log)
            .spawn()
            .expect("`/usr/sbin/sshd` is missing: install `openssh-server`");
        let mut children = children.lock().unwrap();
        children.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
        children.push(child);
    }
}

pub(super) fn target(address: SocketAddr, credentials: Vec<Credential>) -> SshTarget {
    SshTarget {
        label: "lab".to_owned(),
        address: address.ip().to_string(),
        port: address.port(),
        user: user(),
        credentials,
        host_key: HostKeyPolicy::AcceptNew,
        families: Families::Ipv4,
        jump: None,
        limits: SshLimits { handshake: SOON, ..SshLimits::default() },
        backend: crate::settings::SshBackend::default(),
    }
}

/// Who runs the tests.
fn user() -> String {
    let output = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

pub(super) fn keygen(path: &Path, options: &[&str]) {
    let passphrase = if options.contains(&"-N") { &[][..] } else { &["-N", ""] };
    let output = Command::new("ssh-keygen").args(["-q", "-f"]).arg(path).args(options).args(passphrase).output();
    let output = output.expect("`ssh-keygen` is missing: install `openssh-client`");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A wire to a server that can be cut without either side hearing of it.
pub(super) struct Wire {
    pub(super) address: SocketAddr,
    cut: Arc<AtomicBool>,
}

impl Wire {
    pub(super) fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let cut = Arc::new(AtomicBool::new(false));
        let is_cut = Arc::clone(&cut);
        std::thread::spawn(move || {
            for near in listener.incoming() {
                let (near, far) = (near.unwrap(), TcpStream::connect(server).unwrap());
                for (mut from, mut to) in [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near)] {
                    let is_cut = Arc::clone(&is_cut);
                    std::thread::spawn(move || {
                        let mut buffer = vec![0; 64 * 1024];
                        while let Ok(read @ 1..) = from.read(&mut buffer) {
                            while is_cut.load(Ordering::Relaxed) {
                                std::thread::sleep(Duration::from_millis(100));
                            }
                            if to.write_all(&buffer[..read]).is_err() {
                                break;
                            }
                        }
                        drop(to.shutdown(Shutdown::Write));
                    });
                }
            }
        });
        Self { address, cut }
    }

    pub(super) fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.cut.store(false, Ordering::Relaxed);
    }
}
