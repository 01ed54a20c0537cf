//! What an application gets to see of a request, and whose word that is.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::variants::{Place, RESERVED, Variant};
use crate::support::Line;

/// What stands in each variant, and in nothing else.
const EVIL: &str = "evil";
/// Different in each request.
const CHANGES: [&str; 3] = ["x-session-nonce", "x-session-expiry-date", "x-request-id"];

/// Someone who sends requests.
pub struct Visit {
    line: Line,
    cookie: String,
}

impl Visit {
    /// One whom nobody knows, and one with a session.
    pub fn both(sidecar: SocketAddr) -> [Self; 2] {
        let mut line = Line::to(sidecar);
        let reply = line.ask("GET /set HTTP/1.1\r\nHost: shop.test\r\n\r\n");
        let token =
            reply.header("set-cookie").and_then(|line| line.split(';').next()).expect("a session").to_owned();
        let known = format!("theme=dark; {token}");
        [("theme=dark".to_owned(), Line::to(sidecar)), (known, line)]
            .map(|(cookie, line)| Self { line, cookie })
    }

    /// Is there a session?
    pub fn is_known(&self) -> bool {
        self.cookie.contains("sessionid")
    }

    /// Sends variants, each with something that nobody else says.
    pub fn sends(&mut self, batch: &[Variant], chunked: bool) -> Sight {
        let of = |place: Place| batch.iter().filter(move |variant| variant.place == place);
        let names = |place: Place| of(place).map(|variant| &*variant.name).collect::<Vec<_>>().join(", ");
        let mut text = format!("POST /seen HTTP/1.1\r\nHost: shop.test\r\nCookie: {}\r\n", self.cookie);
        text += "X-Custom_Name: passes\r\n";
        if !batch.is_empty() {
            text += &format!("Connection: keep-alive, {}\r\n", names(Place::Option));
        }
        let lines = |place: Place| {
            of(place).map(|variant| format!("{}: {EVIL}\r\n", variant.name)).collect::<String>()
        };
        text += &lines(Place::Header);
        if chunked {
            let announced = format!("Trailer: X-Sum, {}\r\n", names(Place::Trailer));
            text += "Transfer-Encoding: chunked\r\n";
            text += &announced;
            text += &format!("\r\n2\r\nhi\r\n0\r\nX-Sum: 1\r\n{}\r\n", lines(Place::Trailer));
        } else {
            text += "Content-Length: 2\r\n\r\nhi";
        }
        let reply = self.line.ask(&text);
        assert_eq!(reply.status, 200, "{text}\n{}", reply.text());
        Sight::of(&reply.text())
    }
}

/// Headers as an application has them: by their folded names, all values that stand under one.
#[derive(Debug)]
pub struct Sight(BTreeMap<String, Vec<String>>);

impl Sight {
    fn of(text: &str) -> Self {
        let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in text.lines() {
            let (name, value) = line.split_once('\t').unwrap_or_else(|| panic!("no header: {line:?}"));
            let name = name.strip_prefix("HTTP_").unwrap_or(name);
            let values = all.entry(folded(name)).or_default();
            // Some servers show a header in more than one way.
            if !values.iter().any(|other| other == value) {
                values.push(value.to_owned());
            }
        }
        Self(all)
    }

    /// What stands under names that are reserved.
    fn reserved(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.0.iter().map(|(name, values)| (&**name, &**values)).filter(|(name, _)| is_reserved(name))
    }

    /// Is all there that the sidecar says?
    pub fn is_complete(&self, known: bool) {
        let value = |name: &str| self.0.get(name).map(|values| values.join("|")).unwrap_or_default();
        let (data, state) = if known { ("{\"a\":1}", "active") } else { ("{}", "empty") };
        assert_eq!((&*value("x-session-data"), &*value("x-session-state")), (data, state), "{self:?}");
        assert_eq!(value("x-session-id").len(), if known { 40 } else { 0 }, "{self:?}");
        assert_eq!((&*value("host"), &*value("cookie")), ("shop.test", "theme=dark"), "{self:?}");
        assert_eq!((&*value("x-forwarded-for"), &*value("via")), ("127.0.0.1", "1.1 coatroom"), "{self:?}");
        assert_eq!(value("x-custom-name"), "passes", "{self:?}");
    }

    /// Under reserved names there stands what stands there in `plain`; else the `batch` got through.
    pub fn is_like(&self, plain: &Self, batch: &[Variant]) {
        let (ours, theirs): (Vec<_>, Vec<_>) = (plain.reserved().collect(), self.reserved().collect());
        let names =
            |all: &[(&str, &[String])]| all.iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(names(&theirs), names(&ours), "{batch:?}");
        for ((name, ours), (_, theirs)) in ours.iter().zip(&theirs) {
            if CHANGES.contains(name) {
                let lengths = |values: &[String]| values.iter().map(String::len).collect::<Vec<_>>();
                assert_eq!(lengths(theirs), lengths(ours), "{name}: {theirs:?} of {batch:?}");
                assert!(theirs.iter().all(|value| !value.contains(EVIL)), "{name}: {theirs:?} of {batch:?}");
            } else {
                assert_eq!(theirs, ours, "{name} of {batch:?}");
            }
        }
        assert_eq!(self.0.get("x-custom-name"), plain.0.get("x-custom-name"), "{batch:?}");
    }

    /// How many variants were seen; they stand under names that nobody reserves.
    pub fn strange(&self) -> usize {
        self.0.values().filter(|values| values.iter().any(|value| value.contains(EVIL))).count()
    }
}

/// A name as the most careless reader has it.
fn folded(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect()
}

fn is_reserved(name: &str) -> bool {
    name.starts_with("x-session-")
        || name.starts_with("x-forwarded-")
        || RESERVED.iter().any(|reserved| reserved.eq_ignore_ascii_case(name))
}
