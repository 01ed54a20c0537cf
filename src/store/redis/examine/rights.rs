//! What an ACL user must be allowed.

use std::fmt::Write as _;

use crate::store::redis::target::Target;

/// The commands of the engine, in its scripts and outside them, as `ACL SETUSER` calls them.
pub(super) const COMMANDS: [&str; 10] =
    ["get", "set", "getrange", "setrange", "pexpire", "del", "eval", "evalsha", "script|load", "ping"];
/// What it takes besides where the database is another one than 0.
pub(super) const SELECT: &str = "select";

/// Who we are there, for people.
pub(super) fn user(target: &Target) -> String {
    format!("user {:?} of {}", target.user.as_deref().unwrap_or("default"), target.place)
}

/// The line for `redis-cli` that allows a user exactly what the engine needs.
///
/// The default user is everybody's, and is not to lose what others need: another one is made up.
pub(super) fn grant(target: &Target, prefix: &str) -> String {
    let mut line = match target.user.as_deref() {
        Some(user) if user != "default" => {
            format!("ACL SETUSER {user} resetkeys ~{}* resetchannels nocommands", pattern(prefix))
        }
        _ => format!("ACL SETUSER coatroom on >PASSWORD ~{}*", pattern(prefix)),
    };
    let select = (target.database != 0).then_some(SELECT);
    for command in COMMANDS.into_iter().chain(target.more.iter().copied()).chain(select) {
        let _ = write!(line, " +{command}");
    }
    line
}

/// A text as a pattern that only it matches; a space, which no pattern may hold, is matched by any character.
fn pattern(text: &str) -> String {
    let mut pattern = String::new();
    for c in text.chars() {
        match c {
            '*' | '?' | '[' | ']' | '\\' => pattern.extend(['\\', c]),
            c if c.is_whitespace() || c == '\0' => pattern.push('?'),
            c => pattern.push(c),
        }
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_a_pattern_that_only_it_matches() {
        for (text, expected) in
            [("coat:", "coat:"), ("a*b?", "a\\*b\\?"), ("[x]\\", "\\[x\\]\\\\"), ("a b", "a?b"), ("", "")]
        {
            assert_eq!(pattern(text), expected);
        }
    }
}
