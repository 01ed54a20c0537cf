//! A head as it is sent: written in one piece, in order, never looked up again.

use http::header::{HeaderMap, HeaderValue};

/// The head of a request, line by line.
///
/// A map would hash, move and drop each header for nothing: what the sidecar adds is known, and nobody asks for it.
/// Whoever adds a value sees to it that no name is said twice and no value holds a line's end.
#[derive(Debug, Default)]
pub struct Lines(Vec<u8>);

impl Lines {
    /// Begins a request: `GET /path HTTP/1.1`.
    pub fn request(method: &str, target: &str, room: usize) -> Self {
        let mut lines = Self(Vec::with_capacity(room));
        for part in [method, " ", target, " HTTP/1.1\r\n"] {
            lines.0.extend_from_slice(part.as_bytes());
        }
        lines
    }

    /// Adds a header.
    pub fn add(&mut self, name: &str, value: &HeaderValue) {
        self.text(name, value.as_bytes());
    }

    /// Adds a header whose value is visible ASCII.
    pub fn text(&mut self, name: &str, value: &[u8]) {
        debug_assert!(value.iter().all(|byte| *byte >= b' ' && *byte != 0x7f || *byte == b'\t'), "{name}");
        // One by one: what is the same for all lines is no copy of unknown length.
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b": ");
        self.0.extend_from_slice(value);
        self.0.extend_from_slice(b"\r\n");
    }

    /// Adds a header whose value is the parts of a visible text.
    pub fn joined(&mut self, name: &str, parts: &[&str]) {
        for part in [name, ": "].iter().chain(parts) {
            debug_assert!(!part.contains(['\r', '\n']), "{name}");
            self.0.extend_from_slice(part.as_bytes());
        }
        self.0.extend_from_slice(b"\r\n");
    }

    /// Adds whole lines, each with its end.
    pub fn written(&mut self, lines: &[u8]) {
        debug_assert!(lines.ends_with(b"\r\n"));
        self.0.extend_from_slice(lines);
    }

    /// Adds a list in one line: what is there of it, and an element made of parts.
    pub fn list(&mut self, name: &str, before: &[HeaderValue], element: &[&str]) {
        let start = self.0.len();
        self.joined(name, element);
        if !before.is_empty() {
            // It is written behind what was there, which nearly nobody has.
            let element = self.0.split_off(start + name.len() + 2);
            for value in before {
                self.0.extend_from_slice(value.as_bytes());
                self.0.extend_from_slice(b", ");
            }
            self.0.extend_from_slice(&element);
        }
    }

    /// Adds all of these.
    pub fn all(&mut self, headers: &HeaderMap) {
        for (name, value) in headers {
            self.add(name.as_str(), value);
        }
    }

    /// The lines as they are, without an end.
    pub fn into_inner(self) -> Vec<u8> {
        self.0
    }

    /// Ends the head with an empty line.
    pub fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(b"\r\n");
        self.0
    }
}

#[cfg(test)]
impl Lines {
    /// What a reader makes of them.
    pub(crate) fn read(&self) -> HeaderMap {
        let text = str::from_utf8(&self.0).expect("ASCII");
        let lines = text.lines().filter_map(|line| line.split_once(": "));
        lines
            .map(|(name, value)| {
                (name.parse().expect("a name"), HeaderValue::try_from(value).expect("a value"))
            })
            .fold(HeaderMap::new(), |mut headers, (name, value): (http::HeaderName, _)| {
                headers.append(name, value);
                headers
            })
    }
}
