//! Why a response's directives are not obeyed.

use std::fmt;

use super::data::RESERVED;

/// Why a response's changes are not applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The header's name behind the prefix.
    pub directive: String,
    /// The metric's label.
    pub reason: Reason,
    /// What is wrong, without the value.
    pub detail: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.directive, self.detail)
    }
}

impl std::error::Error for Refusal {}

/// The kinds of [`Refusal`], as `coatroom_directives_refused_total{reason}` counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// It can't be parsed.
    Malformed,
    /// A JSON object names a key twice.
    DuplicateKey,
    /// It names a key that begins with `_`.
    ReservedKey,
    /// No directive has this name, or no listed entry.
    Unknown,
    /// The nonce is missing or another one's.
    Nonce,
    /// It is repeated with another value.
    Repeated,
    /// It, or the session after it, exceeds a limit.
    TooLarge,
    /// An increment met what is no number, or left the range of one.
    NotNumeric,
    /// It needs a setting that is off.
    Disabled,
    /// It came with a server error of the backend's own, and was discarded; that response passes.
    ServerError,
}

impl Reason {
    /// All of them, for a metric that shows zero before the first.
    pub const ALL: [Self; 10] = [
        Self::Malformed,
        Self::DuplicateKey,
        Self::ReservedKey,
        Self::Unknown,
        Self::Nonce,
        Self::Repeated,
        Self::TooLarge,
        Self::NotNumeric,
        Self::Disabled,
        Self::ServerError,
    ];

    /// The metric's label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::DuplicateKey => "duplicate_key",
            Self::ReservedKey => "reserved_key",
            Self::Unknown => "unknown",
            Self::Nonce => "nonce",
            Self::Repeated => "repeated",
            Self::TooLarge => "too_large",
            Self::NotNumeric => "not_numeric",
            Self::Disabled => "disabled",
            Self::ServerError => "server_error",
        }
    }
}

impl Refusal {
    /// Makes a refusal.
    pub fn new(directive: &str, reason: Reason, detail: impl Into<String>) -> Self {
        Self { directive: directive.to_owned(), reason, detail: detail.into() }
    }
}

/// May a directive name this key?
///
/// # Errors
/// A [`Refusal`] for a key that begins with `_`.
pub fn allowed(directive: &str, key: &str) -> Result<(), Refusal> {
    if key.starts_with(RESERVED) {
        // A key is part of the header's value, and that is never repeated.
        let detail = format!(
            "a key in it begins with {RESERVED:?}, and such keys are reserved: not a backend's to change"
        );
        return Err(Refusal::new(directive, Reason::ReservedKey, detail));
    }
    Ok(())
}
