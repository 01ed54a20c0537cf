//! An ill store, and the names of its illnesses.

use std::fmt;

/// An ill store. That something is not there is never an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The kind, for those who count.
    pub kind: Kind,
    /// What happened, for those who read; no token, no password.
    pub detail: String,
}

impl Error {
    /// Makes an error.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Error {}

/// Declares the kinds: what each is, its label, and whether it is an answer that says that nothing was done.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $label:literal $refusal:literal,)+) => {
        /// The kinds of [`Error`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Kind {
            $($(#[$doc])* $kind,)+
        }

        impl Kind {
            /// All of them, so that a metric shows zero before the first event.
            pub const ALL: [Self; [$($label),+].len()] = [$(Self::$kind),+];

            /// The kind's name in logs and metrics.
            pub const fn label(self) -> &'static str {
                match self {
                    $(Self::$kind => $label,)+
                }
            }

            /// Is it known what became of a write, or is it known that nobody can know? Then reading back tells no more.
            pub const fn is_final(self) -> bool {
                self.nothing_happened() || matches!(self, Self::OutcomeUnknown)
            }

            /// Does it say that a write certainly did not happen?
            pub const fn nothing_happened(self) -> bool {
                match self {
                    $(Self::$kind => $refusal,)+
                }
            }
        }
    };
}

kinds! {
    /// It can't be reached: nothing was sent.
    Unreachable = "unreachable" true,
    /// It hung up with an answer outstanding.
    Broken = "broken" false,
    /// It did not answer within the request's budget; nothing was written.
    Timeout = "timeout" false,
    /// It answered that it won't, for a reason that has no name here.
    Refused = "refused" true,
    /// It is starting: reading its data from disk (`LOADING`), or recovering it.
    Loading = "loading" true,
    /// It takes no writes: a replica (`READONLY`), one that has lost its master (`MASTERDOWN`), a read-only database.
    ReadOnly = "readonly" true,
    /// It has no room: no memory (`OOM`), or a full disk.
    OutOfMemory = "oom" true,
    /// It doesn't know us (`NOAUTH`, `WRONGPASS`).
    NoAuth = "noauth" true,
    /// It knows us, and doesn't allow it (`NOPERM`).
    NoPermission = "noperm" true,
    /// Somebody keeps it from us: a script (`BUSY`), a lock, or others who have all of its connections.
    Busy = "busy" true,
    /// It can't save to disk, and so takes no writes (`MISCONF`).
    Misconfigured = "misconf" true,
    /// A part of a cluster that nobody serves (`CLUSTERDOWN`), or whose server nobody agrees on.
    ClusterDown = "clusterdown" true,
    /// It was written, and fewer replicas have it than are to (`store.wait_replicas`).
    Unreplicated = "unreplicated" false,
    /// What it keeps can't be read; it is kept.
    Corrupt = "corrupt" false,
    /// What it keeps is sealed with a key that we don't have (`store.encryption_keys`); it is kept.
    UnknownKey = "unknown_key" false,
    /// What it keeps is not sealed, and is to be (`store.unsealed`); it is kept.
    Unsealed = "unsealed" false,
    /// A write was sent, and nobody can say whether it happened.
    OutcomeUnknown = "outcome_unknown" false,
}
