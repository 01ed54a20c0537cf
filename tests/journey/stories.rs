//! One browser story against each real application, through the binary that users get.

use std::io::Write as _;
use std::net::SocketAddr;
use std::thread;

use data_encoding::BASE64;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::support::client::connect;
use crate::support::{Browser, Program, Redis};

/// The same story on each store: in this process, on a Redis, on a Redis that two sidecars share, and in cookies that
/// two sidecars open.
macro_rules! stories {
    ($($application:ident $settings:expr,)+) => {$(
        mod $application {
            use super::{Fleet, story};
            use crate::support::Program;

            #[test]
            fn in_memory() {
                story(&Fleet::of(1, &Program::$application(), None, &$settings));
            }

            #[test]
            fn on_redis() {
                let redis = crate::support::Redis::start();
                story(&Fleet::of(1, &Program::$application(), Some(&redis), &$settings));
            }

            #[test]
            fn on_redis_with_two_sidecars() {
                let redis = crate::support::Redis::start();
                story(&Fleet::of(2, &Program::$application(), Some(&redis), &$settings));
            }

            #[test]
            fn in_cookies_with_two_sidecars() {
                let redis = crate::support::Redis::start();
                story(&Fleet::in_cookies(2, &Program::$application(), &redis, &$settings));
            }
        }
    )+};
}

stories! {
    php [],
    python [],
    node [],
    // A shell can't parse JSON.
    cgi [("COATROOM__HEADERS__KEYS", "user_id,visits,hits,cart")],
}

/// A machine that is busy makes no store ill.
const PATIENT: [(&str, &str); 2] =
    [("COATROOM__STORE__TIMEOUT", "20"), ("COATROOM__STORE__COMMIT_TIMEOUT", "20")];

/// Sidecars before one application.
struct Fleet {
    sidecars: Vec<Program>,
    /// Where sessions are in cookies nothing can be counted.
    counts: bool,
}

impl Fleet {
    fn of(sidecars: usize, application: &Program, redis: Option<&Redis>, settings: &[(&str, &str)]) -> Self {
        let url = redis.map_or("memory:".to_owned(), Redis::url);
        let settings = [settings, &PATIENT].concat();
        let sidecar = |_| Program::sidecar(application.address, &["--store", &url], &settings);
        Self { sidecars: (0..sidecars).map(sidecar).collect(), counts: true }
    }

    /// Sidecars with sessions in cookies, and the list of what has ended on a Redis.
    fn in_cookies(sidecars: usize, application: &Program, redis: &Redis, settings: &[(&str, &str)]) -> Self {
        let (key, list) = (BASE64.encode(&[1; 32]), redis.url());
        let more = [("COATROOM__STORE__ENCRYPTION_KEYS", &*key), ("COATROOM__STORE__REVOCATIONS", &*list)];
        let settings = [settings, &more, &PATIENT].concat();
        let sidecar = |_| Program::sidecar(application.address, &["--store", "cookie:"], &settings);
        Self { sidecars: (0..sidecars).map(sidecar).collect(), counts: false }
    }

    /// A visitor, whose requests go to one sidecar after the other.
    fn visitor(&self) -> Visitor {
        Visitor {
            browser: self.sidecars[0].browser(),
            sidecars: self.sidecars.iter().map(|one| one.address).collect(),
            turn: 0,
        }
    }
}

#[derive(Clone)]
struct Visitor {
    browser: Browser,
    sidecars: Vec<SocketAddr>,
    turn: usize,
}

impl Visitor {
    /// The browser, before the sidecar whose turn it is.
    fn next(&mut self) -> &mut Browser {
        self.turn += 1;
        self.browser.go(self.sidecars[self.turn % self.sidecars.len()]);
        &mut self.browser
    }

    fn token(&self) -> Option<&str> {
        self.browser.token()
    }
}

fn story(fleet: &Fleet) {
    nothing_ends_it(&mut fleet.visitor());
    what_is_typed_comes_back(&mut fleet.visitor());

    let mut visitor = fleet.visitor();
    let first_line =
        |visitor: &mut Visitor| visitor.next().get("/").text().lines().next().unwrap_or_default().to_owned();

    assert_eq!(first_line(&mut visitor), "user=- visits=0 cart=[]");
    assert_eq!(visitor.token(), None, "nobody who only looks gets a cookie");
    for visits in 1..=3 {
        assert_eq!(visitor.next().post("/visit", "").text().trim(), format!("visits={visits}"));
    }
    assert_eq!(visitor.next().post("/cart/add", "item=hat%20%22%C3%A9%22").status, 303);
    let anonymous = visitor.clone();

    assert_eq!(visitor.next().post("/login", "user=alice").status, 303);
    assert_ne!(visitor.token(), anonymous.token(), "a login changes the token");
    assert_eq!(first_line(&mut visitor), r#"user=alice visits=3 cart=["hat \"\u00e9\""]"#);
    let planted = first_line(&mut anonymous.clone());
    assert!(planted.starts_with("user=- "), "who knows the old token is not alice: {planted}");

    if fleet.counts {
        parallel_increments_all_count(&mut visitor);
    } else {
        assert_eq!(visitor.next().post("/count", "").status, 502, "or some would be lost");
    }

    no_spelling_arrives(&mut visitor);

    let logged_in = visitor.clone();
    assert_eq!(visitor.next().post("/logout", "").status, 303);
    assert_eq!(visitor.token(), None, "the browser has forgotten it");
    assert!(first_line(&mut logged_in.clone()).starts_with("user=- visits=0"), "and so has the store");
    assert!(first_line(&mut anonymous.clone()).starts_with("user=- visits=0"), "the token before it, too");

    for secret in [&anonymous, &logged_in].map(|browser| browser.token().expect("a token")) {
        let tells = fleet.sidecars.iter().any(|sidecar| sidecar.output().contains(secret));
        assert!(!tells, "no token is ever in a log");
    }
}

fn parallel_increments_all_count(visitor: &mut Visitor) {
    let counters: Vec<_> = (0..8).map(|_| visitor.clone()).collect();
    thread::scope(|scope| {
        for mut visitor in counters {
            scope.spawn(move || {
                (0..25).for_each(|_| assert_eq!(visitor.next().post("/count", "").status, 200))
            });
        }
    });
    assert!(visitor.next().get("/").text().contains("hits=200"), "200 parallel increments are 200");
}

/// Targets that few expect, and an upload that breaks off: the rest of the story is told after them.
fn nothing_ends_it(visitor: &mut Visitor) {
    for target in ["//", "//x:y", "/%00", "/%zz", "/?item=%", "/?item", "/nothing", "/..", "/;"] {
        let status = visitor.next().get(target).status;
        assert!((200..500).contains(&status), "{target} is answered with {status}");
    }
    for sidecar in &visitor.sidecars {
        let upload = "POST /cart/add HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 100\r\n\r\nitem=";
        connect(*sidecar).write_all(upload.as_bytes()).expect("it is taken");
    }
}

/// Whatever text a form has, it is in the session as it was typed.
fn what_is_typed_comes_back(visitor: &mut Visitor) {
    let items = [
        "two\r\nlines",
        "\u{0}\u{1}\t\u{7f}",
        r#"\"quoted\" \n %41 \"#,
        "café 👒",
        "a+b&c=d;e",
        "\",\"",
        "100%",
        "null",
    ];
    for item in items {
        let form = format!("item={}", utf8_percent_encode(item, NON_ALPHANUMERIC));
        assert_eq!(visitor.next().post("/cart/add", &form).status, 303, "{item:?}");
    }
    assert_eq!(visitor.next().post("/cart/add", "").status, 303, "an item is not needed");
    let text = visitor.next().get("/").text();
    let cart = text.lines().next().and_then(|line| line.split_once("cart=")).expect("a cart").1;
    let cart: Vec<String> = serde_json::from_str(cart).expect("a JSON array of texts");
    assert_eq!(cart[..items.len()], items);
    assert_eq!(cart[items.len()..], ["nothing"]);

    assert_eq!(visitor.next().post("/login", "user=A+%22%C3%A9%22%0A%25").status, 303);
    let text = visitor.next().get("/").text();
    let user = text.strip_prefix("user=").and_then(|text| text.split_once(" visits=")).expect("a user").0;
    let user = percent_encoding::percent_decode_str(user).decode_utf8().expect("UTF-8");
    assert_eq!(user, "A \"é\"\n%");
    assert_eq!(visitor.next().post("/logout", "").status, 303);
    assert_eq!(visitor.token(), None);
}

/// Whatever a client sends, the application sees our headers, or none of that name.
fn no_spelling_arrives(visitor: &mut Visitor) {
    let names =
        ["X-Session-Data", "X-Session-State", "X-Session-Id", "X-Session-Key-User", "X-Session-Anything"];
    let mut spoofed: Vec<(String, &str)> = Vec::new();
    for name in names {
        for joint in ['-', '_', '.', '~', '!', '\'', '*', '+', '`', '|', '^', '#', '$', '%', '&'] {
            let joined = name.replace('-', &joint.to_string());
            spoofed.extend(
                [joined.clone(), joined.to_uppercase(), joined.to_lowercase()].map(|name| (name, "evil")),
            );
            spoofed.push((name.replacen('-', &joint.to_string(), 1), "evil"));
        }
    }
    for chunk in spoofed.chunks(40) {
        let mut headers: Vec<(&str, &str)> = chunk.iter().map(|(name, value)| (&**name, *value)).collect();
        headers.push(("Connection", "X-Session-Data, X-Session-State"));
        headers.push(("X-Custom_Name", "passes"));
        let seen = visitor.next().request("GET", "/headers", &headers, "").text();
        assert!(!seen.contains("evil"), "{seen}");
        let seen: serde_json::Value = serde_json::from_str(&seen).expect("a JSON object");
        assert!(seen["HTTP_X_SESSION_DATA"].as_str().expect("always present").contains("alice"), "{seen}");
        assert_eq!(seen["HTTP_X_SESSION_STATE"], "active");
        assert_eq!(seen["HTTP_COOKIE"], serde_json::Value::Null);
        assert_eq!(seen["HTTP_X_CUSTOM_NAME"], "passes");
    }
}
