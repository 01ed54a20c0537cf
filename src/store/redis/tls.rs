//! TLS to a server: whom we believe, and who we are.

use std::sync::Arc;
use std::{fs, io};

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::failure::Failure;
use super::target::Misfit;
use crate::store::Config;

/// Whom we believe.
pub(super) const CA: &str = "store.tls_ca_file";
/// Who we are.
pub(super) const CERT: &str = "store.tls_cert_file";
/// The secret that proves it.
const KEY: &str = "store.tls_key_file";

/// The files of a connection over TLS. They are read anew for each one: certificates are renewed.
#[derive(Clone)]
pub(super) struct Tls {
    /// Empty = whom the system believes.
    ca: String,
    /// Our certificate and its key, where the server wants to know us.
    ours: Option<(String, String)>,
}

impl Tls {
    /// Reads the settings; `None` where the connection is not over TLS.
    ///
    /// # Errors
    /// Settings that say nothing without TLS, or without each other.
    pub(super) fn new(config: &Config, wanted: bool) -> Result<Option<Self>, Misfit> {
        let Config { tls_ca_file: ca, tls_cert_file: cert, tls_key_file: key, .. } = config;
        let settings = [(CA, ca), (CERT, cert), (KEY, key)];
        if let (false, Some((setting, _))) = (wanted, settings.iter().find(|(_, file)| !file.is_empty())) {
            return Err((setting, "store.url has no TLS: write rediss://, or remove this".to_owned()));
        }
        let ours = match (cert.is_empty(), key.is_empty()) {
            (true, true) => None,
            (false, false) => Some((cert.clone(), key.clone())),
            (true, false) => {
                return Err((CERT, "is missing: a key is nothing without it".to_owned()));
            }
            (false, true) => {
                return Err((KEY, "is missing: a certificate is nothing without it".to_owned()));
            }
        };
        Ok(wanted.then(|| Self { ca: ca.clone(), ours }))
    }

    /// Do we show a certificate?
    pub(super) const fn has_ours(&self) -> bool {
        self.ours.is_some()
    }

    /// The file with those whom we believe; empty = whom the system believes.
    pub(super) fn ca(&self) -> &str {
        &self.ca
    }

    /// Shakes hands with a server, whose certificate must be for `host`.
    ///
    /// # Errors
    /// Names the file that can't be used, or says what rustls has against the server.
    pub(super) async fn connect(
        &self,
        host: &str,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, Failure> {
        let config = self.config().map_err(Failure::File)?;
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| Failure::File(("store.url", format!("{host} is no name for TLS"))))?;
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(Failure::Tls)
    }

    /// Reads the files.
    ///
    /// # Errors
    /// The first one that can't be used, and why.
    pub(super) fn config(&self) -> Result<ClientConfig, Misfit> {
        let mut roots = RootCertStore::empty();
        if self.ca.is_empty() {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err((
                    CA,
                    "is not set, and the system names no authority that it believes".to_owned(),
                ));
            }
        } else {
            for certificate in certificates(CA, &self.ca)? {
                roots.add(certificate).map_err(|error| (CA, format!("{}: {error}", self.ca)))?;
            }
        }
        let builder = builder()?.with_root_certificates(roots);
        let Some((cert, key)) = &self.ours else { return Ok(builder.with_no_client_auth()) };
        let chain = certificates(CERT, cert)?;
        let private = PrivateKeyDer::from_pem_slice(&read(KEY, key)?)
            .map_err(|error| (KEY, format!("{key} holds no private key in PEM ({error})")))?;
        builder
            .with_client_auth_cert(chain, private)
            .map_err(|error| (KEY, format!("{key} doesn't fit {CERT}: {error}")))
    }
}

/// Is TLS spoken behind this stream, whatever the certificate?
pub(super) async fn is_spoken(host: &str, stream: TcpStream) -> bool {
    let (Ok(builder), Ok(name)) = (builder(), ServerName::try_from(host.to_owned())) else { return false };
    // It believes nobody, so that the handshake ends where the server has shown its certificate.
    let config = builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    match TlsConnector::from(Arc::new(config)).connect(name, stream).await {
        Ok(_) => true,
        Err(error) => matches!(
            objection(&error),
            Some(
                rustls::Error::InvalidCertificate(_)
                    | rustls::Error::AlertReceived(_)
                    | rustls::Error::PeerIncompatible(_)
            )
        ),
    }
}

/// What rustls has against a server, where that is why there is no stream.
pub(super) fn objection(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, Misfit> {
    ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| ("store.url", error.to_string()))
}

fn read(setting: &'static str, file: &str) -> Result<Vec<u8>, Misfit> {
    fs::read(file).map_err(|error| (setting, format!("{file}: {error}")))
}

fn certificates(setting: &'static str, file: &str) -> Result<Vec<CertificateDer<'static>>, Misfit> {
    let none = |why: String| (setting, format!("{file} holds no certificate in PEM{why}"));
    let pem = read(setting, file)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match all {
        Ok(all) if all.is_empty() => Err(none(String::new())),
        Ok(all) => Ok(all),
        Err(error) => Err(none(format!(" ({error})"))),
    }
}
