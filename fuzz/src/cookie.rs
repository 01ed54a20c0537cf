//! The cookie scanner: everything but our pair passes byte for byte, and what is left has no token of ours.
//!
//! The first byte chooses the settings; the rest are lines of `Cookie`, and once more of `Set-Cookie`.

use std::sync::OnceLock;

use coatroom::secret::Secret;
use coatroom::session::{Lifetime, Shown, Token};
use coatroom::time::Timestamp;
use coatroom::wire::cookie::{Config, Previous};
use coatroom::wire::jar::Jar;
use data_encoding::BASE64;
use http::header::{COOKIE, HeaderMap, HeaderName, HeaderValue, SET_COOKIE};

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
/// One for each of the settings, made when it is asked for.
static SETTINGS: [OnceLock<Settings>; 16] = [const { OnceLock::new() }; 16];
/// The names of chunks, where tokens are sealed.
const CHUNKS: [&str; 18] = [
    "sessionid.1",
    "sessionid.2",
    "sessionid.3",
    "sessionid.4",
    "sessionid.5",
    "sessionid.6",
    "sessionid.7",
    "sessionid.8",
    "sessionid.9",
    "old.1",
    "old.2",
    "old.3",
    "old.4",
    "old.5",
    "old.6",
    "old.7",
    "old.8",
    "old.9",
];
/// More different tokens than this are a crowd.
const CROWD: usize = 8;

/// Checks what becomes of cookies in both directions.
pub fn check(input: &[u8]) {
    let Some((flags, text)) = input.split_first() else { return };
    let flags = flags & 15;
    let settings = SETTINGS[usize::from(flags)].get_or_init(|| Settings::of(flags));
    let lines: Vec<HeaderValue> =
        text.split(|byte| *byte == b'\n').filter_map(|line| HeaderValue::from_bytes(line).ok()).collect();
    settings.take(&lines);
    settings.own(&lines);
    settings.guard(&lines);
}

struct Settings {
    jar: Jar,
    names: Vec<&'static str>,
    forward: bool,
    signed: bool,
    sealed: bool,
}

impl Settings {
    fn of(flags: u8) -> Self {
        let is_set = |bit: u8| flags & (1 << bit) != 0;
        let (forward, signed, renamed, sealed) = (is_set(0), is_set(1), is_set(2), is_set(3));
        let mut config = Config { forward, ..Config::default() };
        let mut names = vec!["sessionid"];
        if signed {
            config.keys = vec![Secret::new(BASE64.encode(&[7; 32]))];
        }
        if renamed {
            let old = |name: &str, path: &str| Previous {
                name: name.to_owned(),
                domain: String::new(),
                path: path.to_owned(),
            };
            config.previous = vec![old("old", "/"), old("sessionid", "/app")];
            names.push("old");
        }
        let mut jar = Jar::new(&config).expect("these settings are right");
        if sealed {
            names.extend(CHUNKS.iter().filter(|name| renamed || !name.starts_with("old")));
            jar = jar.of_sealed();
        }
        Self { jar, names, forward, signed, sealed }
    }

    fn show(&self, lines: &[HeaderValue]) -> (Shown, Vec<HeaderValue>) {
        let mut headers = HeaderMap::new();
        let other = HeaderName::from_static("x-other");
        headers.append(other.clone(), HeaderValue::from_static("sessionid=stays"));
        lines.iter().for_each(|line| _ = headers.append(COOKIE, line.clone()));
        let shown = self.jar.take(&mut headers);
        assert_eq!(headers[other], "sessionid=stays");
        (shown, headers.get_all(COOKIE).iter().cloned().collect())
    }

    fn take(&self, lines: &[HeaderValue]) {
        let (shown, left) = self.show(lines);
        let values: Vec<&[u8]> =
            lines.iter().flat_map(pairs).filter_map(|pair| ours(&self.names, pair)).collect();
        assert_eq!(shown.any, !values.is_empty());
        if !self.signed && !self.sealed {
            self.tokens(&shown, &values);
        }
        if self.forward {
            assert_eq!(left, lines);
            return;
        }
        let mut rest = left.iter();
        for line in lines {
            let kept: Vec<&[u8]> = pairs(line).filter(|pair| ours(&self.names, pair).is_none()).collect();
            if kept.len() == pairs(line).count() {
                assert_eq!(rest.next(), Some(line), "a line without our pair changes");
                continue;
            }
            let blank = kept.iter().all(|pair| trim(pair).is_empty()) && kept.len() < 2;
            if blank {
                continue;
            }
            let line_left = rest.next().expect("a line with other pairs is left");
            let now: Vec<&[u8]> = pairs(line_left).collect();
            assert_eq!(now[1..], kept[1..], "{line:?}");
            // Only the first may have lost the one space that stood behind our semicolon.
            let begins = pairs(line).next().is_some_and(|first| ours(&self.names, first).is_some());
            let first = if begins { kept[0].strip_prefix(b" ").unwrap_or(kept[0]) } else { kept[0] };
            assert_eq!(now[0], first, "{line:?}");
        }
        assert_eq!(rest.next(), None);
        let (again, unchanged) = self.show(&left);
        assert!(!again.any && again.is_empty() && again.malformed == 0 && unchanged == left);
    }

    /// Every well-formed token counts once, in its order, and never more than a crowd.
    fn tokens(&self, shown: &Shown, values: &[&[u8]]) {
        let mut tokens: Vec<&[u8]> = Vec::new();
        let mut malformed = 0;
        for value in values {
            if tokens.len() > CROWD {
                break;
            }
            match is_token(value) {
                true if tokens.contains(&&value[..32]) => {}
                true => tokens.push(&value[..32]),
                false => malformed += 1,
            }
        }
        assert!(
            shown.tokens().map(|token| token.expose().into_owned().into_bytes()).eq(tokens.iter().copied())
        );
        assert_eq!((shown.malformed, shown.forged), (malformed, 0));
        assert_eq!((shown.len(), shown.crowd), (tokens.len(), tokens.len() > CROWD));
    }

    /// What we set is what we take, whatever else there is.
    fn own(&self, lines: &[HeaderValue]) {
        let token =
            if self.sealed { Token::of_sealed(vec![0x5a; 7000]) } else { Token::from_bits(&[0x5a; 20]) };
        let mut all = lines.to_vec();
        for set in self.jar.set(&token, Lifetime::Browser, 0, false, NOW) {
            let pair = pairs(&set).next().expect("a line has a pair");
            all.push(HeaderValue::from_bytes(pair).expect("it was one"));
        }
        let (shown, _) = self.show(&all);
        assert!(shown.crowd || shown.tokens().any(|other| *other == token));
        // Nobody else can sign; whoever seals is seen by the store alone.
        assert!(!self.signed || self.sealed || shown.len() == 1);
    }

    /// A `Set-Cookie` passes exactly if a browser (RFC 6265bis §5.6, §5.8.3) would not send it back as ours.
    fn guard(&self, lines: &[HeaderValue]) {
        let mut headers = HeaderMap::new();
        lines.iter().for_each(|line| _ = headers.append(SET_COOKIE, line.clone()));
        let dropped = self.jar.guard(&mut headers);
        let expected: Vec<&HeaderValue> =
            lines.iter().filter(|line| ours(&self.names, &sent_back(line.as_bytes())).is_none()).collect();
        assert!(headers.get_all(SET_COOKIE).iter().eq(expected.iter().copied()));
        assert_eq!(dropped, lines.len() - expected.len());
        let mut back = HeaderMap::new();
        for line in headers.get_all(SET_COOKIE) {
            back.append(
                COOKIE,
                HeaderValue::from_bytes(&sent_back(line.as_bytes())).expect("a part of a line"),
            );
        }
        assert!(!self.jar.take(&mut back).any);
    }
}

/// The value of a pair that has one of these names.
pub fn ours<'a>(names: &[&str], pair: &'a [u8]) -> Option<&'a [u8]> {
    let at = pair.iter().position(|byte| *byte == b'=')?;
    let name = trim(&pair[..at]);
    names.iter().any(|ours| ours.as_bytes() == name).then(|| trim(&pair[at + 1..]))
}

/// What a browser sends for a `Set-Cookie`.
pub fn sent_back(line: &[u8]) -> Vec<u8> {
    let pair = line.split(|byte| *byte == b';').next().unwrap_or_default();
    match pair.iter().position(|byte| *byte == b'=') {
        None => trim(pair).to_vec(),
        Some(at) if trim(&pair[..at]).is_empty() => trim(&pair[at + 1..]).to_vec(),
        Some(at) => [trim(&pair[..at]), trim(&pair[at + 1..])].join(&b'='),
    }
}

fn pairs(line: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    line.as_bytes().split(|byte| *byte == b';')
}

/// 32 characters of base32, and perhaps a dot and 52 more, of which the last has four bits that don't count.
fn is_token(value: &[u8]) -> bool {
    let base32 =
        |text: &[u8]| text.iter().all(|byte| byte.is_ascii_lowercase() || (b'2'..=b'7').contains(byte));
    match value.len() {
        32 => base32(value),
        85 => base32(&value[..32]) && value[32] == b'.' && base32(&value[33..]) && b"aq".contains(&value[84]),
        _ => false,
    }
}

fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}
