//! One browser story against each real application, through the binary that users get.

use std::thread;

use crate::support::{Browser, Program};

#[test]
fn a_php_application_has_sessions() {
    story(&Program::php());
}

#[test]
fn a_python_application_has_sessions() {
    story(&Program::python());
}

fn story(application: &Program) {
    let sidecar = Program::sidecar(application.address, &[]);
    let mut visitor = sidecar.browser();
    let first_line =
        |browser: &mut Browser| browser.get("/").text().lines().next().unwrap_or_default().to_owned();

    assert_eq!(first_line(&mut visitor), "user=- visits=0 cart=[]");
    assert_eq!(visitor.token(), None, "nobody who only looks gets a cookie");
    for visits in 1..=3 {
        assert_eq!(visitor.post("/visit", "").text().trim(), format!("visits={visits}"));
    }
    assert_eq!(visitor.post("/cart/add", "item=hat%20%22%C3%A9%22").status, 303);
    let anonymous = visitor.clone();

    assert_eq!(visitor.post("/login", "user=alice").status, 303);
    assert_ne!(visitor.token(), anonymous.token(), "a login changes the token");
    assert_eq!(first_line(&mut visitor), r#"user=alice visits=3 cart=["hat \"\u00e9\""]"#);
    let planted = first_line(&mut anonymous.clone());
    assert!(planted.starts_with("user=- "), "who knows the old token is not alice: {planted}");

    let counters: Vec<_> = (0..8).map(|_| visitor.clone()).collect();
    thread::scope(|scope| {
        for mut browser in counters {
            scope.spawn(move || (0..25).for_each(|_| assert_eq!(browser.post("/count", "").status, 200)));
        }
    });
    assert!(visitor.get("/").text().contains("hits=200"), "200 parallel increments are 200");

    no_spelling_arrives(&mut visitor);

    let logged_in = visitor.clone();
    assert_eq!(visitor.post("/logout", "").status, 303);
    assert_eq!(visitor.token(), None, "the browser has forgotten it");
    assert!(first_line(&mut logged_in.clone()).starts_with("user=- visits=0"), "and so has the store");
    assert!(first_line(&mut anonymous.clone()).starts_with("user=- visits=0"), "the token before it, too");

    for secret in [&anonymous, &logged_in].map(|browser| browser.token().expect("a token")) {
        assert!(!sidecar.output().contains(secret), "no token is ever in a log");
    }
}

/// Whatever a client sends, the application sees our headers, or none of that name.
fn no_spelling_arrives(visitor: &mut Browser) {
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
        let seen = visitor.request("GET", "/headers", &headers, "").text();
        assert!(!seen.contains("evil"), "{seen}");
        let seen: serde_json::Value = serde_json::from_str(&seen).expect("a JSON object");
        assert!(seen["HTTP_X_SESSION_DATA"].as_str().expect("always present").contains("alice"), "{seen}");
        assert_eq!(seen["HTTP_X_SESSION_STATE"], "active");
        assert_eq!(seen["HTTP_COOKIE"], serde_json::Value::Null);
        assert_eq!(seen["HTTP_X_CUSTOM_NAME"], "passes");
    }
}
