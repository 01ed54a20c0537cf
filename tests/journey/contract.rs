//! Sections 2 to 4 of the contract, as a client and a backend see them.

use crate::support::{Backend, Sidecar};

#[test]
fn a_session_is_created_read_changed_and_flushed() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::before(backend.address);
    let mut visitor = sidecar.browser();

    let reply = visitor.get("/");
    assert_eq!((reply.row(), reply.header("set-cookie")), ("nothing-to-keep", None));
    assert_eq!((backend.last().data(), backend.last().header("x-session-state")), ("{}", Some("empty")));

    let reply = visitor.request("GET", "/", &[("Want-X-Session-Set", r#"{"cart":[1,2]}"#)], "");
    assert_eq!((reply.status, reply.row()), (200, "create"));
    let first = visitor.token().expect("a cookie").to_owned();

    visitor.get("/");
    assert_eq!(
        (backend.last().data(), backend.last().header("x-session-state")),
        (r#"{"cart":[1,2]}"#, Some("active"))
    );
    assert_eq!(backend.last().header("cookie"), None, "the token is not the backend's business");

    let reply = visitor.request("GET", "/", &[("Want-X-Session-Set", r#"{"user_id":7}"#)], "");
    assert_eq!(reply.row(), "cycle-key-on-login");
    assert_ne!(visitor.token().expect("a new cookie"), first);

    let reply = visitor.request("GET", "/", &[("Want-X-Session-Flush", "true")], "");
    assert_eq!((reply.row(), visitor.token()), ("flush", None));
}
