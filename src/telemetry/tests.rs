//! The telemetry listener, asked over real sockets.

use std::io::Write as _;
use std::process::{Command, Stdio};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinHandle;
use tokio_util::sync::DropGuard;

use super::metrics::{BackendError, CycleReason, Load, Operation, Save, Side};
use super::*;

/// A listener on a free port that stops with the test.
struct Served {
    at: SocketAddr,
    metrics: Arc<Metrics>,
    health: Health,
    stop: DropGuard,
    task: JoinHandle<()>,
}

async fn served(bounds: Bounds) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let metrics = Arc::new(Metrics::new(&["malformed", "nonce"], &["broken", "oom"]));
    let health = Health::new();
    let stop = CancellationToken::new();
    let task =
        tokio::spawn(serve_within(bounds, listener, Arc::clone(&metrics), health.clone(), stop.clone()));
    Served { at, metrics, health, stop: stop.drop_guard(), task }
}

impl Served {
    /// Sends these bytes and returns all that comes back until the other side closes.
    async fn say(&self, bytes: &str) -> String {
        let mut stream = TcpStream::connect(self.at).await.unwrap();
        stream.write_all(bytes.as_bytes()).await.unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        String::from_utf8(all).unwrap()
    }

    /// Asks, and returns the status, the head in lower case, and the body.
    async fn ask(&self, method: &str, path: &str) -> (u16, String, String) {
        let all = self.say(&format!("{method} {path} HTTP/1.1\r\nHost: telemetry\r\n\r\n")).await;
        let (head, body) = all.split_once("\r\n\r\n").unwrap();
        assert!(head.to_lowercase().contains("cache-control: no-store"), "{head}");
        (head[9..12].parse().unwrap(), head.to_lowercase(), body.to_owned())
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let (status, _, body) = self.ask("GET", path).await;
        (status, body)
    }
}

/// Makes every series but those of unusual requests greater than zero.
fn touch_everything(metrics: &Metrics) -> Vec<metrics::Raised> {
    Load::ALL.iter().for_each(|found| metrics.load(*found));
    Save::ALL.iter().for_each(|outcome| metrics.save(*outcome));
    CycleReason::ALL.iter().for_each(|reason| metrics.cycle(*reason));
    ["malformed", "nonce", "never heard of"].iter().for_each(|reason| metrics.refused(reason));
    Side::ALL.iter().for_each(|side| metrics.stripped(*side, 2));
    for operation in Operation::ALL {
        metrics.operation(operation, Duration::from_micros(40));
        ["broken", "oom", "never heard of"].iter().for_each(|kind| metrics.store_error(operation, kind));
    }
    BackendError::ALL.iter().for_each(|kind| metrics.backend_error(*kind));
    metrics::Tunnel::ALL.iter().for_each(|end| metrics.tunnel_was(*end));
    metrics::CacheResult::ALL.iter().for_each(|result| metrics.cache(*result).inc());
    metrics::CookieRefused::ALL.iter().for_each(|reason| metrics.cookie_refused(*reason).inc());
    metrics::Limit::ALL.iter().for_each(|limit| metrics.limit(*limit));
    metrics::Reloaded::ALL.iter().rev().for_each(|outcome| metrics.reloaded(*outcome, 1_700_000_000));
    metrics.answered(&Method::GET, StatusCode::OK, Duration::from_micros(1500), Duration::from_micros(1493));
    let rest = [
        &metrics.creates,
        &metrics.flushes,
        &metrics.expiries,
        &metrics.evictions,
        &metrics.moved,
        &metrics.conflicts,
    ];
    rest.iter().for_each(|counter| counter.inc());
    let rest = [
        &metrics.cookies_dropped,
        &metrics.old_seals,
        &metrics.store_connections,
        &metrics.interim_dropped,
        &metrics.panics,
    ];
    rest.iter().for_each(|counter| counter.inc());
    metrics.store_up.set(1);
    vec![
        metrics.in_flight(),
        metrics.connection(),
        metrics.backend_connection(),
        metrics.private_client(),
        metrics.tunnel(),
    ]
}

#[tokio::test]
async fn promtool_finds_nothing_to_say_about_the_metrics() {
    let served = served(BOUNDS).await;
    let held = touch_everything(&served.metrics);
    let (status, head, text) = served.ask("GET", "/metrics").await;
    assert_eq!(status, 200);
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");

    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool checks the metrics: install the package `prometheus`");
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let said = promtool.wait_with_output().unwrap();
    let complaints =
        format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    assert!(said.status.success() && complaints.is_empty(), "promtool: {complaints}");

    // Every family was touched, and nothing else is told.
    let samples = || text.lines().filter(|line| !line.starts_with('#') && !line.contains("_bucket{"));
    for sample in samples().filter(|sample| sample.starts_with("coatroom_")) {
        assert!(!sample.ends_with(" 0"), "nobody counted {sample}");
    }
    let mut families: Vec<_> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE coatroom_")).collect();
    families.sort_unstable();
    assert_eq!(families, FAMILIES);
    for sample in [
        "coatroom_session_loads_total{result=\"forged\"} 1",
        "coatroom_directives_refused_total{reason=\"other\"} 1",
        "coatroom_headers_stripped_total{side=\"backend\"} 2",
        "coatroom_http_requests_total{code=\"200\",method=\"GET\"} 1",
        "coatroom_http_connections 1",
        "coatroom_http_own_duration_seconds_count 1",
        concat!("coatroom_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
    ] {
        assert!(samples().any(|line| line == sample), "{sample} is not in\n{text}");
    }
    // 1,500 µs in all, 1,493 µs of them the backend's.
    assert!(text.contains("coatroom_http_own_duration_seconds_bucket{le=\"0.000005\"} 0\n"), "{text}");
    assert!(text.contains("coatroom_http_own_duration_seconds_bucket{le=\"0.00001\"} 1\n"), "{text}");
    assert_eq!(text.contains("process_resident_memory_bytes"), cfg!(target_os = "linux"));

    drop(held);
    let (_, text) = served.get("/metrics").await;
    for gauge in ["coatroom_http_requests_in_flight 0", "coatroom_http_connections 0", "coatroom_tunnels 0"] {
        assert!(text.lines().any(|line| line == gauge), "{gauge} is not in\n{text}");
    }
}

/// The families and their types, in order.
const FAMILIES: [&str; 38] = [
    "backend_connections gauge",
    "backend_connections_total counter",
    "backend_errors_total counter",
    "build_info gauge",
    "config_last_reload_successful gauge",
    "config_last_reload_timestamp_seconds gauge",
    "config_reloads_total counter",
    "cookies_dropped_total counter",
    "directives_refused_total counter",
    "headers_stripped_total counter",
    "http_connections gauge",
    "http_connections_total counter",
    "http_own_duration_seconds histogram",
    "http_request_duration_seconds histogram",
    "http_requests_in_flight gauge",
    "http_requests_total counter",
    "interim_responses_dropped_total counter",
    "limits_reached_total counter",
    "panics_total counter",
    "private_clients gauge",
    "session_conflicts_total counter",
    "session_creates_total counter",
    "session_cycles_total counter",
    "session_evictions_total counter",
    "session_expiries_total counter",
    "session_flushes_total counter",
    "session_loads_total counter",
    "session_saves_total counter",
    "sessions_moved_total counter",
    "store_cache_total counter",
    "store_connections_total counter",
    "store_cookies_refused_total counter",
    "store_errors_total counter",
    "store_old_seals_total counter",
    "store_operation_duration_seconds histogram",
    "store_up gauge",
    "tunnels gauge",
    "tunnels_total counter",
];

#[tokio::test]
async fn probes_say_what_they_wait_for() {
    let served = served(BOUNDS).await;
    let answer = |status, body: &str| (status, body.to_owned());
    assert_eq!(served.get("/livez").await, answer(200, "alive\n"));
    assert_eq!(served.get("/startupz").await, answer(503, "waiting for the start\n"));
    let (store, worker) = (served.health.latch("store"), served.health.latch("worker"));
    assert_eq!(served.get("/readyz").await, answer(503, "waiting for store, worker\n"));
    assert_eq!(served.get("/startupz?verbose").await, answer(503, "waiting for store, worker\n"));
    drop(worker);
    assert_eq!(served.get("/readyz").await, answer(503, "waiting for store\n"));
    drop(store);
    assert_eq!(served.get("/readyz").await, answer(200, "ready\n"));
    assert_eq!(served.get("/startupz").await, answer(200, "started\n"));
    served.health.drain();
    assert_eq!(served.get("/readyz").await, answer(503, "draining\n"));
    assert_eq!(served.get("/startupz").await, answer(200, "started\n"));
    assert_eq!(served.get("/livez").await, answer(200, "alive\n"));
}

#[tokio::test]
async fn other_paths_and_methods_are_told_what_there_is() {
    let served = served(BOUNDS).await;
    for path in ["/", "/livez/", "/Livez", "/api/sessions"] {
        let (status, body) = served.get(path).await;
        assert_eq!((status, body.lines().count()), (404, 5), "{path}: {body}");
        assert!(body.contains("/startupz\n"), "{body}");
    }
    for method in ["POST", "DELETE", "OPTIONS", "BREW"] {
        let (status, head, _) = served.ask(method, "/metrics").await;
        assert_eq!(status, 405, "{method}");
        assert!(head.contains("allow: get, head"), "{head}");
    }
    for path in ["/livez", "/metrics"] {
        let (status, head, body) = served.ask("HEAD", path).await;
        assert_eq!((status, &*body), (200, ""), "{path}");
        assert!(head.contains("content-length: ") && !head.contains("content-length: 0"), "{head}");
    }
}

#[tokio::test]
async fn broken_visitors_do_no_harm() {
    let served = served(BOUNDS).await;
    let mut silent = Vec::new();
    for _ in 0..BOUNDS.connections - 1 {
        silent.push(TcpStream::connect(served.at).await.unwrap());
    }
    assert!(served.say("\x16\x03\x01 this is TLS\r\n\r\n").await.starts_with("HTTP/1.1 400"));
    let long = format!("GET /livez HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(12 * 1024));
    assert!(served.say(&long).await.starts_with("HTTP/1.1 200"));
    drop(TcpStream::connect(served.at).await.unwrap());
    assert_eq!(served.get("/livez").await.0, 200);
    assert!(!served.task.is_finished());
    drop(silent);
}

#[tokio::test]
async fn slow_visitors_are_cut_off_and_the_next_one_is_served() {
    let short = Duration::from_millis(250);
    let long = Duration::from_secs(3600);
    for bounds in [
        Bounds { connections: 1, head: short, whole: long },
        Bounds { connections: 1, head: long, whole: short },
    ] {
        let served = served(bounds).await;
        let mut slow = TcpStream::connect(served.at).await.unwrap();
        slow.write_all(b"GET /livez HT").await.unwrap();
        // There is one place, and the slow one has it.
        assert_eq!(served.get("/livez").await.0, 200);
        let mut rest = Vec::new();
        // Whether it is told so (408), closed or reset: it is over.
        let _ = slow.read_to_end(&mut rest).await;
        assert!(!String::from_utf8_lossy(&rest).contains("alive"));
    }
}

#[tokio::test]
async fn it_stops_when_told_even_with_visitors() {
    let served = served(BOUNDS).await;
    let mut visitor = TcpStream::connect(served.at).await.unwrap();
    visitor.write_all(b"GET /livez").await.unwrap();
    assert_eq!(served.get("/livez").await.0, 200);
    drop(served.stop);
    served.task.await.unwrap();
    let mut rest = Vec::new();
    let _ = visitor.read_to_end(&mut rest).await;
    assert!(rest.is_empty(), "its connection went with the task");
    assert!(TcpStream::connect(served.at).await.is_err());
}
