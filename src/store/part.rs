//! The servers that one store may be made of, each with settings of its own.

use super::Config;

/// What one of them is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Has the sessions.
    Url,
    /// Has copies of them, which it may lose.
    Cache,
    /// Has what ended before its time, where browsers have the sessions.
    Revocations,
    /// Gets the sessions that are to move there.
    Next,
    /// Has the sessions that have not moved from it yet.
    Previous,
}

impl Part {
    /// What one of the settings of `store.url` is called here.
    pub fn key(self, key: &'static str) -> &'static str {
        match (self, key) {
            (Self::Cache, "store.url") => "store.cache",
            (Self::Cache, "store.password") => "store.cache_password",
            (Self::Cache, "store.password_file") => "store.cache_password_file",
            (Self::Revocations, "store.url") => "store.revocations",
            (Self::Next, "store.url") => "store.next",
            (Self::Previous, "store.url") => "store.previous",
            (Self::Next | Self::Previous, "store.password") => "store.move_password",
            (Self::Next | Self::Previous, "store.password_file") => "store.move_password_file",
            (_, other) => other,
        }
    }
}

impl Config {
    /// Each part that these settings name, with its own as if it were the whole store.
    pub fn parts(&self) -> Vec<(Part, Self)> {
        let mut parts = vec![(Part::Url, self.clone())];
        parts.extend(self.cache().map(|cache| (Part::Cache, cache)));
        parts.extend(self.revocations().map(|list| (Part::Revocations, list)));
        parts.extend(self.other().map(|(home, other)| (home.other(), other)));
        parts
    }
}
