//! Whom to believe when a connection is encrypted.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use broker_core::provider::{ErrorKind, ProviderError};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

/// What is believed and shown when a connection is encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// Whether certificates are looked at.
    pub verify: bool,
    /// Certificates of the authorities that are believed, instead of the system's.
    pub ca: Option<PathBuf>,
    /// A certificate of ours, and its key where that is in another file.
    pub client: Option<(PathBuf, Option<PathBuf>)>,
}

/// The configuration of all connections to a service. Reads files.
///
/// # Errors
///
/// If a file does not do, with its name.
pub(super) fn configuration(tls: &Tls) -> Result<ClientConfig, ProviderError> {
    let provider = Arc::new(ring::default_provider());
    let bad =
        |error: rustls::Error| settings("the encryption of connections cannot be set up".to_owned()).source(error);
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().map_err(bad)?;
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier(tls, provider)?);
    let Some((certificate, key)) = &tls.client else { return Ok(builder.with_no_client_auth()) };
    let chain = certificates(certificate)?;
    let key_file = key.as_ref().unwrap_or(certificate);
    let key = PrivateKeyDer::from_pem_file(key_file)
        .map_err(|error| settings(format!("`{}` holds no private key", key_file.display())).source(error))?;
    builder.with_client_auth_cert(chain, key).map_err(|error| {
        let message = format!("the key in `{}` does not do for `{}`", key_file.display(), certificate.display());
        settings(message).source(error)
    })
}

fn verifier(tls: &Tls, provider: Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, ProviderError> {
    if !tls.verify {
        return Ok(Arc::new(Anybody(provider)));
    }
    let Some(file) = &tls.ca else {
        return Ok(match rustls_platform_verifier::Verifier::new(Arc::clone(&provider)) {
            Ok(verifier) => Arc::new(verifier),
            Err(error) => {
                tracing::debug!(%error, "this system names no authorities: connections that are encrypted will fail.");
                Arc::new(Nobody(provider))
            }
        });
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots
            .add(certificate)
            .map_err(|error| settings(format!("`{}` holds a bad certificate", file.display())).source(error))?;
    }
    let built = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
    let built = built.map_err(|error| settings(format!("`{}` does not do", file.display())).source(error))?;
    Ok(built)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, ProviderError> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let read =
        read.map_err(|error| settings(format!("cannot read certificates from `{}`", file.display())).source(error))?;
    if read.is_empty() {
        return Err(settings(format!("`{}` holds no certificates", file.display())));
    }
    Ok(read)
}

fn settings(message: String) -> ProviderError {
    ProviderError::new(ErrorKind::Settings, message)
}

/// Believes whoever answers: what `verify: false` asks for.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

/// Believes nobody, as there is no authority to ask.
#[derive(Debug)]
struct Nobody(Arc<CryptoProvider>);

/// Signatures are checked alike by both: only the certificate is not.
macro_rules! verifier_of {
    ($name:ident, $verdict:expr) => {
        impl ServerCertVerifier for $name {
            fn verify_server_cert(
                &self,
                _: &CertificateDer<'_>,
                _: &[CertificateDer<'_>],
                _: &ServerName<'_>,
                _: &[u8],
                _: UnixTime,
            ) -> Result<ServerCertVerified, rustls::Error> {
                $verdict
            }

            fn verify_tls12_signature(
                &self,
                message: &[u8],
                certificate: &CertificateDer<'_>,
                signed: &DigitallySignedStruct,
            ) -> Result<HandshakeSignatureValid, rustls::Error> {
                verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
            }

            fn verify_tls13_signature(
                &self,
                message: &[u8],
                certificate: &CertificateDer<'_>,
                signed: &DigitallySignedStruct,
            ) -> Result<HandshakeSignatureValid, rustls::Error> {
                verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
            }

            fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
                self.0.signature_verification_algorithms.supported_schemes()
            }
        }
    };
}

verifier_of!(Anybody, Ok(ServerCertVerified::assertion()));
verifier_of!(Nobody, Err(rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer)));
