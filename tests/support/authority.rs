//! A private authority and the certificates that it signs, as files in a folder of their own.

use std::fs;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

/// Somebody who signs certificates, and whom nobody has to believe.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    folder: TempDir,
    /// Its own certificate, which it has signed itself, and the key.
    pub own: Signed,
}

/// Paths of a certificate and its key, both PEM.
pub struct Signed {
    pub cert: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut params = params(&["localhost"]);
        // Who has the name of its issuer would be taken for one who has signed itself.
        params.distinguished_name.push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let cert = params.self_signed(&key).expect("a certificate");
        let own = store(&folder, "authority", &cert.pem(), &key);
        Self { issuer: Issuer::new(params, key), folder, own }
    }

    /// Signs a certificate for these names and addresses.
    pub fn sign(&self, names: &[&str]) -> Signed {
        self.sign_with(names, |_| {})
    }

    /// The same, with something changed.
    pub fn sign_with(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Signed {
        let mut params = params(names);
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.issuer).expect("a certificate");
        let serial = fs::read_dir(self.folder.path()).expect("a folder").count();
        store(&self.folder, &serial.to_string(), &cert.pem(), &key)
    }
}

fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names");
    params.distinguished_name.push(DnType::CommonName, "somebody");
    params
}

fn store(folder: &TempDir, name: &str, cert: &str, key: &KeyPair) -> Signed {
    let put = |what: &str, pem: &str| {
        let path = folder.path().join(format!("{name}.{what}"));
        fs::write(&path, pem).expect("written");
        path.display().to_string()
    };
    Signed { cert: put("crt", cert), key: put("key", &key.serialize_pem()) }
}
