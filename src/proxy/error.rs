//! What goes wrong in an exchange, and whose fault it is.

use std::fmt;

use http::StatusCode;

use crate::session::Refusal;
use crate::store;
use crate::telemetry::metrics::{BackendError, Limit};

/// Whose fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The client's.
    Client,
    /// The backend's.
    Backend,
    /// The store's.
    Store,
    /// Ours.
    Sidecar,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A request that can't be understood in one way only.
    BadRequest,
    /// `TRACE` or `CONNECT`.
    Method,
    /// An expectation other than `100-continue`.
    Expectation,
    /// The request's body broke off.
    Body,
    /// The client took too long to send its request.
    Timeout,
    /// The request's target is too long.
    TargetTooLong,
    /// The request's head is too long, or has too many headers.
    HeadTooLarge,
    /// The request's body is longer than is allowed.
    BodyTooLarge,
    /// There are as many requests as there may be.
    Overloaded,
    /// `X-Session-If-Version` did not hold.
    VersionConflict,
    /// The session was ended meanwhile, and `session.on_gone` is `reject`.
    SessionGone,
    /// The backend let us down.
    Backend(BackendError),
    /// A directive can't be obeyed.
    DirectiveRefused(Refusal),
    /// The store can't be asked or written.
    StoreUnavailable,
    /// A write was sent, and nobody knows whether it happened.
    OutcomeUnknown,
    /// The session doesn't fit into the request's headers.
    SessionTooLarge,
    /// The request comes back to us again and again.
    Loop,
    /// `proxy.max_tunnels` are open.
    TooManyTunnels,
}

/// An exchange that ends in a response of our own.
#[derive(Debug)]
pub struct Error {
    /// Whose fault it is.
    pub side: Side,
    /// What it is.
    pub kind: Kind,
    /// What is behind it, for the log.
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
    /// What the client is told besides the title; never a value of somebody's.
    pub detail: Option<String>,
}

impl Error {
    /// Makes an error; whose fault it is follows from what it is.
    pub fn new(kind: Kind) -> Self {
        let side = match &kind {
            Kind::BadRequest
            | Kind::Method
            | Kind::Expectation
            | Kind::Body
            | Kind::Timeout
            | Kind::TargetTooLong
            | Kind::HeadTooLarge
            | Kind::BodyTooLarge
            | Kind::VersionConflict
            | Kind::SessionGone => Side::Client,
            Kind::Backend(_) | Kind::DirectiveRefused(_) => Side::Backend,
            Kind::StoreUnavailable | Kind::OutcomeUnknown => Side::Store,
            Kind::SessionTooLarge | Kind::Loop | Kind::TooManyTunnels | Kind::Overloaded => Side::Sidecar,
        };
        Self { side, kind, source: None, detail: None }
    }

    /// Adds what is behind it.
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Adds what the client may know of it.
    pub fn saying(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// What is wrong with the store, where that is behind it.
    pub fn store(&self) -> Option<&store::Error> {
        self.source.as_ref()?.downcast_ref()
    }

    /// The limit that was met in an exchange, where it was one. The backend's connections are counted where they are
    /// waited for.
    pub const fn limit(&self) -> Option<Limit> {
        match &self.kind {
            Kind::Timeout => Some(Limit::BodyTimeout),
            Kind::BodyTooLarge => Some(Limit::BodyBytes),
            Kind::Overloaded => Some(Limit::Requests),
            _ => None,
        }
    }

    /// The status, the stable end of the problem's `type`, and its title.
    pub const fn problem(&self) -> (StatusCode, &'static str, &'static str) {
        match &self.kind {
            Kind::BadRequest => (StatusCode::BAD_REQUEST, "bad-request", "The request is ambiguous"),
            Kind::Method => {
                (StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "The method is not allowed here")
            }
            Kind::Expectation => {
                (StatusCode::EXPECTATION_FAILED, "expectation-failed", "The expectation can't be met")
            }
            Kind::Body => (StatusCode::BAD_REQUEST, "incomplete-body", "The request's body is incomplete"),
            Kind::Timeout => (StatusCode::REQUEST_TIMEOUT, "request-timeout", "The request took too long"),
            Kind::TargetTooLong => {
                (StatusCode::URI_TOO_LONG, "target-too-long", "The request's target is too long")
            }
            Kind::HeadTooLarge => (
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "head-too-large",
                "The request's headers are too large, or too many",
            ),
            Kind::BodyTooLarge => {
                (StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", "The request's body is too large")
            }
            Kind::Overloaded => {
                (StatusCode::SERVICE_UNAVAILABLE, "overloaded", "There are too many requests right now")
            }
            Kind::VersionConflict => {
                (StatusCode::CONFLICT, "version-conflict", "The session has changed since it was read")
            }
            Kind::SessionGone => (StatusCode::CONFLICT, "session-gone", "The session was ended meanwhile"),
            Kind::Backend(BackendError::ConnectTimeout | BackendError::HeadTimeout) => {
                (StatusCode::GATEWAY_TIMEOUT, "backend-timeout", "The application did not answer in time")
            }
            Kind::Backend(BackendError::Busy) => {
                (StatusCode::SERVICE_UNAVAILABLE, "backend-busy", "The application is busy")
            }
            Kind::Backend(_) => {
                (StatusCode::BAD_GATEWAY, "backend-failed", "The application can't be reached")
            }
            Kind::DirectiveRefused(_) => (
                StatusCode::BAD_GATEWAY,
                "directive-refused",
                "The application asked of the session what can't be done",
            ),
            Kind::StoreUnavailable => {
                (StatusCode::SERVICE_UNAVAILABLE, "store-unavailable", "Sessions are not available right now")
            }
            Kind::OutcomeUnknown => (
                StatusCode::SERVICE_UNAVAILABLE,
                "outcome-unknown",
                "It is not known whether the session was saved",
            ),
            Kind::SessionTooLarge => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "session-too-large",
                "The session is too large for the request's headers",
            ),
            Kind::Loop => {
                (StatusCode::LOOP_DETECTED, "loop-detected", "The request comes back here again and again")
            }
            Kind::TooManyTunnels => {
                (StatusCode::SERVICE_UNAVAILABLE, "too-many-tunnels", "There are too many tunnels right now")
            }
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.problem().2)?;
        if let Some(detail) = &self.detail {
            write!(f, ": {detail}")?;
        }
        match &self.source {
            Some(source) => write!(f, " ({source})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Reason;

    #[test]
    fn the_readme_has_each_type_with_its_status_and_no_other() {
        let refusal =
            Refusal { directive: "Set".to_owned(), reason: Reason::Malformed, detail: String::new() };
        let all = [
            Kind::BadRequest,
            Kind::Method,
            Kind::Expectation,
            Kind::Body,
            Kind::Timeout,
            Kind::TargetTooLong,
            Kind::HeadTooLarge,
            Kind::BodyTooLarge,
            Kind::Overloaded,
            Kind::VersionConflict,
            Kind::SessionGone,
            Kind::Backend(BackendError::Reset),
            Kind::Backend(BackendError::HeadTimeout),
            Kind::Backend(BackendError::Busy),
            Kind::DirectiveRefused(refusal),
            Kind::StoreUnavailable,
            Kind::OutcomeUnknown,
            Kind::SessionTooLarge,
            Kind::Loop,
            Kind::TooManyTunnels,
        ];
        let types_there_are = all.len();
        let readme = include_str!("../../README.md");
        let (_, table) = readme.split_once("| `type` | status | whose fault |\n").unwrap();
        let (table, _) = table.split_once("\n\n").unwrap();
        for kind in all {
            let error = Error::new(kind);
            let (status, slug, title) = error.problem();
            let row = table.lines().find(|row| row.contains(&format!("`{slug}`")));
            assert!(row.is_some_and(|row| row.contains(status.as_str())), "{status} {slug}");
            assert!(error.to_string() == title && error.store().is_none());
        }
        let types = table.lines().filter_map(|row| row.split('|').nth(1)).flat_map(|types| types.split(','));
        assert_eq!(types.filter(|name| name.contains('`')).count(), types_there_are, "{table}");
    }
}
