//! What a server says, and which illness that is.

use redis::{RedisError, Value};

use crate::store::{Error, Kind};

/// The codes that servers begin an error with, and what they mean for a session.
const CODES: [(&str, Kind); 11] = [
    ("LOADING", Kind::Loading),
    ("READONLY", Kind::ReadOnly),
    ("MASTERDOWN", Kind::ReadOnly),
    ("OOM", Kind::OutOfMemory),
    ("NOAUTH", Kind::NoAuth),
    ("WRONGPASS", Kind::NoAuth),
    ("NOPERM", Kind::NoPermission),
    ("BUSY", Kind::Busy),
    ("MISCONF", Kind::Misconfigured),
    // Another program keeps something else under one of our keys.
    ("WRONGTYPE", Kind::Corrupt),
    ("NOREPLICAS", Kind::Refused),
];

/// Is it the server's way of saying that it doesn't know a script (any longer)?
pub(super) fn is_no_script(answer: &Value) -> bool {
    matches!(answer, Value::ServerError(error) if error.code() == "NOSCRIPT")
}

/// The value of an answer that is not an error.
///
/// # Errors
/// What the server says that it won't do.
pub(super) fn value(answer: Value) -> Result<Value, Error> {
    match answer {
        Value::ServerError(error) => Err(named(error.code(), error.details().unwrap_or_default())),
        value => Ok(value),
    }
}

/// An error instead of an answer: the connection is gone, and nobody knows whether a write was done.
pub(super) fn broken(error: &RedisError) -> Error {
    match error.code() {
        Some(code) => named(code, error.detail().unwrap_or_default()),
        None => Error::new(Kind::Broken, format!("the connection to Redis was lost: {error}")),
    }
}

/// An error while we made ourselves known: nothing of anybody's was sent.
pub(super) fn refused(error: &RedisError) -> Error {
    match broken(error) {
        lost if lost.kind == Kind::Broken => Error { kind: Kind::Unreachable, ..lost },
        // A server that asks for no password refuses one, and one that is asked for is missing or wrong.
        Error { kind: Kind::Refused, detail } if detail.contains("AUTH") => {
            Error { kind: Kind::NoAuth, detail }
        }
        named => named,
    }
}

fn named(code: &str, detail: &str) -> Error {
    let kind = CODES.iter().find(|(known, _)| *known == code).map(|(_, kind)| *kind);
    // Before version 7 a script's error stands in another one's text.
    let inner =
        || CODES.iter().find(|(known, _)| detail.contains(&format!("-{known} "))).map(|(_, kind)| *kind);
    Error::new(kind.or_else(inner).unwrap_or(Kind::Refused), format!("Redis says {code} {detail}"))
}
