//! The parts of the work on one request, for whoever times or counts them.

use std::sync::Arc;
use std::time::Duration;

use coatroom::app;
use coatroom::config::Config;
use coatroom::proxy::Rules;
use coatroom::proxy::routes::{self, Routes};
use coatroom::secret::Secret;
use coatroom::session::directive::Wish;
use coatroom::session::record::Entry;
use coatroom::session::{
    Asked, Changes, Data, Directive, Expiry, Found, History, Key, Lifetime, Limits, Live, Mode, Policy,
    Record, Revision, Token, plan,
};
use coatroom::store;
use coatroom::store::codec::Codec;
use coatroom::telemetry::metrics::Metrics;
use coatroom::time::Timestamp;
use coatroom::wire::forwarded::{self, Peer};
use coatroom::wire::lines::Lines;
use coatroom::wire::request::{Said, View};
use coatroom::wire::seen::Seen;
use data_encoding::BASE64;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};

use super::case::Case;
use super::stage::{Scenario, Stage};

/// When everything happens.
pub const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
/// What a token looks like.
pub const TOKEN: &str = "abcdefghijklmnopqrstuvwxyz234567";
/// What a nonce looks like.
const NONCE: &[u8] = b"0123456789abcdef";
/// What is asked for.
const TARGET: &str = "/catalogue?page=4";
/// What most sessions are like: six short entries, about 200 bytes.
pub const DATA: &str = r#"{"uid":"7f3a","name":"Ada Lovelace","mail":"ada.lovelace@example.org","roles":"admin,editor,auditor","counter":"00000001","pad":"0123456789012345678901234567890123456789012345678901234567890123456789"}"#;
/// What a browser sends besides cookies.
const BROWSER: [(&str, &str); 13] = [
    ("host", "shop.example.org"),
    ("connection", "keep-alive"),
    ("sec-ch-ua", r#""Chromium";v="140", "Not=A?Brand";v="24""#),
    ("sec-ch-ua-mobile", "?0"),
    ("sec-ch-ua-platform", r#""Linux""#),
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0"),
    ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"),
    ("sec-fetch-site", "same-origin"),
    ("sec-fetch-mode", "navigate"),
    ("sec-fetch-dest", "document"),
    ("referer", "https://shop.example.org/catalogue?page=3"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("accept-language", "en-GB,en;q=0.9,de;q=0.8"),
];
/// What a backend answers with.
const BACKEND: [(&str, &str); 6] = [
    ("content-type", "text/html; charset=utf-8"),
    ("content-length", "5123"),
    ("cache-control", "no-cache"),
    ("etag", "\"33a64df551425fcc\""),
    ("x-frame-options", "DENY"),
    ("date", "Tue, 14 Nov 2023 22:13:20 GMT"),
];

/// All cases, in the order of the program.
pub fn all() -> Vec<Case> {
    [cookies(), names(), injection(), directives(), codecs(), plans(), paths(), exchanges()]
        .into_iter()
        .flatten()
        .collect()
}

/// What the program goes by, with other settings than the defaults.
fn rules(change: impl FnOnce(&mut Config)) -> Rules {
    let mut config = Config::default();
    change(&mut config);
    let metrics = Arc::new(Metrics::new(&[], &[]));
    let store = app::open(&config, &metrics).expect("a store");
    app::rules(&config, &store, &metrics).expect("settings that can be obeyed")
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        map.append(HeaderName::from_static(name), HeaderValue::from_str(value).expect("a value"));
    }
    map
}

fn with_cookie(cookie: &str) -> HeaderMap {
    let mut map = headers(&BROWSER);
    map.insert("cookie", HeaderValue::from_str(cookie).expect("a value"));
    map
}

fn token() -> Token {
    Token::parse(TOKEN.as_bytes()).expect("a token").0
}

fn revision() -> Revision {
    Revision::from_bits(0x0123_4567_89ab_cdef).expect("not 0")
}

fn live(data: &str, rules: &Rules) -> Box<Live> {
    let data = Data::from_text(data.to_owned().into());
    let record = Record { data, ..Record::new(rules.jar.scope(), NOW) };
    let until = NOW.plus(Duration::from_secs(3600));
    Box::new(Live {
        key: Key::of("", &token()),
        record,
        revision: revision(),
        until,
        history: [None; 3],
        age: Duration::ZERO,
    })
}

/// A session of some 5 KB: 40 entries.
fn large() -> String {
    let entries = (0..40).map(|n| format!(r#""entry_{n:02}":{{"quantity":{n},"title":"{:x<80}"}}"#, ""));
    format!("{{{}}}", entries.collect::<Vec<_>>().join(","))
}

fn cookies() -> Vec<Case> {
    let take = |name, cookie: fn() -> Option<String>, change: fn(&mut Config)| {
        let build = move || {
            let input = cookie().map_or_else(|| headers(&BROWSER), |cookie| with_cookie(&cookie));
            (rules(change), input)
        };
        Case::new(name, build, |rules, mut headers| (rules.jar.take(&mut headers), headers))
    };
    vec![
        take("cookie/absent", || None, |_| {}),
        take("cookie/alone", || Some(format!("sessionid={TOKEN}")), |_| {}),
        take(
            "cookie/among-others",
            || Some(format!("{}sessionid={TOKEN}; {}b=2", others(0), others(6))),
            |_| {},
        ),
        take("cookie/others-only", || Some(format!("{}{}b=2", others(0), others(6))), |_| {}),
        take("cookie/signed", || Some(signed()), signing),
        Case::new(
            "cookie/set",
            || (rules(|_| {}), ()),
            |rules, ()| {
                let until = NOW.plus(Duration::from_secs(3600));
                rules.jar.set(&token(), Lifetime::Until(until), 0, false, NOW).next()
            },
        ),
        Case::new("cookie/key", || (token(), ()), |token, ()| Key::of("", token)),
    ]
}

/// Six cookies of somebody else.
fn others(from: u32) -> String {
    (from..from + 6).map(|n| format!("_ga_{n}=GS1.1.1700000{n}.{n}.0; ")).collect()
}

fn signing(config: &mut Config) {
    config.cookie.keys = vec![Secret::new(BASE64.encode(&[7; 32]))];
}

fn signed() -> String {
    let set = rules(signing).jar.set(&token(), Lifetime::Browser, 0, false, NOW).next().expect("a line");
    set.to_str().expect("ASCII").split(';').next().unwrap_or_default().to_owned()
}

fn names() -> Vec<Case> {
    let strip = |name, input: fn() -> HeaderMap| {
        Case::new(
            name,
            move || (rules(|_| {}), input()),
            |rules, mut headers| (rules.injector.guard().strip_request(&mut headers), headers),
        )
    };
    let peer = || Peer::from(std::net::SocketAddr::from(([192, 0, 2, 7], 4711)));
    vec![
        strip("names/request", || headers(&BROWSER)),
        strip("names/request-spoofed", || {
            let mut spoofed = headers(&BROWSER);
            for name in ["x_session_data", "x-session.id", "content_length", "x-forwarded_for"] {
                spoofed.append(name, HeaderValue::from_static("1"));
            }
            spoofed
        }),
        Case::new(
            "names/response",
            || (rules(|_| {}), headers(&BACKEND)),
            |rules, mut headers| (rules.injector.guard().strip_response(&mut headers), headers),
        ),
        Case::new(
            "names/hop",
            || ((), headers(&BROWSER)),
            |(), mut headers| {
                let seen = Seen::of(&headers);
                (forwarded::take_hop(&mut headers, seen), headers)
            },
        ),
        Case::new(
            "names/write",
            || ((), headers(&BROWSER)),
            |(), headers| {
                let mut head = begin();
                head.all(&headers);
                (head.end(), headers)
            },
        ),
        Case::new(
            "names/forwarded",
            move || ((rules(|_| {}), peer()), headers(&BROWSER)),
            |(rules, peer), mut headers| {
                let mut head = begin();
                let seen = Seen::of(&headers);
                let before = rules.origin.hear(&mut headers, seen, peer);
                rules.origin.tell(&mut head, &before, headers.get("host"), peer, false, Version::HTTP_11);
                (head, headers)
            },
        ),
    ]
}

/// The head of a request to the backend, with room for the rest of it.
fn begin() -> Lines {
    Lines::request("GET", TARGET, 2048)
}

fn injection() -> Vec<Case> {
    type Things = (Rules, Option<Box<Live>>);
    let inject = |name, data: fn() -> Option<String>, change: fn(&mut Config)| {
        let build = move || {
            let rules = rules(change);
            let live = data().map(|data| live(&data, &rules));
            ((rules, live), ())
        };
        Case::new(name, build, |(rules, live): &Things, ()| {
            let view = live.as_ref().map_or(View::Empty, |live| View::Active(live));
            let said = Said { view, nonce: NONCE, method: "GET", target: TARGET };
            let mut head = begin();
            rules.injector.inject(&mut head, &said, NOW).expect("it fits");
            head
        })
    };
    let usual = || Some(DATA.to_owned());
    vec![
        inject("inject/empty", || None, |_| {}),
        inject("inject/session", usual, |_| {}),
        inject("inject/large", || Some(large()), |config| config.headers.budget = 16 * 1024),
        inject("inject/entries", usual, |config| {
            config.headers.keys = ["uid", "name", "roles"].map(str::to_owned).to_vec();
        }),
        inject("inject/reserved", || Some(DATA.replacen("\"pad\"", "\"_pad\"", 1)), |_| {}),
        inject("inject/signed", usual, |config| {
            config.headers.secret = Secret::new("a secret of more than 32 bytes, as it should be");
        }),
    ]
}

fn directives() -> Vec<Case> {
    type More = Vec<(&'static str, String)>;
    let take = |name, more: fn() -> More| {
        let build = move || {
            let mut input = headers(&BACKEND);
            for (name, value) in more() {
                input.append(name, HeaderValue::try_from(value).expect("a value"));
            }
            (rules(|_| {}), input)
        };
        Case::new(name, build, |rules, mut headers| {
            let taken = rules.reader.take(&mut headers, NONCE, NOW);
            assert!(taken.changes.is_ok(), "it can be obeyed");
            (taken, headers)
        })
    };
    vec![
        take("directives/none", Vec::new),
        take("directives/set", || vec![write(r#"{"counter":"00000002"}"#)]),
        take("directives/several", || {
            vec![
                write(r#"{"counter":"00000002","cart":[1,2,3]}"#),
                ("x-session-delete", "draft, coupon".to_owned()),
                ("x-session-increment", r#"{"visits":1}"#.to_owned()),
                ("x-session-expiry", "3600".to_owned()),
            ]
        }),
        take("directives/large", || vec![write(&large())]),
    ]
}

fn write(text: &str) -> (&'static str, String) {
    ("x-session-set", text.to_owned())
}

fn codecs() -> Vec<Case> {
    let encode = |name, keys: &'static [u8], data: fn() -> String| {
        Case::new(
            name,
            move || (codec(keys), (entry(&data()), history())),
            |codec, (entry, history)| {
                (codec.encode("", &Key::of("", &token()), &entry, &history).expect("bytes"), entry)
            },
        )
    };
    let decode = |name, keys: &'static [u8], data: fn() -> String| {
        let build = move || {
            let codec = codec(keys);
            let bytes = codec.encode("", &Key::of("", &token()), &entry(&data()), &history()).expect("bytes");
            ((codec, Key::of("", &token())), bytes)
        };
        Case::new(name, build, |(codec, key), bytes| codec.decode_own("", key, &bytes).expect("a record"))
    };
    let usual = || DATA.to_owned();
    vec![
        encode("codec/encode", &[], usual),
        decode("codec/decode", &[], usual),
        encode("codec/encode-large", &[], large),
        decode("codec/decode-large", &[], large),
        encode("codec/encode-sealed", &[7], usual),
        decode("codec/decode-sealed", &[7], usual),
    ]
}

fn codec(keys: &[u8]) -> Codec {
    let encryption_keys = keys.iter().map(|byte| Secret::new(BASE64.encode(&[*byte; 32]))).collect();
    Codec::of(&store::Config { encryption_keys, ..store::Config::default() }).expect("keys")
}

fn entry(data: &str) -> Entry {
    Entry::Live(live(data, &rules(|_| {})).record)
}

fn history() -> History {
    [Some(revision()); 3]
}

fn plans() -> Vec<Case> {
    let case = |name, data: Option<&'static str>, directive: fn() -> Option<Directive>| {
        let build = move || {
            let (config, rules) = (Config::default(), rules(|_| {}));
            let budget = rules.injector.budget();
            let limits = Limits { max_bytes: 64 * 1024, max_keys: 256, max_depth: 32, budget, cookies: None };
            let policy = Policy::new(&config.session, config.cookie.age.0, rules.jar.scope(), limits);
            let mut changes = Changes::default();
            directive().into_iter().for_each(|directive| changes.push(directive));
            let asked = Asked { changes, server_error: false, no_touch: false, shown: data.is_some() };
            let found = data.map_or(Found::No, |data| Found::Live(live(data, &rules)));
            ((policy, asked), found)
        };
        Case::new(name, build, |(policy, asked), found| {
            (plan(&found, asked, policy, NOW).expect("a row"), found)
        })
    };
    vec![
        case("plan/nothing", Some(DATA), || None),
        case("plan/save", Some(DATA), || set(r#"{"counter":"00000002"}"#)),
        case("plan/create", None, || set(DATA)),
        case("plan/login", Some(r#"{"cart":[1,2,3]}"#), || set(r#"{"uid":"7f3a"}"#)),
        case("plan/expiry", Some(DATA), || Some(Directive::Expiry(Wish::So(Expiry::Idle(60))))),
    ]
}

#[allow(clippy::unnecessary_wraps, reason = "one of several directives, or none")]
fn set(text: &str) -> Option<Directive> {
    Some(Directive::Set(serde_json::from_str(text).expect("an object")))
}

fn paths() -> Vec<Case> {
    let case = |name, count: usize, path: &'static str| {
        let build = move || {
            let route = |n| routes::Config {
                path: format!("/static/{n:02}/assets"),
                methods: Vec::new(),
                session: Mode::Off,
            };
            (Routes::new(&(0..count).map(route).collect::<Vec<_>>()), path)
        };
        Case::new(name, build, |routes, path| routes.of(&Method::GET, path))
    };
    vec![
        case("routes/none", 0, "/catalogue/shoes/4711"),
        case("routes/twenty", 20, "/catalogue/shoes/4711"),
        case("routes/twenty-match", 20, "/static/19/assets/app.css"),
        case("routes/twenty-encoded", 20, "/static/19/assets/app%20%C3%A4.css"),
    ]
}

fn exchanges() -> Vec<Case> {
    let case =
        |name, scenario| Case::new(name, move || (Stage::new(scenario), ()), |stage, ()| stage.exchange());
    vec![
        case("exchange/S0", Scenario::S0),
        case("exchange/S0L", Scenario::S0L),
        case("exchange/S1", Scenario::S1),
        case("exchange/S3", Scenario::S3),
    ]
}
