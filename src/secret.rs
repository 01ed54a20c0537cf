//! Secrets in settings, texts and keys: given in place or in a file, and never printed.

use std::fmt;
use std::fs;
use std::path::Path;

use data_encoding::{BASE64, BASE64_NOPAD};
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What stands where a secret would be printed.
pub const HIDDEN: &str = "(hidden)";

/// The least that a key must have, in bytes.
const KEY_BYTES: usize = 32;

/// A secret text of a setting; empty means none. It prints and serializes as `(hidden)`.
#[derive(Clone, Default)]
pub struct Secret(SecretString);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(SecretString::from(text.into()))
    }

    /// The text, for the one place that computes with it.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.expose().is_empty()
    }

    /// The secret of a setting that has a `_file` twin: the file's text without one trailing newline.
    ///
    /// # Errors
    /// Says so when both are set, or names the file that can't be read. What is a key and no file is not shown.
    pub fn of(here: &Self, file: &str) -> Result<Self, String> {
        match (here.is_empty(), file.is_empty()) {
            (_, true) => Ok(here.clone()),
            (false, false) => Err("is set both in place and as a file: remove one of them".to_owned()),
            (true, false) => {
                let text =
                    fs::read_to_string(Path::new(file)).map_err(|error| match Material::parse(file) {
                        Ok(_) => "what stands there is a key, not the name of a file".to_owned(),
                        Err(_) => format!("{file}: {error}"),
                    })?;
                let text =
                    text.strip_suffix('\n').map_or(&*text, |line| line.strip_suffix('\r').unwrap_or(line));
                Ok(Self::new(text))
            }
        }
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "\"\"" } else { HIDDEN })
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if self.is_empty() { "" } else { HIDDEN })
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

/// The bytes of a key. They print as `(hidden)`.
#[derive(Clone)]
pub struct Material(SecretSlice<u8>);

impl Material {
    /// Reads base64, with or without its padding.
    ///
    /// # Errors
    /// Says what is wrong, and nothing of the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let decoded = BASE64.decode(text.as_bytes()).or_else(|_| BASE64_NOPAD.decode(text.as_bytes()));
        let bytes = decoded.map_err(|_| "it is not base64".to_owned())?;
        if bytes.len() < KEY_BYTES {
            return Err(format!("it has {} bytes; a key has at least {KEY_BYTES}", bytes.len()));
        }
        Ok(Self(SecretSlice::from(bytes)))
    }

    /// The keys of a list in the settings, or of the lines of its `_file` twin; empty lines don't count.
    ///
    /// # Errors
    /// Says which one is no key, that both are set, or names the file that can't be read.
    pub fn all(here: &[Secret], file: &str) -> Result<Vec<Self>, String> {
        let lines = Secret::of(&Secret::default(), file)?;
        if !here.is_empty() && !file.is_empty() {
            return Err("is set both in place and as a file: remove one of them".to_owned());
        }
        let texts = here.iter().map(Secret::expose).chain(lines.expose().lines());
        let texts: Vec<&str> = texts.map(str::trim).filter(|text| !text.is_empty()).collect();
        if texts.is_empty() && !(here.is_empty() && file.is_empty()) {
            // What is meant to be signed or sealed must not silently not be.
            return Err("holds no key: coatroom keys generate makes one".to_owned());
        }
        texts
            .into_iter()
            .enumerate()
            .map(|(n, text)| {
                let named = |what| format!("key {}: {what}: coatroom keys generate makes one", n + 1);
                Self::parse(text).map_err(named)
            })
            .collect()
    }

    /// The bytes, for the one place that computes with them.
    pub fn expose(&self) -> &[u8] {
        self.0.expose_secret()
    }
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}
