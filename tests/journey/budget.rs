//! Section 2 of the contract: all our request headers together stay within `headers.budget`.

use coatroom::config::Config;
use coatroom::secret::Secret;
use coatroom::wire::OnOverflow;

use crate::support::{Backend, Browser, Seen, Sidecar};

/// Name + value + 4 bytes each.
fn bytes(seen: &Seen) -> usize {
    let ours = seen.headers.iter().filter(|(name, _)| name.starts_with("x-session-"));
    ours.map(|(name, value)| name.len() + value.len() + 4).sum()
}

/// The longest text that an entry may have, found by trying.
fn longest(sidecar: &Sidecar, entry: &str, char: &str) -> usize {
    let fits = |n: usize| {
        let value = format!("{{\"{entry}\":\"{}\"}}", char.repeat(n));
        sidecar.browser().mirror(&[("X-Session-Set", &value), ("X-Session-Test-Cookie", "set")]).status == 200
    };
    let (mut fit, mut too_long) = (0, 8000);
    while too_long - fit > 1 {
        let middle = usize::midpoint(fit, too_long);
        if fits(middle) { fit = middle } else { too_long = middle }
    }
    fit
}

#[test]
fn a_change_that_would_not_fit_is_refused_at_the_very_byte() {
    type Change = fn(&mut Config);
    let changes: [(Change, &str, &str); 5] = [
        (|_| {}, "pad", "x"),
        (|config| config.headers.budget = 3500, "pad", "x"),
        (|config| config.headers.keys = vec!["pad".to_owned()], "pad", "x"),
        (|config| config.headers.keys = vec!["pad".to_owned()], "pad", "%"),
        (|config| config.headers.secret = Secret::new("k"), "pad", "\u{e9}"),
    ];
    for (n, (change, entry, char)) in changes.into_iter().enumerate() {
        let backend = Backend::mirror();
        let mut budget = 0;
        let sidecar = Sidecar::with(backend.address, |config| {
            change(config);
            budget = config.headers.budget;
        });
        let most = longest(&sidecar, entry, char);
        let mut visitor = sidecar.browser();
        let of = |n: usize| format!("{{\"{entry}\":\"{}\"}}", char.repeat(n));
        let both = |value: &str, visitor: &mut Browser| {
            visitor.mirror(&[("X-Session-Set", value), ("X-Session-Test-Cookie", "set")])
        };
        assert_eq!(both(&of(most), &mut visitor).row(), "create");
        let refused = both(&of(most + 1), &mut visitor);
        assert_eq!((refused.status, refused.problem()), (502, "directive-refused".to_owned()));
        assert!(refused.text().contains(&budget.to_string()), "{}", refused.text());
        assert_eq!(visitor.mirror(&[]).status, 200);
        let takes = bytes(&backend.last());
        assert!(takes <= budget, "{n}: {takes} of {budget}");
        // What is counted at its longest: the state, the age.
        assert!(takes + 18 + 2 * char.len() * 6 > budget, "{n}: only {takes} of {budget}");
    }
}

#[test]
fn a_refused_change_leaves_the_session_as_it_was() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::before(backend.address);
    let mut visitor = sidecar.browser();
    visitor.ask(&[("X-Session-Set", r#"{"a":1}"#)]);
    let big = format!("{{\"b\":\"{}\"}}", "x".repeat(6000));
    let reply = visitor.ask(&[("X-Session-Set", &big), ("X-Session-Delete", "a")]);
    assert_eq!((reply.status, reply.header("set-cookie")), (502, None));
    visitor.get("/");
    assert_eq!(backend.last().data(), r#"{"a":1}"#);
    assert_eq!(sidecar.metric("coatroom_directives_refused_total{reason=\"too_large\"}"), 1);
}

fn omitting(backend: &Backend) -> Sidecar {
    Sidecar::with(backend.address, |config| {
        config.headers.on_overflow = OnOverflow::Omit;
        config.headers.required = vec!["needed".to_owned()];
        config.headers.keys = vec!["last".to_owned()];
    })
}

fn pad(entry: &str, n: usize) -> String {
    format!("{{\"{entry}\":\"{}\"}}", "x".repeat(n))
}

#[test]
fn omit_leaves_out_the_last_inserted_first_and_names_them() {
    let backend = Backend::obedient();
    let sidecar = omitting(&backend);
    let mut visitor = sidecar.browser();
    visitor.ask(&[("X-Session-Set", r#"{"first":1,"user_id":7}"#)]);
    visitor.ask(&[("X-Session-Set", &pad("big", 3000))]);
    visitor.ask(&[("X-Session-Set", r#"{"needed":true,"last":"here"}"#)]);
    visitor.get("/");
    assert_eq!(backend.last().header("x-session-omitted"), None, "all of it fits");
    assert_eq!(backend.last().header("x-session-key-last"), Some("here"));

    visitor.ask(&[("X-Session-Set", &pad("m\u{e9}", 2600))]);
    visitor.get("/");
    let seen = backend.last();
    assert_eq!(seen.header("x-session-omitted"), Some(r#"["m\u00e9"]"#));
    assert!(
        seen.data().ends_with(r#""needed":true,"last":"here"}"#) && bytes(&seen) <= 6000,
        "{}",
        seen.data()
    );
    assert_eq!(seen.header("x-session-key-last"), Some("here"));

    visitor.ask(&[("X-Session-Set", &pad("big", 6000))]);
    visitor.get("/");
    let seen = backend.last();
    assert_eq!(seen.header("x-session-omitted"), Some(r#"["m\u00e9","last","big"]"#));
    assert_eq!(seen.data(), r#"{"first":1,"user_id":7,"needed":true}"#);
    assert_eq!(seen.header("x-session-key-last"), None, "what is left out is left out everywhere");
    assert_eq!(seen.header("x-session-state"), Some("active"));

    visitor.ask(&[("X-Session-Delete", "big")]);
    visitor.get("/");
    let seen = backend.last();
    assert!(
        seen.data().contains("\"last\":\"here\"") && seen.data().contains("m\\u00e9"),
        "nothing is lost: {}",
        seen.data()
    );
}

#[test]
fn what_is_required_is_never_left_out_and_does_not_fit_is_a_500_that_is_not_forwarded() {
    for entry in ["needed", "user_id"] {
        let backend = Backend::obedient();
        let sidecar = omitting(&backend);
        let mut visitor = sidecar.browser();
        visitor.ask(&[("X-Session-Set", &pad(entry, 6000))]);
        let (requests, commits) = (backend.seen().len(), sidecar.commits());
        for _ in 0..2 {
            let reply = visitor.ask(&[("X-Session-Clear", "true")]);
            assert_eq!((reply.status, reply.problem()), (500, "session-too-large".to_owned()), "{entry}");
            assert_eq!(reply.header("set-cookie"), None);
        }
        assert_eq!((backend.seen().len(), sidecar.commits()), (requests, commits));
    }
}
