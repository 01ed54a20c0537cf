//! The writes that a server does in one step, each a script of its own: read what is there, compare, write.
//!
//! A value begins with its revision (8 bytes) and its end (6 bytes, milliseconds). `0` means gone, `1` changed, `2`
//! done. No script writes before it has compared, and the server runs each as a whole, so none is done by half.

use std::sync::LazyLock;

use aws_lc_rs::digest;
use data_encoding::HEXLOWER;

/// Declares scripts, each of which begins by comparing what is there with what was seen.
macro_rules! scripts {
    ($($(#[$doc:meta])* $name:ident = $write:literal;)+) => {$(
        $(#[$doc])*
        pub(super) static $name: LazyLock<Script> = LazyLock::new(|| {
            Script::new(concat!(
                "local seen = redis.call('GETRANGE', KEYS[1], 0, 7)\n",
                "if seen == '' then return 0 end\n",
                "if seen ~= ARGV[1] then return 1 end\n",
                $write,
                "\nreturn 2"
            ))
        });
    )+};
}

scripts! {
    /// Puts a value where `seen` is.
    REPLACE = "redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])";

    /// Moves the end of what is `seen`.
    TOUCH = "redis.call('SETRANGE', KEYS[1], 8, ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])";

    /// Removes what is `seen`.
    REMOVE = "redis.call('DEL', KEYS[1])";

    /// Puts a value where `seen` is, and another one under a key that is free.
    CYCLE = "if not redis.call('SET', KEYS[2], ARGV[4], 'NX', 'PX', ARGV[5]) then return 1 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])";
}

/// Writes what is there once more, or, where nothing is, that; so that a `WAIT` behind it speaks of all that was
/// written there before, by whichever connection.
pub(super) static CONFIRM: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.call('GETRANGE', KEYS[1], 0, 7) ~= ARGV[1] then return 1 end
if ARGV[1] == '' then
redis.call('SET', KEYS[1], '', 'PX', 60000)
redis.call('DEL', KEYS[1])
else redis.call('SETRANGE', KEYS[1], 0, ARGV[1]) end
return 2",
    )
});

/// All of them.
pub(super) static ALL: [&LazyLock<Script>; 5] = [&REPLACE, &TOUCH, &REMOVE, &CYCLE, &CONFIRM];

/// A script, and the name by which a server knows it.
pub(super) struct Script {
    /// Its text.
    pub(super) text: &'static str,
    /// SHA-1 of it, as `EVALSHA` has it.
    pub(super) name: String,
}

impl Script {
    fn new(text: &'static str) -> Self {
        let name = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
        Self { text, name: HEXLOWER.encode(name.as_ref()) }
    }
}
