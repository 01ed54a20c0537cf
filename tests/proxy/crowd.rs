//! As many clients as there may be, and one more: who goes for it, and who doesn't.

use std::collections::VecDeque;
use std::thread;
use std::time::Duration;

use coatroom::proxy::timer::TICK;
use coatroom::proxy::visit::LAST_CALL;
use coatroom::time::Stopwatch;

use super::limits::reached;
use super::{GET, OK, answer, with};
use crate::support::child::until;
use crate::support::{Backend, End, Line, Sidecar, Stage};

#[test]
fn one_client_too_many_waits_until_another_one_goes() {
    for workers in [1, 2, 4] {
        let stage = Stage::new();
        let sidecar = with(&stage, |config| {
            config.proxy.workers = workers;
            config.proxy.max_connections = 3;
        });
        let mut clients: Vec<_> = (0..3).map(|_| busy(&sidecar, &stage)).collect();
        let mut late = Line::to(sidecar.address());
        late.send(GET);
        until(|| (reached(&sidecar, "max_connections") == 1).then_some(()));
        assert!(late.peek(Duration::from_millis(200)).is_empty() && stage.is_quiet());
        // A place is free for whoever waits, whichever worker's it was.
        let (gone, _unanswered) = clients.pop().expect("three");
        drop(gone);
        answer(&mut stage.accept());
        assert_eq!(late.reply().text(), "ok");
        for (client, backend) in &mut clients {
            backend.send(OK);
            assert_eq!(client.reply().text(), "ok");
        }
        // The one that has gone is counted until its task has seen that.
        until(|| (sidecar.metric("coatroom_http_connections") == 3).then_some(()));
    }
}

/// A client with a request under way, and the backend's end of it.
fn busy(sidecar: &Sidecar, stage: &Stage) -> (Line, Line) {
    let mut client = Line::to(sidecar.address());
    client.send(GET);
    let mut backend = stage.accept();
    backend.request();
    (client, backend)
}

/// A client that has had an answer and keeps its connection.
fn kept(sidecar: &Sidecar) -> Line {
    let mut client = Line::to(sidecar.address());
    assert_eq!(client.ask(GET).text(), "ok");
    client
}

#[test]
fn the_client_that_is_idle_for_longest_goes_for_one_too_many() {
    for workers in [1, 4] {
        let backend = Backend::obedient();
        let sidecar = Sidecar::with(backend.address, |config| {
            config.proxy.workers = workers;
            config.proxy.max_connections = 3;
        });
        let mut clients = VecDeque::new();
        for _ in 0..3 {
            clients.push_back(kept(&sidecar));
            // Coarse timers tell no less apart.
            thread::sleep(2 * TICK);
        }
        for n in 1..=3 {
            let late = kept(&sidecar);
            assert_eq!(clients.pop_front().expect("three").ends(), End::Closed);
            assert!(clients.iter_mut().all(|other| other.peek(Duration::from_millis(1)).is_empty()));
            // It has been used since.
            let mut other = clients.pop_front().expect("two");
            assert_eq!(other.ask(GET).text(), "ok");
            thread::sleep(2 * TICK);
            clients.extend([late, other]);
            assert_eq!(reached(&sidecar, "max_connections"), n);
        }
        assert!(clients.iter_mut().all(|client| client.ask(GET).text() == "ok"));
        assert_eq!((sidecar.metric("coatroom_http_connections"), reached(&sidecar, "idle_timeout")), (3, 0));
    }
}

#[test]
fn whoever_has_said_nothing_yet_goes_too() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::with(backend.address, |config| config.proxy.max_connections = 2);
    let mut silent = [Line::to(sidecar.address()), Line::to(sidecar.address())];
    sidecar.until("coatroom_http_connections", 2);
    // Both are as idle as can be before a newcomer is; else one that has had its answer may be the idler one.
    thread::sleep(2 * LAST_CALL);
    let _newcomers = [kept(&sidecar), kept(&sidecar)];
    assert_eq!(silent.each_mut().map(Line::ends), [End::Closed; 2]);
}

#[test]
fn nobody_goes_who_has_begun_a_request() {
    let stage = Stage::new();
    let sidecar = with(&stage, |config| config.proxy.max_connections = 3);
    let (mut first, mut later, mut upload) =
        (Line::to(sidecar.address()), Line::to(sidecar.address()), Line::to(sidecar.address()));
    first.send("G");
    later.send(GET);
    let mut backend = stage.accept();
    answer(&mut backend);
    assert_eq!(later.reply().text(), "ok");
    later.send("GET /later HTTP/1.1\r\nHost: a\r\n");
    // The rest of its body is to come, though it has its answer.
    upload.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nu");
    backend.head();
    backend.send(OK);
    assert_eq!(upload.reply().text(), "ok");
    let mut late = Line::to(sidecar.address());
    late.send(GET);
    until(|| (reached(&sidecar, "max_connections") == 1).then_some(()));
    assert!(late.peek(Duration::from_millis(500)).is_empty());
    first.send(&GET[1..]);
    let mut other = stage.accept();
    answer(&mut other);
    assert_eq!(first.reply().text(), "ok");
    // Now it is idle, and goes.
    assert_eq!(first.ends(), End::Closed);
    answer(&mut other);
    assert_eq!(late.reply().text(), "ok");
    later.send("\r\n");
    assert_eq!(other.request().target, "/later");
    other.send(OK);
    assert_eq!(later.reply().text(), "ok");
    upload.send("p");
    assert_eq!(backend.bytes(2), b"up");
}

#[test]
fn newcomers_take_no_request_from_those_who_are_there() {
    const CLIENTS: usize = 12;
    const EACH: usize = 20;
    /// What whoever has just come may take for a first request.
    const LAST_CALL: Duration = Duration::from_millis(300);
    let backend = Backend::obedient();
    let sidecar = Sidecar::with(backend.address, |config| config.proxy.max_connections = 4);
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let (mut line, mut answered, mut since) = (None, 0, Stopwatch::start());
                while answered < EACH {
                    let (client, kept) = match &mut line {
                        Some(client) => (client, true),
                        None => {
                            since = Stopwatch::start();
                            (line.insert(Line::to(sidecar.address())), false)
                        }
                    };
                    client.try_send(GET);
                    if matches!(client.stream().peek(&mut [0]), Ok(1)) {
                        assert_eq!(client.reply().text(), "ok");
                        answered += 1;
                    } else {
                        // As a browser does: once more, on a new connection, where one that was kept has closed.
                        assert!(kept || since.elapsed() > LAST_CALL, "a first request gets its answer");
                        line = None;
                    }
                }
            });
        }
    });
    assert!(reached(&sidecar, "max_connections") > 0);
    assert!(backend.seen().len() >= CLIENTS * EACH);
}
