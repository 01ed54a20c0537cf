//! The whole exchange, through a real sidecar over loopback: what one visitor asks, what the backend answers, and what
//! each of them must never see.

pub mod message;
pub mod stage;
pub mod story;

use std::io::Write;
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use coatroom::proxy::routes::{Config as Route, Routes};
use coatroom::session::Mode;
use coatroom::wire::OnRefused;
use http::Method;
use serde_json::{Map, Value};

use self::message::{Fault, Fields, Message, Wire};
use self::stage::{Answer, MARK, PATIENCE, Stage, TOSSED};
use self::story::{Ask, Fair, POISON, Reply, Response, Story, Wish, odd};
use super::cookie::{ours, sent_back};
use super::names::{GUARDED, cgi};

/// More than this says nothing new.
const STEPS: usize = 4;
/// What a connection may be silent that somebody has broken.
const SILENCE: Duration = Duration::from_millis(10);
/// What the backend may be told of a session, once each.
const INJECTED: [&str; 11] = [
    "x-session-data",
    "x-session-state",
    "x-session-id",
    "x-session-version",
    "x-session-expiry-age",
    "x-session-expiry-date",
    "x-session-expires-at",
    "x-session-expire-at-browser-close",
    "x-session-test-cookie",
    "x-session-nonce",
    ENTRY,
];
/// The entry that has a header of its own.
const ENTRY: &str = "x-session-key-member-id";
/// What a visitor alone with one session never meets.
const NEVER: [&str; 4] = ["ambiguous", "gone", "unavailable", "ended"];

/// One for each of the settings, set up when it is asked for.
static STAGES: [OnceLock<Stage>; 3] = [const { OnceLock::new() }; 3];
static ALONE: Mutex<()> = Mutex::new(());

/// Has a visitor live through a story.
pub fn check(input: &[u8]) {
    let Ok(story) = Story::arbitrary_take_rest(Unstructured::new(input)) else { return };
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let kind = usize::from(story.settings) % STAGES.len();
    let stage = STAGES[kind].get_or_init(|| {
        Stage::new(|config| {
            config.routes = routes();
            config.headers.require_nonce = kind == 1;
            config.headers.on_refused = if kind == 2 { OnRefused::Ignore } else { OnRefused::Reject };
            config.headers.keys = vec!["member_id".to_owned()];
        })
    });
    let mut visitor = Visitor {
        stage,
        require_nonce: kind == 1,
        token: None,
        wire: None,
        knows: Knows::nothing(),
        routes: Routes::new(&routes()),
        // By whoever was here before.
        shaky: true,
    };
    for step in story.steps.iter().take(STEPS) {
        if step.fresh {
            visitor.wire = None;
        }
        match &step.ask {
            Ask::Fair(fair) => visitor.asks(fair, &step.answer),
            Ask::Raw(bytes) => visitor.says(bytes, &step.answer),
            Ask::Odd(lines, rest) => {
                visitor.says(&odd("GET / HTTP/1.1\r\nHost: a", "odd", lines, rest), &step.answer);
            }
        }
    }
}

fn routes() -> Vec<Route> {
    let route = |path: &str, session| Route { path: path.to_owned(), methods: Vec::new(), session };
    vec![route("/off", Mode::Off), route("/read", Mode::Read), route("/poll", Mode::NoTouch)]
}

/// What is known of the session that stands in the store.
#[derive(Clone, Debug)]
enum Knows {
    /// Nothing: a directive was obeyed that is not modelled.
    Nothing,
    /// Its entries, `None` for no session; and its id and version where it has not changed since they were seen.
    This(Option<Map<String, Value>>, Option<(String, String)>),
}

impl Knows {
    const fn nothing() -> Self {
        Self::This(None, None)
    }
}

struct Visitor<'a> {
    stage: &'a Stage,
    require_nonce: bool,
    token: Option<String>,
    wire: Option<Wire<TcpStream>>,
    knows: Knows,
    routes: Routes,
    /// The backend has just ended a connection that may seem to be free.
    shaky: bool,
}

impl Visitor<'_> {
    fn connect(&self, patience: Duration) -> Wire<TcpStream> {
        let stream = self.stage.connect();
        stream.set_read_timeout(Some(patience)).expect("a timeout");
        Wire::new(stream)
    }

    /// Has the backend answer so; where its connection ends then, that is told.
    fn expects(&self, mark: &str, reply: &Reply, head: bool) -> Option<Receiver<()>> {
        let (bytes, closes) = match reply {
            Reply::Fair(response) => (response.bytes(mark, head), response.closes()),
            Reply::Raw(bytes) => (bytes.clone(), true),
            Reply::Odd(lines, rest) => (odd("HTTP/1.1 200 OK", mark, lines, rest), true),
        };
        let (tell, told) = channel();
        self.stage.answers(mark, Answer { bytes, closes: closes.then_some(tell) });
        closes.then_some(told)
    }

    /// Says what may be no request; whatever comes of it, nobody sees what is not theirs.
    fn says(&mut self, bytes: &[u8], reply: &Reply) {
        (self.wire, self.shaky) = (None, true);
        self.expects("odd", reply, false);
        let mut wire = self.connect(SILENCE);
        let _ = wire.stream.write_all(bytes).and_then(|()| wire.stream.write_all(b"\r\n\r\n"));
        let head = bytes.starts_with(b"HEAD ");
        for _ in 0..8 {
            match wire.response(head) {
                Ok(response) => {
                    is_clean(&response, None);
                    if response.status() == 101 {
                        break;
                    }
                }
                Err(Fault::Wrong(what)) if !is_odd(reply) => panic!("the client received {what}"),
                Err(_) => break,
            }
        }
        drop(wire);
        self.stage.rests();
        for seen in self.stage.seen() {
            receives_its_own(&seen, None);
        }
    }

    /// Sends a request that is framed as it should be, and gets exactly one response.
    fn asks(&mut self, fair: &Fair, reply: &Reply) {
        let mark = self.stage.mark();
        let head = fair.method() == "HEAD";
        let told = self.expects(&mark, reply, head);
        let bytes = fair.bytes(&mark, self.token.as_deref());
        let (response, seen) = self.exchange(&bytes, head, is_odd(reply));
        let Some(response) = response else {
            // What the backend says is no response, or breaks off.
            self.wire = None;
            (self.knows, self.shaky) = (Knows::Nothing, true);
            return;
        };
        // A kept connection that ends without a word may have been closed before.
        assert!(seen.len() <= 1 + usize::from(is_odd(reply)), "the backend received {seen:?}");
        is_clean(&response, Some(&mark));
        assert!(
            !fair.is_plain() || !seen.is_empty() || self.shaky,
            "{response:?} to {:?}",
            String::from_utf8_lossy(&bytes)
        );
        self.shaky = is_odd(reply);
        let goes_on = response.first[0] == "HTTP/1.1" && response.status() != 101 && !fair.is_old();
        if !goes_on || response.all("connection").any(|value| value == b"close") {
            self.wire = None;
        }
        let mut mode = Mode::Off;
        if let Some(seen) = seen.first() {
            mode = self.mode(seen);
            receives_its_own(seen, Some(mode));
            assert!(seen.first[0] == fair.method() && seen.body == fair.body(), "{seen:?}");
            self.reads(seen, mode);
        }
        self.is_answer(&response, seen.len(), reply, &mark, head);
        if !seen.is_empty() {
            self.learns(&response, reply, mode, &mark);
        }
        self.keeps(&response);
        self.settle(told.filter(|_| !is_odd(reply)), seen.len());
    }

    fn exchange(&mut self, bytes: &[u8], head: bool, odd: bool) -> (Option<Message>, Vec<Message>) {
        let mut used = self.wire.is_some();
        loop {
            let mut wire = self.wire.take().unwrap_or_else(|| self.connect(PATIENCE));
            let written = wire.stream.write_all(bytes);
            let mut read = wire.response(head);
            while matches!(&read, Ok(response) if (100..200).contains(&response.status()) && response.status() != 101)
            {
                read = wire.response(head);
            }
            let seen = self.stage.seen();
            // A connection may end between two requests; then nobody has seen the second.
            if used && seen.is_empty() && (written.is_err() || read.as_ref().err() == Some(&Fault::End)) {
                used = false;
                continue;
            }
            return match read {
                Ok(response) => {
                    // Where a head can't be read nobody knows that it began with HEAD; the connection ends there.
                    let unread = head && response.status() == 400 && seen.is_empty();
                    let over = unread || response.status() == 101;
                    assert!(wire.rest().is_empty() || over, "{:?} follows {response:?}", wire.rest());
                    self.wire = Some(wire);
                    (Some(response), seen)
                }
                Err(Fault::Broken | Fault::End) if odd => (None, seen),
                Err(fault) => panic!("no response but {fault:?} to {:?}", String::from_utf8_lossy(bytes)),
            };
        }
    }

    /// A connection whose end is the response's, or the tunnel's, is ended by the sidecar too.
    fn settle(&mut self, told: Option<Receiver<()>>, seen: usize) {
        if let (Some(told), 1..) = (told, seen) {
            self.wire = self.wire.take().filter(|_| told.recv_timeout(Duration::ZERO).is_ok());
            if self.wire.is_none() {
                let ended = told.recv_timeout(PATIENCE);
                assert_ne!(
                    ended,
                    Err(std::sync::mpsc::RecvTimeoutError::Timeout),
                    "a backend's connection is left open"
                );
            }
        }
    }

    fn mode(&self, seen: &Message) -> Mode {
        let path = seen.first[1].split('?').next().unwrap_or_default();
        self.routes.of(&Method::from_bytes(seen.first[0].as_bytes()).expect("a token"), path)
    }

    /// What the backend reads is what stands in the store.
    fn reads(&mut self, seen: &Message, mode: Mode) {
        if mode == Mode::Off {
            return;
        }
        let data: Map<String, Value> = serde_json::from_str(seen.text("x-session-data")).expect("JSON");
        let entry = data.get("member_id").map(coatroom::session::data::to_bare);
        assert_eq!(seen.one(ENTRY), entry.as_deref().map(str::as_bytes), "{seen:?}");
        let active = match seen.text("x-session-state") {
            "active" => true,
            "empty" => false,
            other => panic!("the session is {other}"),
        };
        let names = (seen.text("x-session-id").to_owned(), seen.text("x-session-version").to_owned());
        assert!(
            (active || data.is_empty()) && active != names.0.is_empty() && active != names.1.is_empty(),
            "{seen:?}"
        );
        let reads = active.then_some(data);
        if let Knows::This(entries, known) = &self.knows {
            assert_eq!(reads, *entries, "{seen:?}");
            assert!(
                known.is_none() || known.as_ref() == Some(&names),
                "{known:?} was not to change: {seen:?}"
            );
        }
        self.knows = Knows::This(reads, active.then_some(names));
    }

    /// The response is the backend's own, whole, or says of itself why it is not.
    fn is_answer(&self, response: &Message, seen: usize, reply: &Reply, mark: &str, head: bool) {
        let is_theirs = response.all(MARK).next() == Some(mark.as_bytes());
        if let (true, Reply::Fair(theirs)) = (is_theirs, reply) {
            assert_eq!(response.status(), theirs.status());
            assert!(head || response.body == theirs.body(), "{response:?}");
            let careless =
                self.require_nonce && !theirs.nonce && !theirs.wishes.is_empty() && theirs.status() < 500;
            assert!(
                !careless
                    || seen == 0
                    || decision(response).is_empty()
                    || decision(response) == "nothing"
                    || decision(response) == "nothing-to-keep"
            );
        }
        if is_theirs || is_odd(reply) {
            return;
        }
        let options = response.status() == 204 && response.all("allow").next().is_some();
        assert!(
            options || head || response.text("content-type") == "application/problem+json",
            "{response:?}"
        );
        if seen == 1
            && let Reply::Fair(theirs) = reply
            && theirs.status() != 101
        {
            let refused = [409, 502].contains(&response.status());
            let asked = head || !String::from_utf8_lossy(&response.body).contains("backend-failed");
            assert!(refused && asked, "{response:?} in place of {theirs:?}");
        }
    }

    /// What stands in the store afterwards.
    fn learns(&mut self, response: &Message, reply: &Reply, mode: Mode, mark: &str) {
        let is_theirs = response.all(MARK).next() == Some(mark.as_bytes());
        let unchanged = matches!(mode, Mode::Off | Mode::Read) || decision(response) == "refused";
        if unchanged || (!is_theirs && !is_odd(reply)) {
            return;
        }
        let row = decision(response);
        assert!(!NEVER.iter().any(|never| row.starts_with(never)), "{row}: {response:?}");
        self.knows = match (reply, &self.knows) {
            (Reply::Fair(theirs), Knows::This(before, names)) if theirs.is_modelled() => {
                match theirs.leaves(before.as_ref()) {
                    None => Knows::This(before.clone(), names.clone()),
                    Some(after) => Knows::This(after, None),
                }
            }
            _ => Knows::Nothing,
        };
    }

    /// Keeps the cookie as a browser does.
    fn keeps(&mut self, response: &Message) {
        for line in response.all("set-cookie") {
            let Some(value) = ours(&["sessionid"], &sent_back(line)).map(<[u8]>::to_vec) else { continue };
            let value = String::from_utf8(value).expect("ASCII");
            self.token = Some(value).filter(|value| !value.is_empty());
        }
        if let Knows::This(Some(_), _) = &self.knows {
            assert!(self.token.is_some(), "a session that nobody can come back to: {response:?}");
        }
    }
}

fn decision(response: &Message) -> &str {
    response.text("x-coatroom-decision")
}

const fn is_odd(reply: &Reply) -> bool {
    !matches!(reply, Reply::Fair(_))
}

/// What no client may see is not there.
fn is_clean(response: &Message, mark: Option<&str>) {
    for (name, _) in response.headers.iter().chain(&response.trailers) {
        assert!(!cgi(name).starts_with("X_SESSION_"), "{name} reaches the client");
    }
    assert!(!response.trailers.iter().any(|(name, _)| name == "set-cookie"));
    let mut cookies = response.all("set-cookie").filter_map(|line| {
        let sent = sent_back(line);
        ours(&["sessionid"], &sent).map(<[u8]>::to_vec)
    });
    if let Some(token) = cookies.next() {
        let is_char = |byte: &u8| byte.is_ascii_lowercase() || (b'2'..=b'7').contains(byte);
        assert!(token.is_empty() || (token.len() == 32 && token.iter().all(is_char)), "{response:?}");
        assert_ne!(token, TOSSED.as_bytes());
        assert!(cookies.next().is_none(), "two cookies of ours");
    }
    assert!(response.all("x-poison").next().is_none(), "a response of nobody's");
    if let (Some(mark), Some(theirs)) = (mark, response.all(MARK).next()) {
        assert_eq!(theirs, mark.as_bytes(), "somebody else's response");
    }
    assert!(mark.is_none() || !response.body.starts_with(POISON) || response.all(MARK).next().is_some());
}

/// A backend reads our word on the session and on itself, whatever it takes for the name of a header.
fn receives_its_own(seen: &Message, mode: Option<Mode>) {
    for (name, value) in &seen.headers {
        let folded = cgi(name);
        if folded.starts_with("X_SESSION_") {
            assert!(INJECTED.contains(&&**name), "{name} reaches the backend");
            assert!(mode != Some(Mode::Off), "{name} on a route without sessions");
        }
        let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let guarded = GUARDED.contains(&&*folded) || folded.starts_with("X_FORWARDED_");
        assert!(plain || !guarded, "{name} reaches the backend");
        assert!(
            !["keep-alive", "proxy-connection", "http2-settings"].contains(&&**name),
            "{name} goes too far"
        );
        if name == "cookie" {
            let ours = value.split(|byte| *byte == b';').find_map(|pair| ours(&["sessionid"], pair));
            assert_eq!(ours, None, "the backend sees a token");
        }
    }
    for name in INJECTED.iter().chain(&["host", "x-request-id", "forwarded", "x-forwarded-for"]) {
        seen.one(name);
    }
    assert!(mode.is_some() || seen.one(ENTRY).is_none(), "nobody has a session");
    assert_eq!(seen.text("x-forwarded-for"), "127.0.0.1");
    assert!(seen.one("host").is_some() && seen.one("x-request-id").is_some());
    if mode.is_some_and(|mode| mode != Mode::Off) {
        let nonce = seen.text("x-session-nonce");
        assert!(nonce.len() == 16 && nonce.bytes().all(|byte| byte.is_ascii_hexdigit()), "{seen:?}");
    }
    carries_nothing(&seen.trailers);
}

fn carries_nothing(trailers: &Fields) {
    for (name, _) in trailers {
        let folded = cgi(name);
        let known = folded.starts_with("X_SESSION_") || folded.starts_with("X_FORWARDED_");
        assert!(!known && !GUARDED.contains(&&*folded), "the trailer {name}");
    }
}

impl Response {
    fn is_modelled(&self) -> bool {
        !self.wishes.iter().take(8).any(|wish| matches!(wish, Wish::Other(..))) && !self.says_more()
    }

    /// What is left of the entries; `None` where nothing changes.
    fn leaves(&self, before: Option<&Map<String, Value>>) -> Option<Option<Map<String, Value>>> {
        let wishes: Vec<&Wish> = self.wishes.iter().take(8).collect();
        let has = |wanted: fn(&Wish) -> bool| wishes.iter().any(|wish| wanted(wish));
        let flush = has(|wish| matches!(wish, Wish::Flush));
        if self.status() >= 500 {
            let cycle = has(|wish| matches!(wish, Wish::CycleKey));
            return if flush { Some(None) } else { cycle.then(|| before.cloned()) };
        }
        if wishes.is_empty() {
            return None;
        }
        let mut data = before.cloned().unwrap_or_default();
        if flush || has(|wish| matches!(wish, Wish::Clear)) {
            data.clear();
        }
        for wish in &wishes {
            if let Wish::Delete(key) = wish {
                data.shift_remove(Wish::entry(*key, 0).0);
            }
        }
        for rank in 0..3 {
            for wish in &wishes {
                match (rank, wish) {
                    (0, Wish::Set(key, value)) => put(&mut data, *key, *value),
                    (1, Wish::SetDefault(key, value)) if !data.contains_key(Wish::entry(*key, 0).0) => {
                        put(&mut data, *key, *value);
                    }
                    (2, Wish::Merge(key, value)) => merge(&mut data, *key, *value),
                    _ => {}
                }
            }
        }
        for wish in &wishes {
            if let Wish::Increment(step) = wish {
                let old = data.get("n").map_or(Some(0.0), Value::as_f64).expect("else it was refused");
                let whole = data.get("n").is_none_or(Value::is_i64);
                let sum = old + f64::from(*step);
                #[allow(clippy::cast_possible_truncation, reason = "small whole numbers")]
                let sum = if whole { Value::from(sum as i64) } else { Value::from(sum) };
                data.insert("n".to_owned(), sum);
            }
        }
        let live = !data.is_empty() || (before.is_some() && !flush);
        Some(live.then_some(data))
    }
}

fn put(data: &mut Map<String, Value>, key: u8, value: u8) {
    let (key, value) = Wish::entry(key, value);
    data.insert(key.to_owned(), serde_json::from_str(value).expect("JSON"));
}

/// RFC 7396 for the entries that there are: one object, which nests no deeper.
fn merge(data: &mut Map<String, Value>, key: u8, value: u8) {
    let (name, text) = Wish::entry(key, value);
    match text {
        "null" => drop(data.shift_remove(name)),
        _ => put(data, key, value),
    }
}
