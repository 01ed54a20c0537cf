//! Makes every value of a log line harmless to whoever reads it.
//!
//! A client may put control characters into a path and a backend into a header; neither may forge a line or talk to
//! a terminal. tracing-subscriber escapes ESC and its like since 0.3.20 (RUSTSEC-2025-0055), but leaves line feeds
//! in text, and DEL and C1 in JSON; and no version looks at characters that turn the reading direction around.

use std::fmt::{self, Write as _};
use std::io;

use tracing::field::Field;
use tracing_subscriber::fmt::format::Writer;

/// Writes one field for people; the message goes without its name.
pub(super) fn write_field(to: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    match (field.name(), to.has_ansi_escapes()) {
        ("message", _) => {}
        // What the `log` crate's events carry for the subscriber itself.
        (name, _) if name.starts_with("log.") => return Ok(()),
        (name, true) => write!(to, "\x1b[3m{name}\x1b[0m\x1b[2m=\x1b[0m")?,
        (name, false) => write!(to, "{name}=")?,
    }
    write!(Text(to), "{value:?}")
}

/// Is this a character that could end a line, steer a terminal, or turn the reading direction around?
pub(super) fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Escapes values as Rust does: `\n`, `\u{1b}`.
struct Text<'a, 'w>(&'a mut Writer<'w>);

impl fmt::Write for Text<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if !text.contains(steers) {
            return self.0.write_str(text);
        }
        text.chars().try_for_each(|c| match steers(c) {
            true => write!(self.0, "{}", c.escape_default()),
            false => self.0.write_char(c),
        })
    }
}

/// Escapes what JSON need not: `\u009b`. It is given whole lines, in which such a character can only be inside a string.
pub(super) struct Json<W>(pub(super) W);

impl<W: io::Write> io::Write for Json<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        if text.chars().any(|c| c != '\n' && steers(c)) {
            let mut escaped = String::with_capacity(text.len() + 16);
            for c in text.chars() {
                match c != '\n' && steers(c) {
                    true => escaped.push_str(&format!("\\u{:04x}", u32::from(c))),
                    false => escaped.push(c),
                }
            }
            self.0.write_all(escaped.as_bytes())?;
        } else {
            self.0.write_all(line)?;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
