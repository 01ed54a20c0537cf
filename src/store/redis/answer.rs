//! What a server says, and which illness that is.

use redis::{RedisError, Value};

use crate::store::{Error, Kind};

/// The codes that servers begin an error with, and what they mean for a session.
const CODES: [(&str, Kind); 13] = [
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
    ("CLUSTERDOWN", Kind::ClusterDown),
    ("TRYAGAIN", Kind::ClusterDown),
];

/// What an error says that has no code of its own (`ERR`), and what it means for a session.
const TEXTS: [(&str, Kind); 3] = [
    // A right that is missing inside a script: Redis 7.2 and newer, and older ones.
    ("ACL failure in script", Kind::NoPermission),
    ("The user executing the script can't", Kind::NoPermission),
    // A password, and none is wanted.
    ("AUTH <password> called without any password", Kind::NoAuth),
];

/// How an error without a code of its own begins by which Redis says that it won't do what it is asked, or that it has
/// stopped a script before its first write.
const REFUSALS: [&str; 11] = [
    "unknown command",
    "wrong number of arguments",
    "syntax error",
    "invalid expire time",
    "value is not an integer",
    "max number of clients",
    "Protocol error",
    "Error compiling script",
    "Error running script",
    "Script killed by user",
    "user_script:",
];

/// Where a server begins to quote what it was sent, which may be a password or a session.
const QUOTATION: &str = ", with args beginning with";

/// An error that a server answers. What it quotes of a command is cut off.
pub(super) struct Said {
    /// The first word, `NOPERM` say.
    pub(super) code: String,
    /// The rest.
    pub(super) detail: String,
}

impl Said {
    fn new(code: &str, detail: Option<&str>) -> Self {
        let detail = detail.unwrap_or_default().split(QUOTATION).next().unwrap_or_default();
        Self { code: code.to_owned(), detail: detail.trim_end().to_owned() }
    }

    /// What a server says before it hangs up, instead of listening: `-ERR max number of clients reached`.
    pub(super) fn unasked(line: &str) -> Option<Self> {
        let (code, detail) = line.strip_prefix('-')?.trim_end().split_once(' ')?;
        Some(Self::new(code, Some(detail)))
    }

    /// The error in an answer, if it is one.
    pub(super) fn of(answer: &Value) -> Option<Self> {
        match answer {
            Value::ServerError(error) => Some(Self::new(error.code(), error.details())),
            _ => None,
        }
    }

    /// The illness.
    pub(super) fn kind(&self) -> Kind {
        let Self { code, detail } = self;
        let known = CODES.iter().find(|(known, _)| known == code);
        // Before version 7 a script's error stands in another one's text.
        let inner = || CODES.iter().find(|(known, _)| detail.contains(&format!("-{known} ")));
        let text = || TEXTS.iter().find(|(text, _)| detail.contains(text));
        known.or_else(inner).or_else(text).map_or(Kind::Refused, |(_, kind)| *kind)
    }

    /// Is it a server's own way of saying that it won't? A proxy before one says in other words that it has lost it, and
    /// then nobody knows what that one has done.
    fn is_refusal(&self) -> bool {
        let Self { code, detail } = self;
        let has_code = code != "ERR" && code.bytes().all(|byte| byte.is_ascii_uppercase());
        let is_known = || code == "ERR" && REFUSALS.iter().any(|begin| detail.starts_with(begin));
        has_code || self.kind() != Kind::Refused || is_known()
    }
}

impl From<Said> for Error {
    fn from(said: Said) -> Self {
        let hint = match &*said.code {
            "MOVED" | "ASK" | "CROSSSLOT" => " (it is part of a cluster: write redis+cluster://)",
            "NOREPLICAS" => " (see INFO replication there, or lower min-replicas-to-write)",
            _ => "",
        };
        Self::new(said.kind(), format!("Redis says {} {}{hint}", said.code, said.detail))
    }
}

/// Is it the server's way of saying that it doesn't know a script (any longer)?
pub(super) fn is_no_script(answer: &Value) -> bool {
    matches!(answer, Value::ServerError(error) if error.code() == "NOSCRIPT")
}

/// The value of an answer that is not an error.
///
/// # Errors
/// What the server says that it won't do.
pub(super) fn value(answer: Value) -> Result<Value, Error> {
    match Said::of(&answer) {
        Some(said) => Err(said.into()),
        None => Ok(answer),
    }
}

/// The same of an answer to a write.
///
/// # Errors
/// As [`value`]; `Broken` where what was said does not mean that nothing was done.
pub(super) fn written(answer: Value) -> Result<Value, Error> {
    match Said::of(&answer) {
        Some(said) if !said.is_refusal() => Err(Error { kind: Kind::Broken, ..said.into() }),
        _ => value(answer),
    }
}

/// An error instead of an answer: the connection is gone, and nobody knows whether a write was done.
pub(super) fn broken(error: &RedisError) -> Error {
    match error.code() {
        Some(code) => Said::new(code, error.detail()).into(),
        None => {
            let hint =
                if error.is_io_error() { "" } else { " (coatroom check-config --connect may say more)" };
            Error::new(Kind::Broken, format!("the connection to Redis was lost: {}{hint}", lost(error)))
        }
    }
}

/// Why there is no answer. What can't be read is not quoted: whatever listens there may repeat what it was sent. It may
/// be a Redis all the same, that names one of our keys as it is, in bytes that are no text.
pub(super) fn lost(error: &RedisError) -> String {
    match error.is_io_error() {
        true => error.to_string(),
        false => "what came can't be read".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Redis 6.2, 7.0, 7.2 and 8 say, to the letter.
    #[test]
    fn an_illness_is_known_by_what_servers_say() {
        for (code, detail, kind) in [
            ("NOPERM", "this user has no permissions to run the 'get' command", Kind::NoPermission),
            (
                "ERR",
                "The user executing the script can't run this command or subcommand script: bd6f, on @user_script:1.",
                Kind::NoPermission,
            ),
            (
                "ERR",
                "Error running script (call to f_bd6f): @user_script:1: The user executing the script can't access \
                 at least one of the keys mentioned in the command arguments",
                Kind::NoPermission,
            ),
            (
                "ERR",
                "ACL failure in script: User app has no permissions to run the 'set' command script: bd6f, on \
                 @user_script:1.",
                Kind::NoPermission,
            ),
            (
                "ERR",
                "Error running script (call to f_bd6f): @user_script:4: -OOM command not allowed when used memory > \
                 'maxmemory'.",
                Kind::OutOfMemory,
            ),
            (
                "ERR",
                "AUTH <password> called without any password configured for the default user. Are you sure your \
                 configuration is correct?",
                Kind::NoAuth,
            ),
            ("WRONGPASS", "invalid username-password pair or user is disabled.", Kind::NoAuth),
            (
                "MASTERDOWN",
                "Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
                Kind::ReadOnly,
            ),
            ("CLUSTERDOWN", "Hash slot not served", Kind::ClusterDown),
            ("ERR", "max number of clients reached", Kind::Refused),
        ] {
            assert_eq!(Said::new(code, Some(detail)).kind(), kind, "{code} {detail}");
        }
    }

    /// What Redis says that does nothing, and what Envoy and twemproxy say of one that they have lost.
    #[test]
    fn a_write_was_not_done_where_the_server_itself_says_so() {
        for (line, done) in [
            ("-ERR unknown command 'EVALSHA', with args beginning with: ", Kind::Refused),
            ("-ERR wrong number of arguments for 'set' command", Kind::Refused),
            ("-ERR max number of clients reached", Kind::Refused),
            (
                "-ERR Error running script (call to f_bd6f): @user_script:4: Script killed by user",
                Kind::Refused,
            ),
            ("-ERR Error compiling script (new function): user_script:1: '=' expected", Kind::Refused),
            ("-ERR ACL failure in script: User app has no permissions", Kind::NoPermission),
            ("-NOREPLICAS Not enough good replicas to write.", Kind::Refused),
            ("-CROSSSLOT Keys in request don't hash to the same slot", Kind::Refused),
            ("-MOVED 3999 127.0.0.1:6381", Kind::Refused),
            ("-READONLY You can't write against a read only replica.", Kind::ReadOnly),
            ("-ERR Connection timed out", Kind::Broken),
            ("-ERR Connection reset by peer", Kind::Broken),
            ("-upstream failure", Kind::Broken),
            ("-upstream protocol error", Kind::Broken),
            ("-no upstream host", Kind::Broken),
        ] {
            let answer = redis::parse_redis_value(format!("{line}\r\n").as_bytes()).unwrap();
            assert_eq!(written(answer).unwrap_err().kind, done, "{line}");
        }
    }

    #[test]
    fn what_a_server_quotes_of_a_command_is_not_repeated() {
        let detail =
            "unknown command 'AUTH', with args beginning with: 'app' 'se, with args beginning with cret' ";
        let error = Error::from(Said::new("ERR", Some(detail)));
        assert_eq!(error.detail, "Redis says ERR unknown command 'AUTH'");
    }
}
