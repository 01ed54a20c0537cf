//! Settings that change while the program runs: which files they come from, and whether those say something else.

use std::fs;
use std::path::Path;

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};

use super::{Problem, Sources};
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

/// What stands for the file of the settings itself, where the settings that name files are listed.
const ITSELF: &str = "--config";

/// What the files of the settings said when they were looked at: two that are equal are of the same texts.
///
/// Texts are compared and not times: kubelet swaps a symbolic link far above the file. There is no `Debug`: whoever
/// knows the digest of a short secret can guess it.
#[derive(Clone, PartialEq, Eq)]
pub struct Print(Vec<Look>);

/// One file.
#[derive(Clone, PartialEq, Eq)]
struct Look {
    /// The setting that names it.
    setting: &'static str,
    file: String,
    said: Said,
}

/// What a file said.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Said {
    /// A text, by its SHA-256.
    Text([u8; 32]),
    /// No text at all, or white space.
    Nothing,
    /// It can't be read.
    Unreadable,
    /// It is a pipe or a device: to look at it would be to take it away.
    Passing,
}

impl Said {
    fn by(file: &str) -> Self {
        match fs::metadata(Path::new(file)) {
            Err(_) => return Self::Unreadable,
            Ok(about) if !about.is_file() && !about.is_dir() => return Self::Passing,
            Ok(_) => {}
        }
        let Ok(text) = fs::read(file) else { return Self::Unreadable };
        let hash = digest::digest(&digest::SHA256, &text);
        match hash.as_ref().try_into() {
            Ok(hash) if !text.trim_ascii().is_empty() => Self::Text(hash),
            _ => Self::Nothing,
        }
    }
}

/// The settings that name a file, with what they say.
pub(super) fn files(config: &super::Config) -> [(&'static str, &str); 11] {
    let super::Config { cookie, headers, errors, store, .. } = config;
    [
        ("cookie.keys_file", &cookie.keys_file),
        ("headers.secret_file", &headers.secret_file),
        ("errors.page", &errors.page),
        ("store.encryption_keys_file", &store.encryption_keys_file),
        ("store.password_file", &store.password_file),
        ("store.sentinel_password_file", &store.sentinel_password_file),
        ("store.cache_password_file", &store.cache_password_file),
        ("store.move_password_file", &store.move_password_file),
        ("store.tls_ca_file", &store.tls_ca_file),
        ("store.tls_cert_file", &store.tls_cert_file),
        ("store.tls_key_file", &store.tls_key_file),
    ]
}

impl Print {
    /// Looks at the file of the settings.
    pub(super) fn of(sources: &Sources) -> Self {
        let mut print = Self(Vec::new());
        if let Some(file) = &sources.file {
            print.add(ITSELF, &file.display().to_string());
        }
        print
    }

    /// Looks at the files that settings name, too.
    pub(super) fn and_those_of(&mut self, config: &super::Config) {
        for (setting, file) in files(config).into_iter().filter(|(_, file)| !file.is_empty()) {
            self.add(setting, file);
        }
    }

    fn add(&mut self, setting: &'static str, file: &str) {
        self.0.push(Look { setting, said: Said::by(file), file: file.to_owned() });
    }

    /// Looks at the same files again.
    pub fn again(&self) -> Self {
        Self(self.0.iter().map(|look| Look { said: Said::by(&look.file), ..look.clone() }).collect())
    }

    /// The settings whose files said something else before, under the same names.
    pub fn since(&self, before: &Self) -> Vec<&'static str> {
        let other = |look: &&Look| {
            before
                .0
                .iter()
                .any(|old| (old.setting, &old.file) == (look.setting, &look.file) && old.said != look.said)
        };
        self.0.iter().filter(|look| look.setting != ITSELF).filter(other).map(|look| look.setting).collect()
    }

    /// Why the files can't take the place of what is in force.
    ///
    /// An empty file would be good settings: the defaults, without a key and without a route. But it is what a file
    /// looks like that somebody has begun to write, or that a full disk has no room for.
    pub(super) fn faults(&self) -> Vec<Problem> {
        let fault = |look: &Look| {
            let key = if look.setting == ITSELF { "" } else { look.setting };
            let (what, remedy) = match look.said {
                Said::Passing => ("is a pipe or a device: it can't be read again", "restart, or name a file"),
                Said::Nothing if look.setting == ITSELF => {
                    ("is empty", "write a comment into it if all defaults are meant")
                }
                Said::Nothing | Said::Text(_) | Said::Unreadable => return None,
            };
            Some(Problem::new(key, what, remedy).at(&*look.file))
        };
        self.0.iter().filter_map(fault).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(file: &Path) -> Sources {
        Sources { file: Some(file.to_owned()), ..Sources::default() }
    }

    #[test]
    fn what_counts_is_what_a_file_says_wherever_it_lies() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("coatroom.toml");
        let (one, other) = (folder.path().join("one"), folder.path().join("other"));
        fs::write(&one, "cookie.age = 1").unwrap();
        fs::write(&other, "cookie.age = 2").unwrap();
        std::os::unix::fs::symlink(&one, &file).unwrap();
        let before = Print::of(&sources(&file));
        fs::write(&one, "cookie.age = 1").unwrap();
        assert!(before.again() == before, "written again with the same text");
        fs::remove_file(&file).unwrap();
        assert!(before.again() != before, "gone");
        std::os::unix::fs::symlink(&other, &file).unwrap();
        assert!(before.again() != before, "a link to another file");
        fs::write(&other, "cookie.age = 1").unwrap();
        assert!(before.again() == before, "of the same text");
    }

    #[test]
    fn a_file_that_says_something_else_is_known_by_its_setting() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        for name in ["keys", "secret"] {
            fs::write(at(name), "before").unwrap();
        }
        let mut config = super::super::Config::default();
        config.cookie.keys_file = at("keys");
        config.headers.secret_file = at("secret");
        let mut before = Print::of(&Sources::default());
        before.and_those_of(&config);
        assert!(before.again().since(&before).is_empty());
        fs::write(at("secret"), "after").unwrap();
        assert_eq!(before.again().since(&before), ["headers.secret_file"]);
        fs::remove_file(at("keys")).unwrap();
        assert_eq!(before.again().since(&before), ["cookie.keys_file", "headers.secret_file"]);
    }

    #[test]
    fn what_cannot_be_read_twice_and_what_is_empty_replaces_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("coatroom.toml");
        let faults = |file: &Path| {
            Print::of(&sources(file)).faults().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        };
        let shown = file.display();
        for empty in ["", " \n\n"] {
            fs::write(&file, empty).unwrap();
            let told = "is empty: write a comment into it if all defaults are meant";
            assert_eq!(faults(&file), format!("{shown}: {told}"));
        }
        fs::write(&file, "# all defaults").unwrap();
        assert_eq!(faults(&file), "");
        assert_eq!(
            faults(Path::new("/dev/null")),
            "/dev/null: is a pipe or a device: it can't be read again: restart, or name a file"
        );
        // That says the reader.
        assert_eq!(faults(folder.path()), "");
        assert_eq!(faults(&folder.path().join("nowhere")), "");
    }
}
