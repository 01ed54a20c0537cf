//! Section 6 of the contract: `cookie.keys` sign tokens, and a token whose tag fails never reaches the store.

use coatroom::secret::Secret;
use coatroom::wire::jar::Jar;

use crate::support::{Backend, Browser, Sidecar};

/// A key of 32 equal bytes, in base64.
fn key(byte: u8) -> Secret {
    Secret::new(data_encoding::BASE64.encode(&[byte; 32]))
}

fn signing(backend: &Backend, keys: &[u8]) -> Sidecar {
    Sidecar::with(backend.address, |config| {
        config.cookie.keys = keys.iter().map(|byte| key(*byte)).collect();
    })
}

fn show(sidecar: &Sidecar, value: &str, wanted: &[(&str, &str)]) -> crate::support::Reply {
    let mut browser: Browser = sidecar.browser();
    browser.jar.insert("sessionid".to_owned(), value.to_owned());
    browser.ask(wanted)
}

/// What a key of 32 equal bytes makes of a token.
fn sign(byte: u8, token: &str) -> String {
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &[byte; 32]);
    let tag = aws_lc_rs::hmac::sign(&key, format!("coatroom token\0{token}").as_bytes());
    let tag = data_encoding::BASE32_NOPAD.encode(tag.as_ref()).to_lowercase();
    format!("{token}.{tag}")
}

#[test]
fn a_signed_cookie_is_the_token_and_its_hmac() {
    let backend = Backend::obedient();
    let sidecar = signing(&backend, &[1]);
    let mut visitor = sidecar.browser();
    visitor.ask(&[("X-Session-Set", r#"{"a":1}"#)]);
    let value = visitor.token().expect("a token").to_owned();
    let (token, tag) = value.split_once('.').expect("a tag");
    assert_eq!((token.len(), tag.len()), (32, 52));
    assert_eq!(value, sign(1, token));
    visitor.get("/");
    assert_eq!(backend.last().data(), r#"{"a":1}"#);
}

#[test]
fn a_forged_token_never_reaches_the_store() {
    let backend = Backend::obedient();
    let sidecar = signing(&backend, &[1, 2]);
    let mut visitor = sidecar.browser();
    visitor.ask(&[("X-Session-Set", r#"{"a":1}"#)]);
    let value = visitor.token().expect("a token").to_owned();
    let (token, tag) = value.split_once('.').expect("a tag");
    let other = format!("{}{}", if token.starts_with('a') { 'b' } else { 'a' }, &token[1..]);
    let mut forged = vec![token.to_owned(), sign(3, token), format!("{other}.{tag}"), sign(9, &other)];
    // Each bit of the tag matters: every character of it, changed.
    forged.extend((0..52).map(|at| {
        let changed = if &tag[at..=at] == "a" { 'q' } else { 'a' };
        format!("{token}.{}{changed}{}", &tag[..at], &tag[at + 1..])
    }));
    let loads = sidecar.loads();
    for value in &forged {
        let reply = show(&sidecar, value, &[]);
        let seen = backend.last();
        assert_eq!(
            (seen.data(), seen.header("x-session-state"), reply.row()),
            ("{}", Some("empty"), "nothing-to-keep")
        );
        assert!(reply.header("set-cookie").expect("it was shown").starts_with("sessionid=; "));
    }
    assert_eq!(sidecar.loads(), loads);
    let counted = sidecar.metric("coatroom_session_loads_total{result=\"forged\"}")
        + sidecar.metric("coatroom_session_loads_total{result=\"malformed\"}");
    assert_eq!(counted, forged.len() as u64);
    let reply = show(&sidecar, &forged[0], &[("X-Session-Set", r#"{"b":2}"#)]);
    assert_eq!(reply.row(), "create", "a forged token is no session, and no ambiguity either");
}

#[test]
fn the_first_key_signs_and_all_verify() {
    let backend = Backend::obedient();
    // A token of before the rotation: sessions are lost with the sidecar, so the jar itself is asked.
    let config = |keys: &[u8]| coatroom::wire::cookie::Config {
        keys: keys.iter().map(|byte| key(*byte)).collect(),
        ..Default::default()
    };
    let token = "abcdefghijklmnopqrstuvwxyz234567";
    let verifies = |keys: &[u8], value: &str| {
        let line = http::HeaderValue::try_from(format!("sessionid={value}")).expect("a value");
        let mut headers: http::HeaderMap = [(http::header::COOKIE, line)].into_iter().collect();
        !Jar::new(&config(keys)).expect("good keys").take(&mut headers).is_empty()
    };
    for (keys, value, expected) in [
        (&[1][..], sign(1, token), true),
        (&[2, 1], sign(1, token), true),
        (&[3, 2, 1], sign(1, token), true),
        (&[2], sign(1, token), false),
        (&[1, 2], token.to_owned(), false),
        (&[], token.to_owned(), true),
        (&[], sign(1, token), true), // signing was turned off: a tag is nothing to fail by
    ] {
        assert_eq!(verifies(keys, &value), expected, "{keys:?}");
    }

    let sidecar = signing(&backend, &[2, 1]);
    let mut visitor = sidecar.browser();
    visitor.ask(&[("X-Session-Set", r#"{"a":1}"#)]);
    let token = visitor.token().expect("a token").split('.').next().expect("a token").to_owned();
    assert_eq!(visitor.token(), Some(&*sign(2, &token)), "the first key signs");
    let reply = show(&sidecar, &sign(1, &token), &[("X-Session-Save", "true")]);
    assert_eq!((backend.last().data(), reply.row()), (r#"{"a":1}"#, "save"), "the second verifies");
    let cookie = reply.header("set-cookie").expect("a cookie");
    assert!(cookie.starts_with(&format!("sessionid={}; ", sign(2, &token))), "signed anew by the first");
}

#[test]
fn one_session_under_tags_of_two_keys_is_one_session() {
    let backend = Backend::obedient();
    let sidecar = signing(&backend, &[2, 1]);
    let mut visitor = sidecar.browser();
    visitor.ask(&[("X-Session-Set", r#"{"a":1}"#)]);
    let token = visitor.token().expect("a token").split('.').next().expect("a token").to_owned();
    let line = format!("sessionid={}; sessionid={}; sessionid={token}", sign(1, &token), sign(2, &token));
    let reply = sidecar.browser().request("GET", "/", &[("Cookie", &line)], "");
    assert_eq!((backend.last().data(), reply.row()), (r#"{"a":1}"#, "nothing"));
}

#[test]
fn keys_are_base64_of_at_least_32_bytes_and_a_file_holds_one_a_line() {
    let with = |texts: &[&str]| {
        let keys = texts.iter().map(|text| Secret::new(*text)).collect();
        Jar::new(&coatroom::wire::cookie::Config { keys, ..Default::default() })
    };
    let short = data_encoding::BASE64.encode(&[1; 31]);
    for bad in [&*short, "not base64!", "AAAA"] {
        let what = with(&[bad]).expect_err("refused");
        assert!(!what.contains(bad), "{what}");
    }
    assert!(
        with(&[&data_encoding::BASE64.encode(&[1; 32]), &data_encoding::BASE64_NOPAD.encode(&[2; 40])])
            .is_ok()
    );
    let file = tempfile::NamedTempFile::new().expect("a file");
    let lines = format!("{}\n{}\n", key(1).expose(), key(2).expose());
    std::fs::write(file.path(), lines).expect("written");
    let backend = Backend::obedient();
    let path = file.path().to_str().expect("a path").to_owned();
    let sidecar = Sidecar::with(backend.address, |config| config.cookie.keys_file = path);
    let mut visitor = sidecar.browser();
    visitor.ask(&[("X-Session-Set", r#"{"a":1}"#)]);
    let token = visitor.token().expect("a token").split('.').next().expect("a token").to_owned();
    assert_eq!(visitor.token(), Some(&*sign(1, &token)));
    assert_eq!(show(&sidecar, &sign(2, &token), &[]).row(), "nothing");
}
