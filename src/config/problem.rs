//! What is wrong with a setting, told so that it can be put right.

use std::fmt;

/// Something wrong with the settings. It is printed on one line and never shows a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The setting, `cookie.name` or `routes[0].path`; empty where a whole file is meant.
    pub key: String,
    /// Where its value came from: a file with its line, an environment variable, a flag, `default`.
    pub source: String,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

impl Problem {
    /// A problem whose source is not known here.
    pub(super) fn new(key: impl Into<String>, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { key: key.into(), source: String::new(), what: what.into(), remedy: remedy.into() }
    }

    /// The problem of a text `what: remedy`, as other modules write their errors.
    pub(super) fn of(key: impl Into<String>, text: &str, otherwise: &str) -> Self {
        let (what, remedy) = text.split_once(": ").unwrap_or((text, otherwise));
        Self::new(key, what, remedy)
    }

    /// The same, with its source.
    pub(super) fn at(self, source: impl Into<String>) -> Self {
        Self { source: source.into(), ..self }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subject = match (self.key.as_str(), self.source.as_str()) {
            (key, "") => key.to_owned(),
            ("", source) => source.to_owned(),
            (key, source) => format!("{key} ({source})"),
        };
        let line = format!("{subject}: {}: {}", self.what, self.remedy);
        // A value that is quoted in it may have line breaks, and a terminal obeys escapes.
        line.chars().try_for_each(|c| match c.is_control() {
            true => write!(f, "{}", c.escape_default()),
            false => write!(f, "{c}"),
        })
    }
}

/// The candidate that a word was most likely meant to be, if any is near.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let mut best = (0.6, None);
    for candidate in candidates {
        let likeness =
            strsim::normalized_damerau_levenshtein(&word.to_lowercase(), &candidate.to_lowercase());
        if likeness > best.0 {
            best = (likeness, Some(candidate));
        }
    }
    best.1
}

/// A remedy that suggests the nearest candidate, or lists them all.
pub(super) fn suggest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str> + Clone) -> String {
    match nearest(word, candidates.clone()) {
        Some(candidate) => format!("did you mean {candidate}?"),
        None => {
            let all: Vec<_> =
                candidates.into_iter().map(|name| if name.is_empty() { "\"\"" } else { name }).collect();
            format!("choose one of {}", all.join(", "))
        }
    }
}
