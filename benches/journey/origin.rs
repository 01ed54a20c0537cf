//! The backend of all contestants: as quick as it can be, and it counts what it is shown.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;

use memchr::memmem;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What every session holds, and nothing else does: a request that has it carries its session.
pub const MARKER: &str = "rigmarker7f3a";
/// The entries of a session, about 200 bytes; `counter` is another one at each write.
const ENTRIES: [(&str, &str); 6] = [
    ("uid", MARKER),
    ("name", "Ada Lovelace"),
    ("mail", "ada.lovelace@example.org"),
    ("roles", "admin,editor,auditor"),
    ("counter", ""),
    ("pad", "0123456789012345678901234567890123456789012345678901234567890123456789"),
];
/// What the body of an answer to a write begins with; the counter's eight digits follow.
pub const COUNTER: &str = "counter=";

/// How a contestant is told what to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `X-Session-Set`: one entry, the others stay.
    Coatroom,
    /// `X-Replace-Session` of mod_session: all of it anew.
    Apache,
}

impl Dialect {
    /// The path that writes one entry.
    pub const fn write(self) -> &'static str {
        match self {
            Self::Coatroom => "/write/coatroom",
            Self::Apache => "/write/apache",
        }
    }

    /// The path that begins a session.
    pub const fn login(self) -> &'static str {
        match self {
            Self::Coatroom => "/login/coatroom",
            Self::Apache => "/login/apache",
        }
    }

    fn directive(self, counter: &str, login: bool) -> String {
        let value = |name: &str, value: &str| {
            if name == "counter" { counter.to_owned() } else { value.to_owned() }
        };
        match self {
            Self::Coatroom if login => {
                let all = ENTRIES.iter().map(|(name, text)| ((*name).to_owned(), value(name, text).into()));
                let all: serde_json::Map<String, serde_json::Value> = all.collect();
                format!("X-Session-Set: {}", serde_json::Value::from(all))
            }
            Self::Coatroom => format!("X-Session-Set: {{\"counter\":\"{counter}\"}}"),
            Self::Apache => {
                let form = |text: &str| text.replace('@', "%40").replace(',', "%2C").replace(' ', "+");
                let pairs = ENTRIES.iter().map(|(name, text)| format!("{name}={}", form(&value(name, text))));
                format!("X-Replace-Session: {}", pairs.collect::<Vec<_>>().join("&"))
            }
        }
    }
}

/// A backend on a thread of its own.
pub struct Origin {
    /// Where it listens.
    pub address: SocketAddr,
    counts: Arc<Counts>,
    /// Its thread, as the system shows it.
    pub thread: PathBuf,
}

/// What it has seen so far.
#[derive(Debug, Default)]
struct Counts {
    requests: AtomicU64,
    with_session: AtomicU64,
    writes: AtomicU64,
}

impl Origin {
    /// Starts one on a free port.
    pub fn start() -> Self {
        let counts = Arc::new(Counts::default());
        let (shared, (tell, told)) = (counts.clone(), std::sync::mpsc::channel());
        thread::spawn(move || {
            let runtime = super::runtime();
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
                let own = fs::read_link("/proc/thread-self").expect("Linux has it");
                tell.send((listener.local_addr().expect("an address"), own)).expect("somebody waits");
                loop {
                    let (stream, _) = listener.accept().await.expect("a connection");
                    tokio::spawn(serve(stream, shared.clone()));
                }
            });
        });
        let (address, own) = told.recv().expect("it starts");
        Self { address, counts, thread: PathBuf::from("/proc").join(own) }
    }

    /// Requests so far, and how many of them carried a session.
    pub fn seen(&self) -> (u64, u64) {
        (self.counts.requests.load(Relaxed), self.counts.with_session.load(Relaxed))
    }
}

/// A connection that ends is no event.
async fn serve(mut stream: TcpStream, counts: Arc<Counts>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (small, large) = (answer("", &[b'x'; 200]), answer("", &[b'x'; 100 * 1024]));
    let mut heard: Vec<u8> = Vec::with_capacity(16 * 1024);
    loop {
        let end = loop {
            match memmem::find(&heard, b"\r\n\r\n") {
                Some(at) => break at + 4,
                None if stream.read_buf(&mut heard).await? == 0 => return Ok(()),
                None => {}
            }
        };
        let request = &heard[..end];
        counts.requests.fetch_add(1, Relaxed);
        if memmem::find(request, MARKER.as_bytes()).is_some() {
            counts.with_session.fetch_add(1, Relaxed);
        }
        let path = request.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
        match path {
            b"/small" => stream.write_all(&small).await?,
            b"/large" => stream.write_all(&large).await?,
            b"/echo" => stream.write_all(&answer("", request)).await?,
            _ => stream.write_all(&written(path, &counts)).await?,
        }
        heard.drain(..end);
    }
}

/// The answer that writes, with the counter in its body too.
fn written(path: &[u8], counts: &Counts) -> Vec<u8> {
    let counter = format!("{:08}", counts.writes.fetch_add(1, Relaxed) + 1);
    let dialects = [Dialect::Coatroom, Dialect::Apache];
    let asked = dialects.iter().find_map(|dialect| {
        let login = path == dialect.login().as_bytes();
        (login || path == dialect.write().as_bytes()).then(|| dialect.directive(&counter, login))
    });
    let body = format!("{COUNTER}{counter}{:x<width$}", "", width = 200 - COUNTER.len() - counter.len());
    match asked {
        Some(directive) => answer(&format!("{directive}\r\n"), body.as_bytes()),
        None => b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec(),
    }
}

fn answer(headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\nContent-Type: text/plain\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}
