//! TLS to a server: whom we believe, and who we are.

use std::fs;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::target::Misfit;
use crate::store::{Config, Error, Kind};

/// The files of a connection over TLS. They are read anew for each one: certificates are renewed.
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
        let settings =
            [("store.tls_ca_file", ca), ("store.tls_cert_file", cert), ("store.tls_key_file", key)];
        if let (false, Some((setting, _))) = (wanted, settings.iter().find(|(_, file)| !file.is_empty())) {
            return Err((setting, "store.url has no TLS: write rediss://, or remove this".to_owned()));
        }
        let ours = match (cert.is_empty(), key.is_empty()) {
            (true, true) => None,
            (false, false) => Some((cert.clone(), key.clone())),
            (true, false) => {
                return Err(("store.tls_cert_file", "is missing: a key is nothing without it".to_owned()));
            }
            (false, true) => {
                return Err((
                    "store.tls_key_file",
                    "is missing: a certificate is nothing without it".to_owned(),
                ));
            }
        };
        Ok(wanted.then(|| Self { ca: ca.clone(), ours }))
    }

    /// Shakes hands with a server, whose certificate must be for `host`.
    ///
    /// # Errors
    /// Names the file that can't be used, or says what rustls has against the server.
    pub(super) async fn connect(&self, host: &str, stream: TcpStream) -> Result<TlsStream<TcpStream>, Error> {
        let ill = |what: String| Error::new(Kind::Unreachable, what);
        let connector = TlsConnector::from(Arc::new(self.config().map_err(ill)?));
        let name =
            ServerName::try_from(host.to_owned()).map_err(|_| ill(format!("{host} is no name for TLS")))?;
        connector.connect(name, stream).await.map_err(|error| ill(format!("TLS with {host}: {error}")))
    }

    fn config(&self) -> Result<ClientConfig, String> {
        let mut roots = RootCertStore::empty();
        if self.ca.is_empty() {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err("the system has no certificates of authorities: set store.tls_ca_file".to_owned());
            }
        } else {
            for certificate in certificates("store.tls_ca_file", &self.ca)? {
                roots.add(certificate).map_err(|error| format!("store.tls_ca_file: {}: {error}", self.ca))?;
            }
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots);
        match &self.ours {
            None => Ok(builder.with_no_client_auth()),
            Some((cert, key)) => {
                let chain = certificates("store.tls_cert_file", cert)?;
                let private =
                    PrivateKeyDer::from_pem_slice(&read("store.tls_key_file", key)?).map_err(|error| {
                        format!("store.tls_key_file: {key} holds no private key in PEM ({error})")
                    })?;
                builder.with_client_auth_cert(chain, private).map_err(|error| {
                    format!("store.tls_key_file: {key} doesn't fit store.tls_cert_file: {error}")
                })
            }
        }
    }
}

fn read(setting: &str, file: &str) -> Result<Vec<u8>, String> {
    fs::read(file).map_err(|error| format!("{setting}: {file}: {error}"))
}

fn certificates(setting: &str, file: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let none = |why: String| format!("{setting}: {file} holds no certificate in PEM{why}");
    let pem = read(setting, file)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match all {
        Ok(all) if all.is_empty() => Err(none(String::new())),
        Ok(all) => Ok(all),
        Err(error) => Err(none(format!(" ({error})"))),
    }
}
