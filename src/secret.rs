//! Secrets in settings: given in place or in a file, and never printed.

use std::fmt;
use std::fs;
use std::path::Path;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What stands where a secret would be printed.
pub const HIDDEN: &str = "(hidden)";

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
    /// Says so when both are set, or names the file that can't be read.
    pub fn of(here: &Self, file: &str) -> Result<Self, String> {
        match (here.is_empty(), file.is_empty()) {
            (_, true) => Ok(here.clone()),
            (false, false) => Err("is set both in place and as a file: remove one of them".to_owned()),
            (true, false) => {
                let text = fs::read_to_string(Path::new(file)).map_err(|error| format!("{file}: {error}"))?;
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
