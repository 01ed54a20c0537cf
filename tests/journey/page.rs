//! `errors.page`: people get a page, programs a problem, and both the same status and headers.

use std::io::Write as _;

use coatroom::config::Config;
use tempfile::NamedTempFile;

use crate::support::{Line, Reply, Sidecar, Stage, send};

fn page(text: impl AsRef<[u8]>) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a file");
    file.write_all(text.as_ref()).expect("it is written");
    file
}

/// What a client gets that asks so, of a backend that is away.
fn asked(sidecar: &Sidecar, method: &str, accept: &str) -> Reply {
    send(sidecar.address(), format!("{method} / HTTP/1.1\r\nHost: a\r\nAccept: {accept}\r\n\r\n"))
}

#[test]
fn who_asks_for_html_gets_the_page_and_everybody_else_the_problem() {
    let (_socket, nobody) = Stage::nobody();
    let file = page("<h1>{{status}}</h1><p>{{title}}</p><code>{{id}}</code> {{type}}");
    let sidecar = Sidecar::with(nobody, |config: &mut Config| {
        config.errors.page = file.path().display().to_string();
    });
    let html = asked(&sidecar, "GET", "text/html,*/*;q=0.8");
    let id = html.header("x-request-id").expect("an ID").to_owned();
    let body = format!(
        "<h1>502</h1><p>The application can&#39;t be reached</p><code>{id}</code> urn:coatroom:problem/backend-failed"
    );
    assert_eq!((html.status, html.text()), (502, body));
    assert_eq!(html.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(html.header("vary"), Some("Accept, Cookie"));

    let problem = asked(&sidecar, "GET", "application/json");
    assert_eq!((problem.status, &*problem.problem()), (502, "backend-failed"));
    assert_eq!(problem.header("content-type"), Some("application/problem+json"));
    for name in ["vary", "cache-control"] {
        assert_eq!(problem.header(name), html.header(name));
    }
    let mut old = Line::to(sidecar.address());
    let html = old.ask("GET / HTTP/1.0\r\nHost: a\r\nAccept: text/html\r\n\r\n");
    assert!(html.status == 502 && html.text().starts_with("<h1>502</h1>"), "{html:?}");
    old.ends();
    let none = send(sidecar.address(), "nothing\r\nAccept: text/html\r\n\r\n");
    assert_eq!(
        (none.status, &*none.problem()),
        (400, "bad-request"),
        "nobody knows what such a client likes"
    );
    let head = asked(&sidecar, "HEAD", "text/html");
    assert_eq!((head.status, head.body.len()), (502, 0));
    assert_eq!(head.header("content-type"), Some("text/html; charset=utf-8"));
}

#[test]
fn without_a_page_nobody_gets_one() {
    let (_socket, nobody) = Stage::nobody();
    let sidecar = Sidecar::before(nobody);
    let reply = asked(&sidecar, "GET", "text/html");
    assert_eq!(reply.header("content-type"), Some("application/problem+json"));
    assert_eq!(reply.header("vary"), Some("Cookie"));
}

#[test]
fn a_page_that_cannot_be_used_is_refused_at_the_start() {
    for (text, what) in [
        (&b"<p>\n{{name}}"[..], "has no value for \"name\" in line 2: "),
        (b"<p>{{id", "has {{ without }} in line 1: "),
        (b"<p>\xff", "is not UTF-8 (invalid utf-8 sequence of 1 bytes from index 3): "),
        (&b"x".repeat(64 * 1024 + 1), "has more than 64 KiB: "),
        // Where it is cut it is no UTF-8.
        (&"é".repeat(40 * 1024).into_bytes(), "has more than 64 KiB: "),
    ] {
        let file = page(text);
        let refusal = Sidecar::refusal(|config| config.errors.page = file.path().display().to_string());
        let told = format!("errors.page: {} {what}", file.path().display());
        assert!(refusal.starts_with(&told), "{refusal}");
    }
    let whole = page(b"x".repeat(64 * 1024));
    let (_socket, nobody) = Stage::nobody();
    let sidecar = Sidecar::with(nobody, |config| {
        config.errors.page = whole.path().display().to_string();
    });
    assert_eq!(asked(&sidecar, "GET", "text/html").body.len(), 64 * 1024, "and one that just fits is not");
    for (place, what) in [
        ("/nowhere/page.html", "can't be read (No such file"),
        ("/dev/zero", "is no file: "),
        ("/", "is no file: "),
    ] {
        let refusal = Sidecar::refusal(|config| config.errors.page = place.to_owned());
        assert!(refusal.starts_with(&format!("errors.page: {place} {what}")), "{refusal}");
    }
}
