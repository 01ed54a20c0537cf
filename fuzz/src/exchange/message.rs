//! HTTP/1.1 read strictly: what is not to the letter of RFC 9112 is wrong.

use std::io::{ErrorKind, Read};

/// Header fields, names in lower case.
pub type Fields = Vec<(String, Vec<u8>)>;

/// A request or response.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// The words of the first line.
    pub first: [String; 3],
    /// The header.
    pub headers: Fields,
    /// The body, without its chunks.
    pub body: Vec<u8>,
    /// The trailer section.
    pub trailers: Fields,
}

impl Message {
    /// The values of a field.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.headers.iter().filter(move |(other, _)| other == name).map(|(_, value)| &value[..])
    }

    /// The only value of a field.
    pub fn one(&self, name: &str) -> Option<&[u8]> {
        let mut all = self.headers.iter().filter(|(other, _)| other == name).map(|(_, value)| &value[..]);
        let first = all.next();
        assert_eq!(all.next(), None, "{name} twice in {self:?}");
        first
    }

    /// The same as text; `""` where there is none.
    pub fn text(&self, name: &str) -> &str {
        self.one(name).map_or("", |value| std::str::from_utf8(value).expect("text"))
    }

    /// A response's status.
    pub fn status(&self) -> u16 {
        self.first[1].parse().expect("it was read as three digits")
    }
}

/// Why there is no message.
#[derive(Debug, PartialEq)]
pub enum Fault {
    /// The connection ended before one began.
    End,
    /// It ended, or nothing more came, in the midst of one.
    Broken,
    /// Nothing came.
    Silent,
    /// It is none, and why.
    Wrong(String),
}

/// Reads messages, one after another.
pub struct Wire<S> {
    /// Where they come from.
    pub stream: S,
    buffer: Vec<u8>,
}

impl<S: Read> Wire<S> {
    /// Reads from here on.
    pub const fn new(stream: S) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    /// What came behind the last message.
    pub fn rest(&self) -> &[u8] {
        &self.buffer
    }

    /// Reads a request.
    pub fn request(&mut self) -> Result<Message, Fault> {
        let mut message = self.head()?;
        let [method, target, version] = &message.first;
        let visible = target.bytes().all(|byte| byte > b' ' && byte != 0x7f);
        check(is_token(method.as_bytes()) && !target.is_empty() && visible && version == "HTTP/1.1", || {
            format!("the request line {:?}", message.first)
        })?;
        self.body(&mut message, false)?;
        Ok(message)
    }

    /// Reads a response; one to `HEAD` has no body.
    pub fn response(&mut self, head: bool) -> Result<Message, Fault> {
        let mut message = self.head()?;
        let [version, status, _] = &message.first;
        let digits = status.len() == 3 && status.bytes().all(|byte| byte.is_ascii_digit());
        check(digits && ["HTTP/1.0", "HTTP/1.1"].contains(&&**version), || {
            format!("the status line {:?}", message.first)
        })?;
        let status = message.status();
        let framed = ["content-length", "transfer-encoding"].map(|name| message.all(name).count());
        check(framed == [0, 0] || status >= 200 && status != 204, || format!("{status} frames a body"))?;
        if !head && status >= 200 && status != 204 && status != 304 {
            self.body(&mut message, true)?;
        }
        Ok(message)
    }

    /// Reads a head, and no body.
    pub fn head(&mut self) -> Result<Message, Fault> {
        let line = self.line()?;
        let line =
            String::from_utf8(line).map_err(|line| Fault::Wrong(format!("the first line {line:?}")))?;
        let mut words = line.splitn(3, ' ').map(str::to_owned);
        let first = std::array::from_fn(|_| words.next().unwrap_or_default());
        let headers = self.fields()?;
        Ok(Message { first, headers, ..Message::default() })
    }

    fn fields(&mut self) -> Result<Fields, Fault> {
        let mut fields = Fields::new();
        loop {
            let line =
                self.line().map_err(|fault| if fault == Fault::End { Fault::Broken } else { fault })?;
            if line.is_empty() {
                return Ok(fields);
            }
            let at = line.iter().position(|byte| *byte == b':').unwrap_or(0);
            let (name, value) = (&line[..at], line[at..].strip_prefix(b":").unwrap_or_default());
            let is_text = value.iter().all(|byte| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f));
            check(is_token(name) && is_text, || format!("the line {:?}", String::from_utf8_lossy(&line)))?;
            let name = String::from_utf8_lossy(name).to_ascii_lowercase();
            fields.push((name, value.trim_ascii().to_vec()));
        }
    }

    fn body(&mut self, message: &mut Message, to_end: bool) -> Result<(), Fault> {
        let framing =
            ["content-length", "transfer-encoding"].map(|name| message.all(name).collect::<Vec<_>>());
        let length = match &framing.each_ref().map(|values| &values[..]) {
            [[], []] if to_end => return self.end(message),
            [[], []] => 0,
            [[length], []] if !length.is_empty() && length.iter().all(u8::is_ascii_digit) => {
                String::from_utf8_lossy(length).parse().map_err(|_| Fault::Wrong("a length".to_owned()))?
            }
            [[], [coding]] if coding.eq_ignore_ascii_case(b"chunked") => return self.chunks(message),
            _ => return Err(Fault::Wrong(format!("framed as {framing:?}"))),
        };
        message.body = self.bytes(length)?;
        Ok(())
    }

    fn chunks(&mut self, message: &mut Message) -> Result<(), Fault> {
        loop {
            let size = self.line().map_err(|_| Fault::Broken)?;
            let hexadecimal = !size.is_empty() && size.iter().all(u8::is_ascii_hexdigit);
            check(hexadecimal, || format!("the chunk {:?}", String::from_utf8_lossy(&size)))?;
            let size = usize::from_str_radix(&String::from_utf8_lossy(&size), 16)
                .map_err(|_| Fault::Wrong("a chunk's size".to_owned()))?;
            if size == 0 {
                message.trailers = self.fields()?;
                return Ok(());
            }
            message.body.extend(self.bytes(size)?);
            let end = self.bytes(2)?;
            check(end == b"\r\n", || "a chunk that doesn't end".to_owned())?;
        }
    }

    fn end(&mut self, message: &mut Message) -> Result<(), Fault> {
        loop {
            match self.fill() {
                Ok(()) => {}
                Err(Fault::End) => break,
                Err(_) => return Err(Fault::Broken),
            }
        }
        message.body = std::mem::take(&mut self.buffer);
        Ok(())
    }

    fn line(&mut self) -> Result<Vec<u8>, Fault> {
        let mut from = 0;
        loop {
            if let Some(at) = self.buffer[from..].iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.buffer.drain(..=from + at).collect();
                line.pop();
                check(line.pop() == Some(b'\r'), || "a line that ends in LF alone".to_owned())?;
                return Ok(line);
            }
            from = self.buffer.len();
            match self.fill() {
                Err(fault) if from > 0 && fault != Fault::Silent => return Err(Fault::Broken),
                filled => filled?,
            }
        }
    }

    fn bytes(&mut self, count: usize) -> Result<Vec<u8>, Fault> {
        while self.buffer.len() < count {
            self.fill().map_err(|_| Fault::Broken)?;
        }
        Ok(self.buffer.drain(..count).collect())
    }

    fn fill(&mut self) -> Result<(), Fault> {
        let mut piece = [0; 4096];
        match self.stream.read(&mut piece) {
            Ok(0) => Err(Fault::End),
            Ok(count) => {
                self.buffer.extend_from_slice(&piece[..count]);
                Ok(())
            }
            Err(error) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()) => {
                Err(Fault::Silent)
            }
            // libFuzzer's own clock.
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            Err(_) => Err(Fault::End),
        }
    }
}

fn check(right: bool, wrong: impl FnOnce() -> String) -> Result<(), Fault> {
    if right { Ok(()) } else { Err(Fault::Wrong(wrong())) }
}

/// RFC 9110 §5.6.2.
pub fn is_token(text: &[u8]) -> bool {
    let is_char = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(is_char)
}
