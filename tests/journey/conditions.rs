//! Section 3 of the contract: `If-Version`, `Save` and `Subject`.

use crate::support::{Backend, Sidecar};

const VERSION: &str = "X-Session-If-Version";

#[test]
fn if_version_applies_all_while_the_stored_version_is_this_one() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::before(backend.address);
    let mut visitor = sidecar.browser();
    visitor.ask(&[("X-Session-Set", r#"{"n":1}"#)]);
    visitor.get("/");
    let version = backend.last().header("x-session-version").expect("a version").to_owned();
    let increment = ("X-Session-Increment", r#"{"n":1}"#);
    assert_eq!(visitor.ask(&[(VERSION, &version)]).row(), "nothing", "alone it asks for nothing");
    assert_eq!(visitor.ask(&[(VERSION, &version), increment]).row(), "save");
    for (wanted, what) in [
        (&[(VERSION, &*version), increment][..], "it was saved meanwhile"),
        (&[(VERSION, &version), ("X-Session-Flush", "true")], "a flush is under the condition too"),
        (&[(VERSION, &version)], "alone"),
        (&[(VERSION, "0"), increment], "there is a session"),
        (&[(VERSION, "no version"), increment], "what none can be"),
        (&[(VERSION, &version.to_uppercase()), increment], "equality is exact"),
        (&[(VERSION, ""), increment], "empty"),
    ] {
        let reply = visitor.ask(wanted);
        assert_eq!((reply.status, reply.problem()), (409, "version-conflict".to_owned()), "{what}");
        assert_eq!(reply.header("set-cookie"), None, "{what}");
    }
    visitor.get("/");
    assert_eq!(backend.last().data(), r#"{"n":2}"#);
    assert_eq!(sidecar.metric("coatroom_session_saves_total{result=\"conflict\"}"), 7);
}

#[test]
fn if_version_0_applies_only_if_there_is_no_session() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::before(backend.address);
    let set = ("X-Session-Set", r#"{"n":1}"#);
    let mut visitor = sidecar.browser();
    assert_eq!(visitor.ask(&[(VERSION, "0")]).row(), "nothing-to-keep");
    assert_eq!(visitor.ask(&[(VERSION, "0"), set]).row(), "create");
    assert_eq!(visitor.ask(&[(VERSION, "0"), set]).status, 409);
    let mut stranger = sidecar.browser();
    let reply = stranger.ask(&[(VERSION, "00000000000000ab"), set]);
    assert_eq!((reply.status, stranger.token()), (409, None), "no session has a version");
}

#[test]
fn if_version_fails_when_the_session_is_gone_or_has_changed_in_the_meantime() {
    let (backend, gate) = Backend::slow();
    let sidecar = Sidecar::before(backend.address);
    for (meanwhile, expected) in [
        (&[][..], 200),
        (&[("X-Session-Set", r#"{"other":1}"#)][..], 409),
        (&[("X-Session-Flush", "true")], 409),
        (&[("X-Session-Cycle-Key", "true")], 409),
    ] {
        let mut visitor = sidecar.browser();
        visitor.ask(&[("X-Session-Set", r#"{"n":1}"#)]);
        visitor.get("/");
        let version = backend.last().header("x-session-version").expect("a version").to_owned();
        let mut slow = visitor.clone();
        let slow = std::thread::spawn(move || {
            slow.ask_at("/slow", &[(VERSION, &version), ("X-Session-Increment", r#"{"n":1}"#)])
        });
        gate.wait();
        if !meanwhile.is_empty() {
            assert_eq!(visitor.ask(meanwhile).status, 200);
        }
        gate.open();
        let reply = slow.join().expect("it ends");
        assert_eq!(
            (reply.status, reply.header("set-cookie").is_some()),
            (expected, expected == 200),
            "{meanwhile:?}"
        );
    }
}

#[test]
fn save_saves_what_is_there_and_creates_nothing() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::before(backend.address);
    let mut visitor = sidecar.browser();
    assert_eq!(visitor.ask(&[("X-Session-Save", "true")]).row(), "nothing-to-keep");
    assert_eq!(visitor.token(), None);
    visitor.ask(&[("X-Session-Set", r#"{"n":1}"#)]);
    sidecar.wind(std::time::Duration::from_secs(1000));
    let reply = visitor.ask(&[("X-Session-Save", "true")]);
    assert_eq!((reply.row(), reply.header("set-cookie").is_some()), ("save", true));
    visitor.get("/");
    assert_eq!(backend.last().header("x-session-expires-at"), Some("2023-11-28T22:30:00Z"));
    visitor.ask(&[("X-Session-Clear", "true")]);
    assert_eq!(visitor.ask(&[("X-Session-Save", "true")]).row(), "save", "an empty one too");
}

#[test]
fn a_subject_needs_the_setting() {
    let backend = Backend::obedient();
    let off = Sidecar::before(backend.address);
    let mut visitor = off.browser();
    let wanted = [("X-Session-Set", r#"{"n":1}"#), ("X-Session-Subject", "alice")];
    let reply = visitor.ask(&wanted);
    assert_eq!((reply.status, visitor.token()), (502, None));
    assert!(reply.text().contains("X-Session-Subject") && reply.text().contains("session.subject"));
    let on = Sidecar::with(backend.address, |config| config.session.subject = true);
    let mut visitor = on.browser();
    assert_eq!(
        visitor.ask(&[("X-Session-Subject", "alice")]).row(),
        "nothing-to-keep",
        "a subject is no data"
    );
    assert_eq!(visitor.ask(&wanted).row(), "create");
    assert_eq!(visitor.ask(&[("X-Session-Subject", "bob")]).row(), "save");
    assert_eq!(visitor.ask(&[("X-Session-Subject", "a|b")]).status, 502, "one value only");
    visitor.get("/");
    assert_eq!(backend.last().data(), r#"{"n":1}"#);
}

#[test]
fn the_test_cookie_is_an_ordinary_entry() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::before(backend.address);
    let mut visitor = sidecar.browser();
    assert_eq!(visitor.ask(&[("X-Session-Test-Cookie", "set")]).row(), "create");
    visitor.get("/");
    assert_eq!(backend.last().data(), r#"{"testcookie":"worked"}"#);
    assert_eq!(visitor.ask(&[("X-Session-Test-Cookie", "delete")]).row(), "save");
    visitor.get("/");
    let seen = backend.last();
    assert_eq!(
        (seen.data(), seen.header("x-session-state")),
        ("{}", Some("active")),
        "emptied is saved empty"
    );
}

/// What a request has read is not what it asks to be changed: that may allow what the other did not, or forbid it.
#[test]
fn what_may_be_done_is_decided_of_the_session_as_it_stands() {
    let (backend, gate) = Backend::slow();
    let sidecar = Sidecar::before(backend.address);
    let increment = ("X-Session-Increment", r#"{"n":1}"#);
    let delete = ("X-Session-Delete", r#"["m"]"#);
    for (begin, meanwhile, wanted, under_version, status, data) in [
        (r#"{"n":"x"}"#, r#"{"n":1}"#, increment, false, 200, r#"{"n":2}"#),
        (r#"{"n":1}"#, r#"{"n":"x"}"#, increment, false, 502, r#"{"n":"x"}"#),
        (r#"{"n":1}"#, r#"{"n":2}"#, delete, true, 409, r#"{"n":2}"#),
    ] {
        let mut visitor = sidecar.browser();
        visitor.ask(&[("X-Session-Set", begin)]);
        visitor.get("/");
        let version = backend.last().header("x-session-version").expect("a version").to_owned();
        let mut slow = visitor.clone();
        let slow = std::thread::spawn(move || {
            let condition = under_version.then_some((VERSION, &*version));
            slow.ask_at("/slow", &[Some(wanted), condition].into_iter().flatten().collect::<Vec<_>>())
        });
        gate.wait();
        visitor.ask(&[("X-Session-Set", meanwhile)]);
        gate.open();
        assert_eq!(slow.join().expect("it ends").status, status, "{begin} {meanwhile}");
        visitor.get("/");
        assert_eq!(backend.last().data(), data);
    }
}
