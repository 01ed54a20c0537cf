//! A server that doesn't want us: why, and what to do about it.

use super::rights::{grant, user};
use super::{URL, illness};
use crate::store::Finding;
use crate::store::redis::answer::Said;
use crate::store::redis::target::Target;

/// What a refusal of one of the first words means.
pub(super) fn explain(target: &Target, prefix: &str, command: &str, said: &Said) -> Finding {
    let (place, password) = (&target.place, target.password.setting);
    let says = |text: &str| said.detail.contains(text);
    match (command, &*said.code) {
        ("PING", "NOAUTH") if password == target.password.file_setting => Finding::problem(
            password,
            format!("names a file that is empty, and {place} wants a password"),
            "put it there",
        ),
        ("PING", "NOAUTH") => Finding::problem(
            password,
            format!("is not set, and {place} wants one"),
            format!("set it, or {}", target.password.file_setting),
        ),
        ("PING", "DENIED") => Finding::problem(
            URL,
            format!("{place} is in protected mode: it serves nobody from another machine"),
            "give it a password (requirepass, or an ACL user)",
        ),
        ("AUTH", "WRONGPASS") => wrong(target),
        ("AUTH", _) if says("without any password") => Finding::problem(
            password,
            format!("holds a password, and {place} wants none"),
            "remove it, or set requirepass there",
        ),
        ("SELECT", "NOPERM") => Finding::problem(
            URL,
            format!("{} may not select database {}", user(target), target.database),
            format!("run {}", grant(target, prefix)),
        ),
        ("SELECT", _) if says("out of range") => Finding::problem(
            URL,
            format!("{place} has no database {}", target.database),
            "write a smaller number (most have 0 to 15), or raise databases there",
        ),
        _ if says("max number of clients") => Finding::problem(
            URL,
            format!("{place} has as many connections as it takes"),
            "raise maxclients there, or see who has them (CLIENT LIST)",
        ),
        _ => illness::of(target, command, said),
    }
}

/// Which of the two is wrong is what a server doesn't tell, so that names can't be tried out.
fn wrong(target: &Target) -> Finding {
    let (place, password) = (&target.place, target.password.setting);
    match target.user.as_deref() {
        None if password.starts_with("store.sentinel") => Finding::problem(
            password,
            format!("holds another password than Sentinel {place} has"),
            "correct it",
        ),
        None => Finding::problem(
            password,
            format!("holds another password than the default user of {place} has"),
            "correct it, or name a user in store.url",
        ),
        Some(user) if !target.password.is_set() => Finding::problem(
            password,
            format!("is not set, and {place} lets no user {user:?} in without"),
            "set it, or correct the user in store.url",
        ),
        Some(user) => Finding::problem(
            password,
            format!(
                "holds another password than user {user:?} of {place} has, or there is no such user, or it is off"
            ),
            "correct it, or the user in store.url; ACL LIST there shows who there is",
        ),
    }
}
