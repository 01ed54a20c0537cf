//! Servers that all tests share, and which nobody drops: they end when this program does, however it ends.

use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A process that waits for our end, and then ends others and removes their folders.
pub struct Guard {
    /// It reads from a pipe that nobody else writes to: the system closes it when we end.
    _shell: Child,
}

impl Guard {
    /// Over these processes and their folders.
    pub fn over<'a>(servers: impl Iterator<Item = (u32, &'a Path)>) -> Self {
        let mut script = String::from("read -r _");
        for (id, folder) in servers {
            script += &format!("; kill -9 {id}; rm -rf '{}'", folder.display());
        }
        let mut command = Command::new("sh");
        command.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Self { _shell: command.spawn().expect("a shell") }
    }
}
