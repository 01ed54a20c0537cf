//! File descriptors: how many there are, and what their end looks like.

use std::fs;
use std::io;

use tracing::warn;

use super::limits::Limits;

/// What the program has open besides connections with clients and the backend: files, sockets of the store, telemetry.
const OTHERS: usize = 64;

/// Has the process (`EMFILE`) or the system (`ENFILE`) no descriptor left?
pub fn are_gone(error: &io::Error) -> bool {
    // The same numbers on Linux, the BSDs and macOS.
    matches!(error.raw_os_error(), Some(23 | 24))
}

/// Says so where the limits allow more connections than there are descriptors for.
///
/// Not an error: accepting pauses when they are gone, and goes on.
pub fn advise(limits: &Limits) {
    let needed = limits.connections.saturating_add(limits.backend_connections).saturating_add(OTHERS);
    if let Some(allowed) = allowed()
        && allowed < needed
    {
        warn!(
            allowed,
            needed,
            "proxy.max_connections and proxy.max_backend_connections are more than the files that the program may \
             open: raise that (LimitNOFILE= of systemd, ulimit -n), or lower them"
        );
    }
}

/// How many the process may have, where the system tells.
fn allowed() -> Option<usize> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_want_of_descriptors_is_one() {
        assert!(are_gone(&io::Error::from_raw_os_error(24)) && are_gone(&io::Error::from_raw_os_error(23)));
        assert!(!are_gone(&io::Error::from_raw_os_error(103)) && !are_gone(&io::Error::other("x")));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn linux_tells_how_many_there_are() {
        assert!(allowed().is_some_and(|allowed| allowed > 0));
    }
}
