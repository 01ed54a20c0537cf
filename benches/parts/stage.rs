//! A worker of the proxy on this very thread, between a client and a backend that do next to nothing.
//!
//! All three share one thread, so that what happens, and in which order, is the same every time, and instructions can
//! be counted. What the client and the backend cost is in the count too, and is always the same.

use std::cell::RefCell;
use std::sync::Arc;

use arc_swap::ArcSwap;
use coatroom::app;
use coatroom::config::Config;
use coatroom::drain::Drain;
use coatroom::proxy::backend::Address;
use coatroom::proxy::limits::Rooms;
use coatroom::proxy::listen::{self, Parts};
use coatroom::telemetry::metrics::Metrics;
use coatroom::time::Clock;
use memchr::memmem;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

use super::cases::{DATA, NOW};

/// Exchanges before the first that counts: pools are filled, and what is made once is made.
const BEFORE: usize = 5;

/// What is exchanged; the names are those of `benches/journey.rs`.
#[derive(Clone, Copy, PartialEq)]
pub enum Scenario {
    /// No cookie, 200 bytes come back.
    S0,
    /// No cookie, 100 KiB come back.
    S0L,
    /// A session is read from memory.
    S1,
    /// One entry is changed and saved.
    S3,
}

/// The three of them.
pub struct Stage {
    runtime: Runtime,
    actors: RefCell<Actors>,
    _worker: JoinHandle<std::io::Result<()>>,
    _drain: Drain,
}

struct Actors {
    client: TcpStream,
    backend: TcpStream,
    request: Vec<u8>,
    response: Vec<u8>,
    room: Vec<u8>,
}

impl Stage {
    /// Sets them up, with a session where the scenario has one.
    pub fn new(scenario: Scenario) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let drain = Drain::default();
        let (actors, worker) = runtime.block_on(begin(scenario, &drain));
        let stage = Self { runtime, actors: RefCell::new(actors), _worker: worker, _drain: drain };
        (0..BEFORE).for_each(|_| stage.exchange());
        stage
    }

    /// One exchange, from the client's request to the last byte that it gets.
    pub fn exchange(&self) {
        self.runtime.block_on(self.actors.borrow_mut().exchange());
    }
}

async fn begin(scenario: Scenario, drain: &Drain) -> (Actors, JoinHandle<std::io::Result<()>>) {
    let origin = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let (config, metrics) = (Config::default(), Arc::new(Metrics::new(&[], &[])));
    let store = app::open(&config, &metrics).expect("a store");
    let rules = app::rules(&config, &store, &metrics).expect("settings that can be obeyed");
    let parts = Parts {
        rules: Arc::new(ArcSwap::from_pointee(rules)),
        metrics,
        backend: Address::parse(&format!("http://{}", origin.local_addr().expect("an address")))
            .expect("one"),
        clock: Clock::stopped_at(NOW),
        drain: drain.clone(),
        guard: drain.guard(),
        rooms: Rooms::default(),
        limited: Arc::default(),
    };
    let listener = listen::bind(([127, 0, 0, 1], 0).into(), 1).expect("a free port").remove(0);
    let address = listener.local_addr().expect("an address");
    let worker = tokio::spawn(listen::work(listener, parts));

    let mut client = TcpStream::connect(address).await.expect("it listens");
    client.set_nodelay(true).expect("a socket");
    client.write_all(&request("")).await.expect("it is taken");
    let (backend, _) = origin.accept().await.expect("the proxy comes");
    backend.set_nodelay(true).expect("a socket");
    let login = response(&format!("X-Session-Set: {DATA}\r\n"), 200);
    let room = vec![0; 256 * 1024];
    let mut actors = Actors { client, backend, request: Vec::new(), response: login, room };
    let told = actors.answer().await;
    let set = memmem::find(&told, b"sessionid=").expect("a login sets a cookie");
    let cookie = String::from_utf8_lossy(&told[set..set + 10 + 32]).into_owned();

    let (cookie, headers, length) = match scenario {
        Scenario::S0 => (String::new(), "", 200),
        Scenario::S0L => (String::new(), "", 100 * 1024),
        Scenario::S1 => (format!("Cookie: {cookie}\r\n"), "", 200),
        Scenario::S3 => {
            (format!("Cookie: {cookie}\r\n"), "X-Session-Set: {\"counter\":\"00000002\"}\r\n", 200)
        }
    };
    (actors.request, actors.response) = (request(&cookie), response(headers, length));
    if !cookie.is_empty() {
        actors.client.write_all(&actors.request).await.expect("it is taken");
        assert!(memmem::find(&actors.hear().await, b"Lovelace").is_some(), "the session reaches the backend");
        actors.finish().await;
    }
    (actors, worker)
}

impl Actors {
    async fn exchange(&mut self) {
        self.client.write_all(&self.request).await.expect("it is taken");
        whole(&mut self.backend, &mut self.room).await;
        self.finish().await;
    }

    /// What the backend hears.
    async fn hear(&mut self) -> Vec<u8> {
        let count = whole(&mut self.backend, &mut self.room).await;
        self.room[..count].to_vec()
    }

    /// The backend hears, answers, and the client gets this.
    async fn answer(&mut self) -> Vec<u8> {
        whole(&mut self.backend, &mut self.room).await;
        let count = self.finish().await;
        self.room[..count].to_vec()
    }

    /// The backend answers, and the client gets it all.
    async fn finish(&mut self) -> usize {
        let (mut sent, mut got) = (0, 0);
        let body = self.response.len() - memmem::find(&self.response, b"\r\n\r\n").expect("a head") - 4;
        let mut wanted = usize::MAX;
        while sent < self.response.len() || got < wanted {
            // What is long has to be sent and read at the same time.
            tokio::select! {
                biased;
                count = self.client.read(&mut self.room[got..]) => {
                    got += count.expect("bytes");
                    if let (usize::MAX, Some(head)) = (wanted, memmem::find(&self.room[..got], b"\r\n\r\n")) {
                        wanted = head + 4 + body;
                    }
                }
                count = self.backend.write(&self.response[sent..]), if sent < self.response.len() => {
                    sent += count.expect("it is taken");
                }
            }
        }
        got
    }
}

/// Reads a head, which has no body.
async fn whole(stream: &mut TcpStream, room: &mut [u8]) -> usize {
    let mut got = 0;
    while !room[..got].ends_with(b"\r\n\r\n") {
        let count = stream.read(&mut room[got..]).await.expect("bytes");
        assert!(count > 0, "the connection ended");
        got += count;
    }
    got
}

fn request(cookie: &str) -> Vec<u8> {
    let more = "User-Agent: journey\r\nAccept: */*\r\n";
    format!("GET /small HTTP/1.1\r\nHost: shop.example.org\r\n{more}{cookie}\r\n").into_bytes()
}

fn response(headers: &str, length: usize) -> Vec<u8> {
    let date = "Date: Tue, 14 Nov 2023 22:13:20 GMT\r\nContent-Type: text/plain\r\n";
    let head = format!("HTTP/1.1 200 OK\r\n{date}{headers}Content-Length: {length}\r\n\r\n");
    [head.into_bytes(), vec![b'x'; length]].concat()
}
