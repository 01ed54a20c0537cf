//! What the metrics count by: every value of every label is known before the first request.

/// Declares labels: an enum each, with `ALL` its values and `label()` their texts.
macro_rules! labels {
    ($($(#[$doc:meta])* $name:ident { $($(#[$value_doc:meta])* $value:ident = $text:literal,)+ })+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$value_doc])* $value,)+
        }

        impl $name {
            /// All of them in order, so that a metric shows zero before the first event.
            pub const ALL: [Self; [$($text),+].len()] = [$(Self::$value),+];

            /// The metric's label.
            pub const fn label(self) -> &'static str {
                match self {
                    $(Self::$value => $text,)+
                }
            }
        }
    )+};
}

labels! {
    /// What came of looking for a request's session.
    Load {
        /// The token's session lives.
        Live = "live",
        /// The token was ended, and is remembered.
        Ended = "ended",
        /// The client showed no token, or one that the store doesn't know, or whose session's time is over.
        Absent = "absent",
        /// The token is outside the grammar; the store wasn't asked.
        Malformed = "malformed",
        /// The token's signature doesn't hold; the store wasn't asked.
        Forged = "forged",
        /// The client showed several tokens that could each be the one.
        Ambiguous = "ambiguous",
        /// The store could not say.
        Unknown = "unknown",
    }

    /// What came of writing a session back.
    Save {
        /// The changes are in the store.
        Saved = "saved",
        /// Only its life was extended.
        Touched = "touched",
        /// It was flushed or had expired meanwhile: nothing was written.
        Gone = "gone",
        /// `If-Version` did not hold: nothing was written.
        Conflict = "conflict",
        /// The changes broke a limit on the record as it then stood: nothing was written.
        Refused = "refused",
        /// The store could not write: nothing was written.
        Failed = "failed",
        /// The store could not tell whether it has written.
        Unknown = "unknown",
    }

    /// Why a session got a new key.
    CycleReason {
        /// The backend asked for it.
        Asked = "asked",
        /// An entry of `session.cycle_on` appeared or changed.
        Login = "login",
    }

    /// Whose headers were stripped.
    Side {
        /// A request's.
        Client = "client",
        /// A response's.
        Backend = "backend",
    }

    /// What a store was asked to do.
    Operation {
        /// Load a session.
        Load = "load",
        /// Write what became of it, all attempts together.
        Commit = "commit",
        /// Remove a batch of expired sessions.
        ClearExpired = "clear_expired",
        /// Say whether it is there.
        Ping = "ping",
    }

    /// What became of what a cache was asked, and of what is written behind it.
    CacheResult {
        /// It had the session.
        Hit = "hit",
        /// It had not: the database was asked.
        Miss = "miss",
        /// It did not answer: the database was asked.
        Error = "error",
        /// A save waited until nothing older could be in it.
        Wait = "wait",
        /// A save was acknowledged while something older may have been in it.
        Unsettled = "unsettled",
    }

    /// Why a cookie that holds a session was not taken.
    CookieRefused {
        /// Its time is over.
        Expired = "expired",
        /// It was made up, changed, or made for another cookie.
        Forged = "forged",
        /// The key that sealed it is no more in `store.encryption_keys`.
        UnknownKey = "unknown_key",
        /// It is ours and whole, in a form that this version doesn't know.
        Unreadable = "unreadable",
    }

    /// What came of reading the settings again.
    Reloaded {
        /// They are in force.
        Applied = "applied",
        /// They are wrong, and those of before stay in force.
        Failed = "failed",
    }

    /// What became of a tunnel that was asked for.
    Tunnel {
        /// `proxy.max_tunnels` were open: the backend was not asked.
        Refused = "refused",
        /// Both sides closed it.
        Closed = "closed",
        /// One side broke it off.
        Broken = "broken",
        /// No byte passed through it for `proxy.tunnel_idle_timeout`.
        Idle = "idle",
        /// It was open still at the drain's end.
        Cut = "cut",
    }

    /// What was at its limit; the texts are those of the settings.
    Limit {
        /// A head was longer than `proxy.max_head_bytes`, or its target alone.
        HeadBytes = "max_head_bytes",
        /// A head had more lines than `proxy.max_headers`.
        Headers = "max_headers",
        /// A body was longer than `proxy.max_body_bytes`.
        BodyBytes = "max_body_bytes",
        /// A head took longer than `proxy.header_timeout`.
        HeaderTimeout = "header_timeout",
        /// A client began no request within `proxy.idle_timeout`.
        IdleTimeout = "idle_timeout",
        /// A client sent or took too little of a body within `proxy.body_timeout`.
        BodyTimeout = "body_timeout",
        /// A client was accepted and had to wait, for there were `proxy.max_connections` others.
        Connections = "max_connections",
        /// A request was refused, for there were `proxy.max_requests` others.
        Requests = "max_requests",
        /// A request had to wait for one of `proxy.max_backend_connections`.
        BackendConnections = "max_backend_connections",
        /// A client could not be accepted, for there was no file descriptor left.
        Descriptors = "descriptors",
    }

    /// How the backend failed.
    BackendError {
        /// It refused the connection, or can't be reached.
        Connect = "connect",
        /// The connection took longer than `proxy.connect_timeout`.
        ConnectTimeout = "connect_timeout",
        /// It closed the connection before its response's head was complete.
        Reset = "reset",
        /// What it said is no HTTP.
        Protocol = "protocol",
        /// Its response's head took longer than `proxy.head_timeout`.
        HeadTimeout = "head_timeout",
        /// None of `proxy.max_backend_connections` became free within `proxy.connect_timeout`.
        Busy = "busy",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_at_its_place() {
        // The metrics index their children by the enum's discriminant.
        assert!(Load::ALL.iter().enumerate().all(|(at, load)| *load as usize == at));
        assert!(Save::ALL.iter().enumerate().all(|(at, save)| *save as usize == at));
        assert!(Limit::ALL.iter().enumerate().all(|(at, limit)| *limit as usize == at));
        assert!(BackendError::ALL.iter().enumerate().all(|(at, error)| *error as usize == at));
        assert_eq!(Operation::ClearExpired.label(), "clear_expired");
    }
}
