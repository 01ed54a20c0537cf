//! Settings that change while the program runs: which files they come from, and whether those say something else.

use std::fs;

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};

use super::Sources;
use crate::time::Length;

/// `[reload]`: settings that change while requests are served.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How often the files are looked at; 0 = only after SIGHUP.
    pub interval: Length,
}

impl Default for Config {
    fn default() -> Self {
        Self { interval: Length::secs(10) }
    }
}

/// What the files said: two that are equal are of the same texts.
///
/// Texts are compared and not times: kubelet swaps a symbolic link far above the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Print(Vec<(String, Option<Vec<u8>>)>);

impl Print {
    /// Looks at the file of the settings and at all that they name.
    pub fn of(sources: &Sources, config: &super::Config) -> Self {
        let main = sources.file.iter().map(|file| file.display().to_string());
        let super::Config { cookie, headers, errors, store, .. } = config;
        let named = [&cookie.keys_file, &headers.secret_file, &errors.page, &store.encryption_keys_file];
        let files = main.chain(named.into_iter().filter(|file| !file.is_empty()).cloned());
        let print = |file: String| {
            let text = fs::read(&file).ok();
            let hash = text.map(|text| digest::digest(&digest::SHA256, &text).as_ref().to_vec());
            (file, hash)
        };
        Self(files.map(print).collect())
    }
}
