//! Section 1 of the contract: the token is a bearer secret, and the store files nothing under it.

use std::collections::HashSet;
use std::time::Duration;

use aws_lc_rs::{digest, hmac};
use data_encoding::HEXLOWER;

use crate::support::sidecar::NOW;
use crate::support::{Backend, Browser, Program, Sidecar, canary};

/// A life with everything in it that could go wrong; returns all that the browser was told, cookies left out.
fn live(mut visitor: Browser, tokens: &mut Vec<String>) -> String {
    let mut told = String::new();
    let steps: [&[(&str, &str)]; 12] = [
        &[("X-Session-Set", r#"{"a":1}"#)],
        &[("X-Session-Set", r#"{"user_id":1}"#)],
        &[("X-Session-Set", "no JSON")],
        &[("X-Session-Cycle-Key", "true")],
        &[("X-Session-If-Version", "0"), ("X-Session-Set", "{}")],
        &[("X-Session-Set", r#"{"user_id":2}"#), ("Status", "500")],
        &[("Set-Cookie", "sessionid=tossed")],
        &[("X-Session-Increment", r#"{"user_id":[]}"#)],
        &[("X-Session-Expiry", "0")],
        &[("X-Session-Set", r#"{"user_id":2}"#)],
        &[("Status", "404")],
        &[("X-Session-Flush", "true")],
    ];
    for wanted in steps {
        let before = visitor.clone();
        for mut browser in [visitor.clone(), before] {
            let reply = browser.ask(wanted);
            let but_cookies = reply.headers.iter().filter(|(name, _)| name != "set-cookie");
            told +=
                &format!("{:?} {}\n", but_cookies.collect::<Vec<_>>(), String::from_utf8_lossy(&reply.body));
            tokens.extend(browser.token().map(str::to_owned));
            visitor = browser;
        }
        if let Some(token) = visitor.token() {
            let line = format!("sessionid={token}; sessionid={}; sessionid=\"{token}\"", tokens[0]);
            told += &visitor_with(&visitor, &line);
        }
    }
    told
}

fn visitor_with(visitor: &Browser, line: &str) -> String {
    let mut browser = visitor.clone();
    browser.jar.clear();
    browser.request("GET", "/", &[("Cookie", line)], "").text()
}

fn secrets(tokens: &[String]) -> HashSet<String> {
    let secrets: HashSet<String> =
        tokens.iter().flat_map(|value| value.split('.')).map(str::to_owned).collect();
    assert!(secrets.len() > 3, "{}", secrets.len());
    secrets
}

#[test]
fn no_token_is_in_any_log_metric_error_or_request_to_the_backend() {
    let backend = Backend::obedient();
    for keys in [vec![], vec![coatroom::secret::Secret::new(data_encoding::BASE64.encode(&[7; 32]))]] {
        let sidecar = Sidecar::with(backend.address, |config| {
            config.cookie.keys = keys;
            config.log.access = true;
            config.session.save_every_request = true;
            config.headers.secret = coatroom::secret::Secret::new("s3cret-of-the-headers");
        });
        let mut tokens = Vec::new();
        let told = live(sidecar.browser(), &mut tokens);
        let metrics = sidecar.telemetry("/metrics").text();
        let seen = format!("{:?}", backend.seen());
        for secret in secrets(&tokens) {
            assert!(!told.contains(&secret), "an answer tells a token");
            assert!(!metrics.contains(&secret), "a metric tells a token");
            assert!(!seen.contains(&secret), "the backend is told a token");
            assert!(canary::logged(&secret).is_empty(), "the log tells a token");
        }
        assert!(canary::logged("s3cret-of-the-headers").is_empty());
        assert!(!seen.contains("s3cret-of-the-headers"));
    }
}

#[test]
fn no_token_is_in_anything_that_the_program_prints() {
    let backend = Backend::obedient();
    let settings = tempfile::NamedTempFile::new().expect("a file");
    let key = data_encoding::BASE64.encode(&[7; 32]);
    let text = format!(
        "[log]\nlevel = \"trace\"\naccess = true\n[session]\nsave_every_request = true\n\
         [cookie]\nkeys = [\"{key}\"]\n[headers]\nsecret = \"s3cret-of-a-file\"\n"
    );
    std::fs::write(settings.path(), text).expect("written");
    let settings = settings.path().to_str().expect("a path");
    let program = Program::sidecar(backend.address, &["--workers", "1", "--config", settings], &[]);
    let mut tokens = Vec::new();
    let told = live(program.browser(), &mut tokens);
    let output = program.output();
    assert!(
        output.contains("directive-refused") && output.contains("coatroom::access"),
        "all is logged: {output}"
    );
    assert!(!output.contains("s3cret-of-a-file") && !output.contains(&key));
    for secret in secrets(&tokens) {
        assert!(!output.contains(&secret) && !told.contains(&secret));
    }
}

#[test]
fn a_new_token_is_160_random_bits_in_lower_case_base32() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::before(backend.address);
    let tokens: HashSet<String> = (0..50)
        .map(|_| {
            let mut visitor = sidecar.browser();
            visitor.ask(&[("X-Session-Set", "{\"a\":1}")]);
            visitor.token().expect("a token").to_owned()
        })
        .collect();
    assert_eq!(tokens.len(), 50);
    assert!(
        tokens.iter().all(|token| token.len() == 32
            && token.bytes().all(|b| b"abcdefghijklmnopqrstuvwxyz234567".contains(&b)))
    );
    // Each place has many letters: no counter, no time, no fixed part.
    for at in 0..32 {
        let letters: HashSet<u8> = tokens.iter().map(|token| token.as_bytes()[at]).collect();
        assert!(letters.len() > 10, "place {at} has {} letters", letters.len());
    }
}

#[test]
fn the_id_is_the_key_of_the_store_which_is_a_hash_of_realm_and_token() {
    let backend = Backend::obedient();
    for realm in ["", "shop"] {
        let keys = vec![coatroom::secret::Secret::new(data_encoding::BASE64.encode(&[7; 32]))];
        let sidecar = Sidecar::with(backend.address, |config| {
            config.session.realm = realm.to_owned();
            config.cookie.keys = keys;
        });
        let mut visitor = sidecar.browser();
        visitor.ask(&[("X-Session-Set", r#"{"a":1}"#)]);
        visitor.get("/");
        let token = visitor.token().expect("a token").split('.').next().expect("without its tag").to_owned();
        let hash = digest::digest(&digest::SHA256, format!("{realm}\0{token}").as_bytes());
        let id = HEXLOWER.encode(&hash.as_ref()[..20]);
        assert_eq!(backend.last().header("x-session-id"), Some(&*id), "{realm:?}");
        let mut thief = sidecar.browser();
        thief.jar.insert("sessionid".to_owned(), id);
        thief.get("/");
        assert_eq!(backend.last().data(), "{}", "whoever reads the store can't take over a session");
    }
}

#[test]
fn no_session_id_in_a_url_is_ever_read() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::before(backend.address);
    let mut visitor = sidecar.browser();
    visitor.ask(&[("X-Session-Set", r#"{"a":1}"#)]);
    let token = visitor.token().expect("a token").to_owned();
    for path in
        [format!("/?sessionid={token}"), format!("/;sessionid={token}"), format!("/;jsessionid={token}/a")]
    {
        sidecar.browser().get(&path);
        assert_eq!((backend.last().data(), &backend.last().target), ("{}", &path));
    }
}

#[test]
fn a_signature_proves_time_method_target_id_and_data() {
    let backend = Backend::obedient();
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "the secret\n").expect("written");
    let path = file.path().to_str().expect("a path").to_owned();
    let sidecar = Sidecar::with(backend.address, |config| {
        config.headers.secret_file = path;
        config.routes = vec![coatroom::proxy::routes::Config {
            path: "/off".to_owned(),
            methods: Vec::new(),
            session: coatroom::session::Mode::Off,
        }];
    });
    let mut visitor = sidecar.browser();
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"the secret");
    sidecar.wind(Duration::from_millis(1_999));
    let time = NOW.as_secs() + 1;
    for (method, target) in [("GET", "/a?b=c&d"), ("POST", "/"), ("OPTIONS", "*")] {
        for expected in ["{}", r#"{"a":"\u00e9"}"#] {
            visitor.request(
                method,
                target,
                &[("Want-X-Session-Set", r#"{"a":"\u00e9"}"#), ("X-Session-Signature", "v1,0,00")],
                "",
            );
            let seen = backend.last();
            let id = seen.header("x-session-id").unwrap_or_default();
            assert_eq!(seen.data(), expected);
            let text = format!("{time}\n{method}\n{target}\n{id}\n{expected}");
            let mac = HEXLOWER.encode(hmac::sign(&key, text.as_bytes()).as_ref());
            assert_eq!(seen.header("x-session-signature"), Some(&*format!("v1,{time},{mac}")));
        }
        visitor.ask(&[("X-Session-Flush", "true")]);
    }
    visitor.request("GET", "/off", &[("X-Session-Signature", "v1,0,00")], "");
    assert_eq!(backend.last().header("x-session-signature"), None);
    let unsigned = Sidecar::before(backend.address);
    unsigned.browser().request("GET", "/", &[("X-Session-Signature", "v1,0,00")], "");
    assert_eq!(backend.last().header("x-session-signature"), None);
}

#[test]
fn an_absolute_target_is_signed_as_the_backend_sees_it() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::with(backend.address, |config| {
        config.headers.secret = coatroom::secret::Secret::new("k");
    });
    sidecar.browser().get("http://shop.test/a?b");
    let seen = backend.last();
    assert_eq!((&*seen.target, seen.header("host")), ("/a?b", Some("shop.test")));
    let text = format!("{}\nGET\n/a?b\n\n{{}}", NOW.as_secs());
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"k");
    let mac = HEXLOWER.encode(hmac::sign(&key, text.as_bytes()).as_ref());
    assert!(seen.header("x-session-signature").expect("signed").ends_with(&mac));
}
