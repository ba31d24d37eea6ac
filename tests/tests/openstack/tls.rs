//! Encryption, which the lab's services do not have: a terminator stands in front of them.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use crate::Lab;

/// An authority, and certificates by it for this machine and for a client.
struct Certificates(tempfile::TempDir);

impl Certificates {
    fn new() -> Self {
        let made = Self(tempfile::tempdir().unwrap());
        made.openssl("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=lab-ca -keyout ca.key -out ca.pem");
        std::fs::write(made.path("extensions"), "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n").unwrap();
        for name in ["server", "client"] {
            made.openssl(&format!(
                "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr"
            ));
            made.openssl(&format!(
                "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out {name}.pem"
            ));
        }
        made
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_string_lossy().into_owned()
    }

    fn openssl(&self, line: &str) {
        let output = Command::new("openssl").args(line.split(' ')).current_dir(self.0.path()).output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn certificates(&self, name: &str) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_file_iter(self.path(name)).unwrap().map(Result::unwrap).collect()
    }

    /// Listens, and leads what was decrypted to `to`. With `asks` it wants a certificate of the client.
    fn terminator(&self, to: &str, asks: bool) -> String {
        let provider = Arc::new(default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(self.certificates("ca.pem"));
        let builder = if asks {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let key = PrivateKeyDer::from_pem_file(self.path("server.key")).unwrap();
        let config = Arc::new(builder.with_single_cert(self.certificates("server.pem"), key).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let to = to.to_owned();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (config, to, stream) = (Arc::clone(&config), to.clone(), stream.unwrap());
                // One that does not believe us hangs up.
                std::thread::spawn(move || drop(pass(&config, stream, &to)));
            }
        });
        format!("https://{address}")
    }
}

/// One request and its answer: the wire behind closes each connection.
fn pass(config: &Arc<ServerConfig>, stream: TcpStream, to: &str) -> io::Result<()> {
    let connection = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
    let mut client = StreamOwned::new(connection, stream);
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while !is_whole(&request) {
        let count = client.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        request.extend_from_slice(&buffer[..count]);
    }
    let mut service = TcpStream::connect(to)?;
    service.write_all(&request)?;
    let mut answer = Vec::new();
    service.read_to_end(&mut answer)?;
    client.write_all(&answer)?;
    client.conn.send_close_notify();
    client.flush()?;
    client.sock.shutdown(Shutdown::Write)
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    body.len() >= length.unwrap_or(0)
}

fn settings(lab: &Lab, terminator: &str, more: &str) {
    let address = lab.wire.address();
    lab.env.write_settings(&lab.settings(more).replace(&format!("http://{address}"), terminator));
}

const QUESTION: &str = "providers OpenStack --quota";

#[test]
fn only_a_cloud_that_is_believed_gets_the_password() {
    let lab = Lab::new();
    let certificates = Certificates::new();
    let terminator = certificates.terminator(&lab.wire.address(), false);
    settings(&lab, &terminator, "");
    let says = lab.fails(QUESTION, 7);
    assert!(says.contains("UnknownIssuer") || says.contains("certificate"), "{says}");
    assert_eq!(lab.wire.requests(), 0, "nobody was told anything");

    settings(&lab, &terminator, &format!("cacert: {}", certificates.path("ca.pem")));
    lab.broker(QUESTION);
    settings(&lab, &terminator, &format!("verify: {}", certificates.path("ca.pem")));
    lab.broker(QUESTION);

    settings(&lab, &terminator, "verify: false");
    let ran = lab.broker(QUESTION);
    assert!(ran.stderr.contains("`verify: false`: whoever answers is believed"), "{ran}");

    settings(&lab, &terminator, "cacert: /no/such/file.pem");
    let says = lab.fails(QUESTION, 8);
    assert!(says.contains("`/no/such/file.pem`"), "{says}");
}

#[test]
fn a_certificate_of_ours_is_shown() {
    let lab = Lab::new();
    let certificates = Certificates::new();
    let terminator = certificates.terminator(&lab.wire.address(), true);
    let ca = format!("cacert: {}", certificates.path("ca.pem"));
    settings(&lab, &terminator, &ca);
    lab.fails(QUESTION, 7);
    assert_eq!(lab.wire.requests(), 0);
    let [cert, key] = ["client.pem", "client.key"].map(|name| certificates.path(name));
    settings(&lab, &terminator, &format!("{ca}\ncert: {cert}\nkey: {key}"));
    lab.broker(QUESTION);
    // Both in one file.
    let both = [cert.as_str(), key.as_str()].map(|path| std::fs::read_to_string(path).unwrap()).concat();
    let one = Path::new(&cert).with_file_name("both.pem");
    std::fs::write(&one, both).unwrap();
    settings(&lab, &terminator, &format!("{ca}\ncert: {}", one.display()));
    lab.broker(QUESTION);
}
