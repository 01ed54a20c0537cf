//! A sidecar in this process, and a backend behind it that answers as it is told.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use coatroom::app::App;
use coatroom::config::Config;
use coatroom::time::{Clock, Stopwatch, Timestamp};

use super::message::{Fault, Message, Wire};

/// The header that tells exchanges apart.
pub const MARK: &str = "x-exchange";
/// Stands in an answer where the request's nonce is to be.
pub const NONCE: &[u8; 16] = b"NONCENONCENONCE0";
/// A token that no sidecar has made.
pub const TOSSED: &str = "tossedtossedtossedtossedtossedto";
/// Nothing takes that long.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// What requests get that nobody has announced.
const STRAY: &[u8] = b"HTTP/1.1 200 OK\r\nX-Session-Set: {\"stray\":1}\r\nx_session_set: {}\r\n\
    Set-Cookie: sessionid=tossedtossedtossedtossedtossedto\r\nContent-Length: 2\r\n\r\nok";

/// What the backend answers.
pub struct Answer {
    /// To the byte.
    pub bytes: Vec<u8>,
    /// Ends the connection then, and tells when the sidecar has ended it too.
    pub closes: Option<Sender<()>>,
}

#[derive(Default)]
struct Desk {
    answers: HashMap<String, Answer>,
    seen: Vec<Message>,
    wrong: Vec<String>,
}

/// A sidecar and its backend.
pub struct Stage {
    address: SocketAddr,
    desk: Arc<Mutex<Desk>>,
    count: AtomicU64,
    /// Connections of clients.
    connected: AtomicU64,
    app: App,
}

impl Stage {
    /// Sets one up with these settings.
    pub fn new(change: impl FnOnce(&mut Config)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let mut config = Config::default();
        config.proxy.backend = format!("http://{}", listener.local_addr().expect("its address"));
        config.proxy.listen = SocketAddr::from(([127, 0, 0, 1], 0));
        config.telemetry.listen = SocketAddr::from(([127, 0, 0, 1], 0));
        config.proxy.workers = 1;
        config.headers.explain = true;
        config.store.max_sessions = 10_000;
        change(&mut config);
        let desk = Arc::new(Mutex::new(Desk::default()));
        let behind = desk.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let desk = behind.clone();
                thread::spawn(move || converse(stream, &desk));
            }
        });
        let clock = Clock::stopped_at(Timestamp::from_millis(1_700_000_000_000));
        let app = App::start(&config, clock).expect("these settings are right");
        Self { address: app.address(), desk, count: AtomicU64::new(0), connected: AtomicU64::new(0), app }
    }

    /// A client's connection.
    pub fn connect(&self) -> TcpStream {
        self.connected.fetch_add(1, Relaxed);
        let stream = TcpStream::connect(self.address).expect("the sidecar listens");
        stream.set_nodelay(true).expect("no delay");
        stream
    }

    /// A name for one exchange.
    pub fn mark(&self) -> String {
        self.count.fetch_add(1, Relaxed).to_string()
    }

    /// Announces the answer to a request.
    pub fn answers(&self, mark: &str, answer: Answer) {
        lock(&self.desk).answers.insert(mark.to_owned(), answer);
    }

    /// Waits until nobody is connected and nothing is under way.
    pub fn rests(&self) {
        let idle = || {
            let text = self.app.metrics().render().expect("metrics are text");
            let text = String::from_utf8(text).expect("metrics are text");
            let is = |name: &str, value: u64| text.lines().any(|line| *line == format!("{name} {value}"));
            let gauge = |name: &str| is(name, 0);
            // Whoever was here and left may still stand in the listener's queue.
            let accepted = is("coatroom_http_connections_total", self.connected.load(Relaxed));
            accepted
                && gauge("coatroom_http_requests_in_flight")
                && gauge("coatroom_http_connections")
                && gauge("coatroom_tunnels")
        };
        let watch = Stopwatch::start();
        while !idle() {
            assert!(watch.elapsed() < PATIENCE, "a request or a connection never ends");
            thread::sleep(Duration::from_micros(200));
        }
    }

    /// What the backend has received since.
    pub fn seen(&self) -> Vec<Message> {
        let mut desk = lock(&self.desk);
        assert!(desk.wrong.is_empty(), "the backend received {:?}", desk.wrong);
        desk.answers.clear();
        std::mem::take(&mut desk.seen)
    }
}

fn lock(desk: &Mutex<Desk>) -> std::sync::MutexGuard<'_, Desk> {
    desk.lock().unwrap_or_else(PoisonError::into_inner)
}

fn converse(stream: TcpStream, desk: &Mutex<Desk>) {
    stream.set_nodelay(true).expect("no delay");
    let mut wire = Wire::new(stream);
    loop {
        let request = match wire.request() {
            Ok(request) if wire.rest().is_empty() => request,
            Ok(request) => return lock(desk).wrong.push(format!("{:?} behind {request:?}", wire.rest())),
            Err(Fault::Wrong(what)) => return lock(desk).wrong.push(what),
            Err(_) => return,
        };
        let mark = request.all(MARK).next().map(String::from_utf8_lossy).unwrap_or_default().into_owned();
        let nonce = request.all("x-session-nonce").next().map(<[u8]>::to_vec);
        let answer = {
            let mut desk = lock(desk);
            desk.seen.push(request);
            desk.answers.remove(&mark)
        };
        let Answer { mut bytes, closes } =
            answer.unwrap_or_else(|| Answer { bytes: STRAY.to_vec(), closes: None });
        if let Some(nonce) = nonce.filter(|nonce| nonce.len() == NONCE.len()) {
            while let Some(at) = bytes.windows(NONCE.len()).position(|window| window == NONCE) {
                bytes[at..at + NONCE.len()].copy_from_slice(&nonce);
            }
        }
        let written = wire.stream.write_all(&bytes);
        if let Some(closed) = closes {
            drop(wire.stream.shutdown(Shutdown::Write));
            while wire.stream.read(&mut [0; 512]).is_ok_and(|count| count > 0) {}
            drop(wire);
            let _ = closed.send(());
            return;
        }
        if written.is_err() {
            return;
        }
    }
}
