//! The session cookie: taken out of requests, written into responses (RFC 6265bis).

use std::fmt::Write as _;
use std::iter::{Chain, Once, once};
use std::time::Duration;
use std::vec;

use aws_lc_rs::hmac;
use http::header::{COOKIE, Entry, HeaderMap, HeaderValue, SET_COOKIE};

use super::chunks::{self, Chunks, MOST};
use super::cookie::{Config, SameSite, Secure};
use crate::secret::Material;
use crate::session::expiry::LONGEST_COOKIE;
use crate::session::{Lifetime, Scope, Shown, Token};
use crate::time::Timestamp;

/// More cookies of our name than this are somebody tossing cookies.
const CROWD: usize = 8;
/// What the tag is computed over, before the token: a tag for this purpose is good for no other.
const PURPOSE: &[u8] = b"coatroom token\0";

/// A name, domain and path that cookies are, or were, issued under.
#[derive(Clone, Debug)]
struct Issue {
    name: String,
    scope: Scope,
    /// `; Domain=…; Path=…`
    place: String,
}

impl Issue {
    fn new(name: &str, domain: &str, path: &str) -> Self {
        let domain = domain.strip_prefix('.').unwrap_or(domain);
        let mut place = String::new();
        if !domain.is_empty() {
            place = format!("; Domain={domain}");
        }
        if !path.is_empty() {
            place.push_str("; Path=");
            place.push_str(path);
        }
        Self { name: name.to_owned(), scope: Scope::of(name, domain, path), place }
    }

    /// The number of the chunk whose cookie has this name; 0 is the first.
    fn chunk(&self, name: &[u8]) -> Option<u8> {
        match name.strip_prefix(self.name.as_bytes())? {
            [] => Some(0),
            suffix => chunks::number(suffix),
        }
    }
}

/// Takes tokens out of cookies and puts them in.
#[derive(Debug)]
pub struct Jar {
    current: Issue,
    previous: Vec<Issue>,
    keys: Vec<hmac::Key>,
    secure: Secure,
    /// `; HttpOnly; SameSite=…; Partitioned`
    suffix: String,
    forward: bool,
    /// Where tokens are sealed sessions: the characters of one that go into each of its cookies.
    chunk: Option<usize>,
}

/// The `Set-Cookie` lines of one token.
pub type Cookies = Chain<Once<HeaderValue>, vec::IntoIter<HeaderValue>>;

impl Jar {
    /// Makes a jar of the settings.
    ///
    /// # Errors
    /// Says what is wrong with the signing keys.
    pub fn new(config: &Config) -> Result<Self, String> {
        let mut suffix = String::new();
        if config.http_only {
            suffix.push_str("; HttpOnly");
        }
        suffix.push_str(match config.same_site {
            SameSite::Lax => "; SameSite=Lax",
            SameSite::Strict => "; SameSite=Strict",
            SameSite::None => "; SameSite=None",
            SameSite::Absent => "",
        });
        if config.partitioned {
            suffix.push_str("; Partitioned");
        }
        let keys = Material::all(&config.keys, &config.keys_file)?;
        let keys = keys.iter().map(|key| hmac::Key::new(hmac::HMAC_SHA256, key.expose())).collect();
        Ok(Self {
            current: Issue::new(&config.name, &config.domain, &config.path),
            previous: config
                .previous
                .iter()
                .map(|old| Issue::new(&old.name, &old.domain, &old.path))
                .collect(),
            keys,
            secure: config.secure,
            suffix,
            forward: config.forward,
            chunk: None,
        })
    }

    /// The same jar for tokens that are sealed sessions, in several cookies where they are long.
    pub fn of_sealed(self) -> Self {
        let longest = "; Max-Age=34560000; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Secure";
        let Issue { name, place, .. } = &self.current;
        let taken = name.len() + ".9=".len() + place.len() + longest.len() + self.suffix.len();
        Self { chunk: Some(chunks::room(taken)), ..self }
    }

    /// The characters of a sealed token that so many cookies hold.
    pub fn room(&self, cookies: usize) -> usize {
        self.chunk.unwrap_or_default() * cookies.min(MOST)
    }

    /// The scope that cookies are issued under now.
    pub const fn scope(&self) -> Scope {
        self.current.scope
    }

    /// The scopes that count where none of today's does.
    pub fn previous(&self) -> Vec<Scope> {
        self.previous.iter().map(|issue| issue.scope).collect()
    }

    /// Finds the tokens that a request shows, and hides them from the backend.
    ///
    /// Our pair and one adjacent `; ` go; the rest passes byte for byte; a line without a pair is dropped.
    pub fn take(&self, headers: &mut HeaderMap) -> Shown {
        let Entry::Occupied(lines) = headers.entry(COOKIE) else { return Shown::default() };
        let mut kept: Vec<HeaderValue> = Vec::new();
        let (mut changed, mut shown, mut chunks) = (false, Shown::default(), Chunks::default());
        for line in lines.iter() {
            match self.scan(line.as_bytes(), &mut shown, &mut chunks) {
                None => kept.push(line.clone()),
                Some(rest) => {
                    changed = true;
                    kept.extend(
                        (!trim(&rest).is_empty()).then(|| HeaderValue::from_bytes(&rest).ok()).flatten(),
                    );
                }
            }
        }
        if self.chunk.is_some() {
            chunks.join(&mut shown, CROWD);
        } else {
            shown.crowd = shown.len() > CROWD;
        }
        if changed && !self.forward {
            replace(lines, kept);
        }
        shown
    }

    /// Notes our pairs of one line; `Some` is the line without them, `None` a line that has none.
    fn scan<'a>(&self, line: &'a [u8], shown: &mut Shown, chunks: &mut Chunks<'a>) -> Option<Vec<u8>> {
        let mut rest: Option<Vec<u8>> = None;
        let (mut at, mut kept) = (0, false);
        for pair in line.split(|byte| *byte == b';') {
            let begin = at;
            at += pair.len() + 1;
            if let Some((issue, number, value)) = self.value(pair) {
                self.note(issue, number, value, shown, chunks);
                // What stands before it stays, and the semicolon in between goes.
                rest.get_or_insert_with(|| line[..begin.saturating_sub(1)].to_vec());
                continue;
            }
            if let Some(rest) = &mut rest {
                if kept {
                    rest.push(b';');
                    rest.extend_from_slice(pair);
                } else {
                    // What stood before it went, and with it the one space behind the semicolon.
                    rest.extend_from_slice(pair.strip_prefix(b" ").unwrap_or(pair));
                }
            }
            kept = true;
        }
        rest
    }

    /// The value of a pair that has our name, or a name of before, and the number of its chunk: no trimming but SP and
    /// HTAB, with case.
    fn value<'a>(&self, pair: &'a [u8]) -> Option<(&Issue, u8, &'a [u8])> {
        let at = memchr::memchr(b'=', pair)?;
        let (name, value) = (trim(&pair[..at]), trim(&pair[at + 1..]));
        if self.chunk.is_some() {
            return self.chunk(name, value);
        }
        once(&self.current)
            .chain(&self.previous)
            .find(|issue| issue.name.as_bytes() == name)
            .map(|issue| (issue, 0, value))
    }

    /// The same where tokens are in chunks. It stands apart so that where they are not, each pair costs no more for it.
    #[inline(never)]
    fn chunk<'a>(&self, name: &[u8], value: &'a [u8]) -> Option<(&Issue, u8, &'a [u8])> {
        let mut issues = once(&self.current).chain(&self.previous);
        issues.find_map(|issue| Some((issue, issue.chunk(name)?, value)))
    }

    fn note<'a>(
        &self,
        issue: &Issue,
        number: u8,
        value: &'a [u8],
        shown: &mut Shown,
        chunks: &mut Chunks<'a>,
    ) {
        shown.any = true;
        for old in self.previous.iter().filter(|old| old.name == issue.name && old.name != self.current.name)
        {
            if !shown.stale.contains(&old.scope) {
                shown.stale.push(old.scope);
            }
        }
        if self.chunk.is_some() {
            shown.chunks |= 1 << number;
            let names = once(&self.current).chain(&self.previous);
            let name = names.take_while(|other| other.name != issue.name).count();
            return chunks.add(name, number, value);
        }
        match Token::parse(value) {
            // Enough to call it a crowd; a long line must not cost a signature a cookie.
            _ if shown.len() > CROWD => {}
            None => shown.malformed += 1,
            Some((token, tag)) if self.verifies(&token, tag.as_ref().map(|tag| &tag[..])) => shown.add(token),
            Some(_) => shown.forged += 1,
        }
    }

    fn verifies(&self, token: &Token, tag: Option<&[u8]>) -> bool {
        if self.keys.is_empty() {
            return true;
        }
        let signed = [PURPOSE, token.expose().as_bytes()].concat();
        tag.is_some_and(|tag| self.keys.iter().any(|key| hmac::verify(key, &signed, tag).is_ok()))
    }

    fn tag(&self, token: &Token) -> Option<[u8; 32]> {
        let key = self.keys.first()?;
        let signed = [PURPOSE, token.expose().as_bytes()].concat();
        hmac::sign(key, &signed).as_ref().try_into().ok()
    }

    /// Removes every `Set-Cookie` of a backend that a browser would send back as something we read as ours.
    pub fn guard(&self, headers: &mut HeaderMap) -> usize {
        let Entry::Occupied(lines) = headers.entry(SET_COOKIE) else { return 0 };
        let is_kept = |line: &&HeaderValue| !self.is_tossed(line.as_bytes());
        let kept: Vec<HeaderValue> = lines.iter().filter(is_kept).cloned().collect();
        let dropped = lines.iter().count() - kept.len();
        if dropped > 0 {
            replace(lines, kept);
        }
        dropped
    }

    fn is_tossed(&self, line: &[u8]) -> bool {
        let pair = line.split(|byte| *byte == b';').next().unwrap_or(line);
        let (name, value) = match memchr::memchr(b'=', pair) {
            Some(at) => (trim(&pair[..at]), trim(&pair[at + 1..])),
            None => (&b""[..], trim(pair)),
        };
        // A browser sends a cookie without a name as its bare value.
        if name.is_empty() { self.value(value).is_some() } else { self.value(pair).is_some() }
    }

    /// The `Set-Cookie` lines that give a token to the browser: one, or for a sealed token one for each of its chunks
    /// and one for each chunk that the request showed (`Shown::chunks`) and that is no more, to be forgotten. `tls`: the
    /// client came over TLS.
    pub fn set(&self, token: &Token, lifetime: Lifetime, chunks: u16, tls: bool, now: Timestamp) -> Cookies {
        let Issue { name, place, .. } = &self.current;
        let Some(room) = self.chunk else {
            let tag = self.tag(token);
            let line = format!("{name}={}{place}", token.with_tag(tag.as_ref()));
            return once(self.date(line, lifetime, tls, now)).chain(Vec::new());
        };
        let values = chunks::cut(&token.expose(), room);
        let first = self.date(format!("{name}={}{place}", values[0]), lifetime, tls, now);
        let further = (1..).zip(&values[1..]).map(|(n, value)| {
            self.date(format!("{name}{}={value}{place}", chunks::suffix(n)), lifetime, tls, now)
        });
        let mut lines: Vec<HeaderValue> = further.collect();
        lines.extend(self.forget_chunks(&self.current, values.len(), chunks, tls));
        once(first).chain(lines)
    }

    /// Says how long a cookie lives, and the rest of its attributes.
    fn date(&self, mut line: String, lifetime: Lifetime, tls: bool, now: Timestamp) -> HeaderValue {
        if let Lifetime::Until(until) = lifetime {
            let age = Duration::from_secs(until.since(now).as_secs()).min(LONGEST_COOKIE);
            let written = write!(line, "; Max-Age={}; Expires={}", age.as_secs(), now.plus(age).http_date());
            written.expect("writing into memory succeeds");
        }
        self.finish(line, tls)
    }

    /// The `Set-Cookie` lines that make the browser forget today's cookie, with those of its chunks that were shown.
    pub fn remove(&self, chunks: u16, tls: bool) -> Cookies {
        once(self.forget(&self.current, "", tls)).chain(self.forget_chunks(&self.current, 1, chunks, tls))
    }

    /// The `Set-Cookie` lines that make the browser forget cookies of previous scopes.
    pub fn remove_previous<'a>(
        &'a self,
        scopes: &'a [Scope],
        chunks: u16,
        tls: bool,
    ) -> impl Iterator<Item = HeaderValue> + 'a {
        let issues = self.previous.iter().filter(|issue| scopes.contains(&issue.scope));
        issues.flat_map(move |issue| {
            once(self.forget(issue, "", tls)).chain(self.forget_chunks(issue, 1, chunks, tls))
        })
    }

    /// Forgets the chunks that were shown, from this number on.
    fn forget_chunks(&self, issue: &Issue, from: usize, chunks: u16, tls: bool) -> Vec<HeaderValue> {
        let shown = (from..MOST).filter(|n| chunks >> n & 1 == 1);
        shown.map(|n| self.forget(issue, &chunks::suffix(n), tls)).collect()
    }

    fn forget(&self, issue: &Issue, suffix: &str, tls: bool) -> HeaderValue {
        let Issue { name, place, .. } = issue;
        let line = format!("{name}{suffix}={place}; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT");
        self.finish(line, tls)
    }

    fn finish(&self, mut line: String, tls: bool) -> HeaderValue {
        if self.secure == Secure::Always || (self.secure == Secure::Auto && tls) {
            line.push_str("; Secure");
        }
        line.push_str(&self.suffix);
        let mut value = HeaderValue::try_from(line).expect("the settings were checked, and tokens are ASCII");
        value.set_sensitive(true);
        value
    }
}

/// Puts other lines in place of those that are there.
fn replace(mut lines: http::header::OccupiedEntry<'_, HeaderValue>, kept: Vec<HeaderValue>) {
    let mut kept = kept.into_iter();
    match kept.next() {
        None => drop(lines.remove()),
        Some(first) => {
            lines.insert(first);
            kept.for_each(|line| lines.append(line));
        }
    }
}

fn trim(bytes: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let from = bytes.iter().position(|byte| !blank(byte)).unwrap_or(bytes.len());
    let to = bytes.iter().rposition(|byte| !blank(byte)).map_or(from, |at| at + 1);
    &bytes[from..to]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;
    use crate::wire::cookie::Previous;
    use data_encoding::BASE64;
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
    const TOKEN: &str = "abcdefghijklmnopqrstuvwxyz234567";

    fn jar(change: impl FnOnce(&mut Config)) -> Jar {
        let mut config = Config::default();
        change(&mut config);
        Jar::new(&config).unwrap()
    }

    /// The one line that is to be sent.
    fn only(lines: Cookies) -> HeaderValue {
        let lines: Vec<_> = lines.collect();
        let [line] = &lines[..] else { panic!("{lines:?}") };
        line.clone()
    }

    fn previous(name: &str) -> Vec<Previous> {
        vec![Previous { name: name.to_owned(), domain: String::new(), path: "/".to_owned() }]
    }

    fn take(jar: &Jar, lines: &[&[u8]]) -> (Shown, Vec<Vec<u8>>) {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(COOKIE, HeaderValue::from_bytes(line).unwrap());
        }
        let shown = jar.take(&mut headers);
        (shown, headers.get_all(COOKIE).iter().map(|line| line.as_bytes().to_vec()).collect())
    }

    #[test]
    fn equal_tokens_count_once_and_malformed_ones_are_only_noted() {
        let line = format!("sessionid={TOKEN}; sessionid=junk; sessionid={TOKEN}; sessionid=");
        let (shown, left) = take(&jar(|_| {}), &[line.as_bytes()]);
        assert_eq!(
            (shown.len(), shown.malformed, shown.any, shown.crowd, left.len()),
            (1, 2, true, false, 0)
        );
        let (shown, _) = take(&jar(|_| {}), &[b"sessionid=junk"]);
        assert_eq!((shown.len(), shown.any), (0, true));
        let (shown, _) = take(&jar(|_| {}), &[b"Sessionid=junk; sessionid"]);
        assert!(!shown.any);
    }

    #[test]
    fn more_than_eight_are_a_crowd() {
        let line = |n: u8| {
            let token = |n: u8| Token::from_bits(&[n; 20]).with_tag(None);
            (0..n).map(|n| format!("sessionid={}", token(n))).collect::<Vec<_>>().join("; ")
        };
        assert!(!take(&jar(|_| {}), &[line(8).as_bytes()]).0.crowd);
        let (shown, _) = take(&jar(|_| {}), &[line(200).as_bytes()]);
        assert_eq!((shown.crowd, shown.len()), (true, 9));
    }

    #[test]
    fn a_previous_name_is_taken_and_its_scope_is_stale() {
        let jar = jar(|config| config.previous = previous("old"));
        let (shown, left) = take(&jar, &[format!("old={TOKEN}; a=1").as_bytes()]);
        assert_eq!((shown.len(), shown.stale, left), (1, jar.previous(), vec![b"a=1".to_vec()]));
        assert!(take(&jar, &[format!("sessionid={TOKEN}").as_bytes()]).0.stale.is_empty());
    }

    #[test]
    fn what_a_browser_would_send_back_as_ours_is_tossed() {
        let jar = jar(|config| config.previous = previous("old"));
        for (line, tossed) in [
            ("sessionid=x; Path=/", true),
            ("\tsessionid =x", true),
            ("=sessionid=x", true),
            (" = sessionid = x; Secure", true),
            ("old=x", true),
            ("=old=", true),
            ("sessionid", false),
            ("=sessionid", false),
            ("==sessionid=x", false),
            ("SESSIONID=x", false),
            ("a=1; sessionid=x", false), // an attribute that no browser knows
            ("", false),
        ] {
            assert_eq!(jar.is_tossed(line.as_bytes()), tossed, "{line}");
        }
    }

    #[test]
    fn set_and_removal_are_written_to_the_byte() {
        let token = Token::parse(TOKEN.as_bytes()).unwrap().0;
        let week = Lifetime::Until(NOW.plus(Duration::from_secs(604_800)));
        let full = jar(|config| {
            config.domain = ".shop.test".to_owned();
            (config.path, config.secure) = ("/a".to_owned(), Secure::Always);
            (config.same_site, config.partitioned) = (SameSite::None, true);
        });
        let place = "; Domain=shop.test; Path=/a";
        let end = "; Secure; HttpOnly; SameSite=None; Partitioned";
        let dates = "; Max-Age=604800; Expires=Tue, 21 Nov 2023 22:13:20 GMT";
        assert_eq!(
            only(full.set(&token, week, 0, false, NOW)),
            format!("sessionid={TOKEN}{place}{dates}{end}")
        );
        assert_eq!(
            only(full.set(&token, Lifetime::Browser, 0, false, NOW)),
            format!("sessionid={TOKEN}{place}{end}")
        );
        let gone = "; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT";
        assert_eq!(only(full.remove(0, false)), format!("sessionid={place}{gone}{end}"));
        let bare = jar(|config| {
            (config.path, config.http_only, config.same_site) = (String::new(), false, SameSite::Absent);
        });
        assert_eq!(only(bare.set(&token, Lifetime::Browser, 0, true, NOW)), format!("sessionid={TOKEN}"));
        let ages = only(bare.set(&token, Lifetime::Until(Timestamp::MAX), 0, true, NOW));
        assert!(ages.to_str().unwrap().contains("; Max-Age=34560000; "), "400 days at most: {ages:?}");
        assert!(ages.is_sensitive());
    }

    fn sealing(change: impl FnOnce(&mut Config)) -> Jar {
        jar(change).of_sealed()
    }

    /// A token of so many characters.
    fn long(characters: usize) -> Token {
        Token::of_sealed(vec![0x5a; characters * 3 / 4])
    }

    /// Names and values as a browser would keep them, and what it would forget.
    fn kept(lines: impl Iterator<Item = HeaderValue>) -> (Vec<(String, String)>, Vec<String>) {
        let (mut kept, mut forgotten) = (Vec::new(), Vec::new());
        for line in lines {
            let line = line.to_str().unwrap();
            let (name, value) = line.split(';').next().unwrap().split_once('=').unwrap();
            if line.contains("; Max-Age=0;") {
                assert_eq!(value, "");
                forgotten.push(name.to_owned());
            } else {
                kept.push((name.to_owned(), value.to_owned()));
            }
        }
        (kept, forgotten)
    }

    #[test]
    fn a_long_token_is_set_in_chunks_that_browsers_take_and_taken_whole() {
        let jar = sealing(|config| (config.domain, config.secure) = ("shop.test".to_owned(), Secure::Always));
        for cookies in 1..=MOST {
            let token = long(jar.room(cookies) / 4 * 4);
            let lines: Vec<_> = jar.set(&token, Lifetime::Until(Timestamp::MAX), 0, true, NOW).collect();
            assert!(lines.iter().all(|line| line.len() <= chunks::COOKIE && line.is_sensitive()));
            assert!(cookies == 1 || lines[1].len() > chunks::COOKIE - 8, "no room is wasted");
            let (kept, forgotten) = kept(lines.into_iter());
            assert_eq!((kept.len(), forgotten.len()), (cookies, 0));
            let pairs: Vec<_> = kept.iter().rev().map(|(name, value)| format!("{name}={value}")).collect();
            let (shown, left) = take(&jar, &[format!("a=1; {}; b=2", pairs.join("; ")).as_bytes()]);
            assert_eq!((shown.tokens().next(), shown.len(), shown.malformed), (Some(&token), 1, 0));
            assert_eq!(left, [b"a=1; b=2"], "the backend sees no chunk");
            assert_eq!(shown.chunks.count_ones() as usize, cookies);
        }
    }

    #[test]
    fn chunks_that_are_no_more_are_forgotten_and_others_are_let_alone() {
        let jar = sealing(|config| config.previous = previous("old"));
        let shown = |names: &[&str]| {
            let line = names.iter().map(|name| format!("{name}=x")).collect::<Vec<_>>().join("; ");
            take(&jar, &[line.as_bytes()]).0.chunks
        };
        let three = shown(&["sessionid", "sessionid.1", "sessionid.2"]);
        let set = |cookies| jar.set(&long(jar.room(cookies)), Lifetime::Browser, three, false, NOW);
        assert_eq!(kept(set(1)).1, ["sessionid.1", "sessionid.2"]);
        assert_eq!(kept(set(2)).1, ["sessionid.2"]);
        assert!(kept(set(3)).1.is_empty());
        assert_eq!(kept(jar.remove(three, false)).1, ["sessionid", "sessionid.1", "sessionid.2"]);
        let scopes = jar.previous();
        let previous = jar.remove_previous(&scopes, shown(&["old.1"]), false);
        assert_eq!(kept(previous).1, ["old", "old.1"]);
        assert_eq!(shown(&["sessionid.10", "sessionid.0", "sessionid.", "sessionid1"]), 0);
    }

    #[test]
    fn a_lonely_chunk_is_ours_and_is_no_token() {
        let jar = sealing(|_| {});
        let (shown, left) = take(&jar, &[b"sessionid.1=abcdef.YQ"]);
        assert_eq!((shown.any, shown.len(), shown.malformed, left.len()), (true, 0, 0, 0));
        assert!(jar.is_tossed(b"sessionid.3=x; Path=/") && jar.is_tossed(b"=sessionid.3=x"));
        let plain = self::jar(|_| {});
        assert!(!plain.is_tossed(b"sessionid.3=x"));
        let (shown, left) = take(&plain, &[b"sessionid.1=abcdef.YQ"]);
        assert!(!shown.any && left == [b"sessionid.1=abcdef.YQ"], "it is the backend's");
    }

    /// The line without our pairs: taken out one by one, each with the semicolon before it, or where it comes first
    /// with the `; ` behind it.
    fn model(line: &[u8]) -> Vec<u8> {
        let mut pairs: Vec<&[u8]> = line.split(|byte| *byte == b';').collect();
        let is_ours = |pair: &&[u8]| {
            let text: String = pair.iter().map(|byte| char::from(*byte)).collect();
            text.split_once('=').is_some_and(|(name, _)| name.trim_matches([' ', '\t']) == "sessionid")
        };
        while let Some(at) = pairs.iter().position(is_ours) {
            pairs.remove(at);
            if at == 0
                && let Some(first) = pairs.first_mut()
            {
                *first = first.strip_prefix(b" ").unwrap_or(first);
            }
        }
        pairs.join(&b';')
    }

    fn pair() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![4 => 0x20_u8..0x7f, 1 => Just(b'\t'), 2 => 0x80_u8..=0xff];
        let byte = byte.prop_filter("a separator", |byte| *byte != b';');
        prop_oneof![
            proptest::collection::vec(byte, 0..8),
            "[ \t]{0,2}sessionid[ \t]{0,2}=[ -:<-~]{0,8}".prop_map(String::into_bytes),
            "[ ]?[Ss]essionid=?".prop_map(String::into_bytes),
        ]
    }

    proptest! {
        #[test]
        fn what_is_not_ours_passes_byte_for_byte(pairs in proptest::collection::vec(pair(), 1..8)) {
            let line = pairs.join(&b';');
            let (_, left) = take(&jar(|_| {}), &[&line]);
            let expected = model(&line);
            let gone = trim(&expected).is_empty() && expected != line;
            prop_assert_eq!(left, if gone { vec![] } else { vec![expected] });
        }

        #[test]
        fn what_we_set_is_what_we_take(bits: [u8; 20], other in "[a-z=]{0,10}") {
            let token = Token::from_bits(&bits);
            let signing = jar(|config| config.keys = vec![Secret::new(BASE64.encode(&[7; 32]))]);
            for jar in [jar(|_| {}), signing] {
                let set = only(jar.set(&token, Lifetime::Browser, 0, false, NOW));
                let pair = set.to_str().unwrap().split(';').next().unwrap().to_owned();
                let (shown, left) = take(&jar, &[format!("a={other}; {pair}").as_bytes()]);
                prop_assert_eq!(shown.tokens().collect::<Vec<_>>(), [&token]);
                prop_assert_eq!(left, [format!("a={other}").into_bytes()]);
            }
        }
    }
}
