//! HTTP as the rounds need it, fast: a client that keeps its connection, and a backend that does as it is told.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A message's head, its body, and what came behind it.
struct Message {
    head: String,
    body: String,
}

impl Message {
    /// The value of a header.
    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// Reads one message; what came behind it stays in `buffer`.
async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Message> {
    let end = loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    let mut message = Message { head, body: String::new() };
    let length: usize =
        message.header("content-length").map_or(0, |length| length.parse().expect("a length"));
    while buffer.len() < end + length {
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    message.body = String::from_utf8_lossy(&buffer[end..end + length]).into_owned();
    buffer.drain(..end + length);
    Ok(message)
}

/// What a client was answered.
pub struct Reply {
    pub status: u16,
    /// The row of the decision table.
    pub row: String,
    /// The session cookie that it was given, or `Some("")` to forget it.
    pub cookie: Option<String>,
    pub body: String,
}

/// A client with one connection, which is opened again when it was lost.
pub struct Client {
    address: SocketAddr,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
}

impl Client {
    pub const fn new(address: SocketAddr) -> Self {
        Self { address, stream: None, buffer: Vec::new() }
    }

    /// Sends a request under a token, to which the backend answers with these headers.
    pub async fn ask(&mut self, token: Option<&str>, wanted: &[(&str, String)]) -> io::Result<Reply> {
        let reply = self.exchange(token, wanted).await;
        if reply.is_err() {
            self.hang_up();
        }
        reply
    }

    /// Forgets the connection, whatever is under way on it.
    pub fn hang_up(&mut self) {
        self.stream = None;
        self.buffer.clear();
    }

    async fn exchange(&mut self, token: Option<&str>, wanted: &[(&str, String)]) -> io::Result<Reply> {
        let mut text = String::from("GET / HTTP/1.1\r\nHost: shop.test\r\n");
        if let Some(token) = token {
            text += &format!("Cookie: sessionid={token}\r\n");
        }
        for (name, value) in wanted {
            text += &format!("Want-{name}: {value}\r\n");
        }
        text += "\r\n";
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(self.address).await?;
                stream.set_nodelay(true)?;
                self.stream.insert(stream)
            }
        };
        stream.write_all(text.as_bytes()).await?;
        let message = read(stream, &mut self.buffer).await?;
        let status = message.head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
        let cookie = message.header("set-cookie").and_then(|line| {
            let value = line.strip_prefix("sessionid=")?.split(';').next()?;
            Some(if line.contains("Max-Age=0") { String::new() } else { value.to_owned() })
        });
        let row = message.header("x-coatroom-decision").unwrap_or_default().to_owned();
        if message.header("connection") == Some("close") {
            self.hang_up();
        }
        Ok(Reply { status, row, cookie, body: message.body })
    }
}

/// A backend that answers with the headers that the request asks for (`Want-<Name>`), and in the body with what it
/// read: state, version and data, a line each.
pub async fn backend() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("its address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(obey(stream));
        }
    });
    address
}

async fn obey(mut stream: TcpStream) {
    drop(stream.set_nodelay(true));
    let mut buffer = Vec::new();
    while let Ok(request) = read(&mut stream, &mut buffer).await {
        let of = |name| request.header(name).unwrap_or_default();
        let body =
            format!("{}\n{}\n{}", of("x-session-state"), of("x-session-version"), of("x-session-data"));
        let mut text = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n", body.len());
        for line in request.head.lines() {
            if let Some(wanted) = line.strip_prefix("want-").or_else(|| line.strip_prefix("Want-")) {
                text += &format!("{wanted}\r\n");
            }
        }
        if stream.write_all(format!("{text}\r\n{body}").as_bytes()).await.is_err() {
            return;
        }
    }
}
