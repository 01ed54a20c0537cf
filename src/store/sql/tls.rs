//! TLS to a server: whom we believe, and who we are.
//!
//! The driver believes the public authorities that it was built with (Mozilla's) besides those of
//! `store.tls_ca_file` or the system: a name that only your network knows is one that none of them signs.

use std::fs;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::Misfit;
use crate::store::Config;

/// Whom we believe.
pub(super) const CA: &str = "store.tls_ca_file";
/// Who we are.
pub(super) const CERT: &str = "store.tls_cert_file";
/// The secret that proves it.
pub(super) const KEY: &str = "store.tls_key_file";

/// How a connection is to be kept from others. There is no mode that would go on in the clear where a server has no
/// TLS: whoever is between could say so in its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Not at all.
    Off,
    /// Encrypted, whoever the server is.
    Unverified,
    /// Encrypted, to a server whose certificate is for its name, and signed by somebody whom we believe.
    Full,
}

impl Mode {
    /// Reads `sslmode` in the words of PostgreSQL or MySQL.
    ///
    /// # Errors
    /// Says which there are.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        const WORDS: &str = "write disable, require or verify-full";
        match &*text.to_ascii_lowercase().replace('_', "-") {
            "disable" | "disabled" => Ok(Self::Off),
            "require" | "required" => Ok(Self::Unverified),
            "verify-full" | "verify-identity" => Ok(Self::Full),
            "verify-ca" => Err(format!(
                "has sslmode=verify-ca, which would take whatever a public authority has signed: {WORDS}"
            )),
            "allow" | "prefer" | "preferred" => {
                Err(format!("has an sslmode that may end in the clear without a word: {WORDS}"))
            }
            _ => Err(format!("has an sslmode that is not known: {WORDS}")),
        }
    }
}

/// The settings of a connection over TLS. Files are read anew for each one: certificates are renewed.
pub(super) struct Tls {
    pub(super) mode: Mode,
    /// Empty = whom the system believes.
    pub(super) ca: String,
    /// Our certificate and its key, where the server wants to know us.
    ours: Option<(String, String)>,
}

/// What the files hold.
pub(super) struct Files {
    /// Certificates of those whom we believe, PEM.
    pub(super) ca: Vec<u8>,
    /// Our certificate with its chain, and its key, PEM.
    pub(super) ours: Option<(Vec<u8>, Vec<u8>)>,
}

impl Tls {
    /// Reads the settings; `None` where the connection is in the clear.
    ///
    /// # Errors
    /// Settings that say nothing without TLS, or without each other.
    pub(super) fn new(config: &Config, mode: Mode) -> Result<Option<Self>, Misfit> {
        let Config { tls_ca_file: ca, tls_cert_file: cert, tls_key_file: key, .. } = config;
        let named = [(CA, ca), (CERT, cert), (KEY, key)].into_iter().find(|(_, file)| !file.is_empty());
        if let (Mode::Off, Some((setting, _))) = (mode, named) {
            return Err((
                setting,
                "store.url is without TLS: add sslmode=verify-full, or remove this".to_owned(),
            ));
        }
        if mode == Mode::Unverified && !ca.is_empty() {
            return Err((CA, "is not looked at with sslmode=require: write verify-full".to_owned()));
        }
        let ours = match (cert.is_empty(), key.is_empty()) {
            (true, true) => None,
            (false, false) => Some((cert.clone(), key.clone())),
            (true, false) => return Err((CERT, "is missing: a key is nothing without it".to_owned())),
            (false, true) => return Err((KEY, "is missing: a certificate is nothing without it".to_owned())),
        };
        Ok((mode != Mode::Off).then(|| Self { mode, ca: ca.clone(), ours }))
    }

    /// Reads the files.
    ///
    /// # Errors
    /// The first one that can't be used, and why.
    pub(super) fn files(&self) -> Result<Files, Misfit> {
        let ca = if self.ca.is_empty() { system() } else { certificates(CA, &self.ca)? };
        let ours = match &self.ours {
            None => None,
            Some((cert, key)) => {
                let chain = certificates(CERT, cert)?;
                let private = read(KEY, key)?;
                PrivateKeyDer::from_pem_slice(&private)
                    .map_err(|error| (KEY, format!("{key} holds no private key in PEM ({error})")))?;
                Some((chain, private))
            }
        };
        Ok(Files { ca, ours })
    }
}

/// Those whom the system believes, as far as they can be understood.
fn system() -> Vec<u8> {
    let mut pem = String::new();
    for certificate in rustls_native_certs::load_native_certs().certs {
        if RootCertStore::empty().add(certificate.clone()).is_ok() {
            let text = data_encoding::BASE64.encode(&certificate);
            pem += &format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
        }
    }
    pem.into_bytes()
}

fn read(setting: &'static str, file: &str) -> Result<Vec<u8>, Misfit> {
    fs::read(file).map_err(|error| (setting, format!("{file}: {error}")))
}

fn certificates(setting: &'static str, file: &str) -> Result<Vec<u8>, Misfit> {
    let none = |why: String| (setting, format!("{file} holds no certificate in PEM{why}"));
    let pem = read(setting, file)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match all {
        Ok(all) if all.is_empty() => Err(none(String::new())),
        Ok(_) => Ok(pem),
        Err(error) => Err(none(format!(" ({error})"))),
    }
}
