//! Clients that authenticate a connection (NTLM, Negotiate): what they have logged in over is nobody else's.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use aws_lc_rs::hmac;
use coatroom::time::Length;
use data_encoding::BASE64;

use super::{GET, OK, answer, before, with};
use crate::support::{End, Line, Program, Reply, Sidecar, Stage};

/// A request that says who sends it.
const CLAIM: &str = "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: NTLM TlRMTVNTUAABAAAA\r\n\r\n";
/// A response that asks for it.
const WHO: &str = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"a\"\r\nWWW-Authenticate: Negotiate\r\n\
    Content-Length: 2\r\n\r\nno";
const CLIENTS: &str = "coatroom_private_clients";
const OPEN: &str = "coatroom_backend_connections";

/// A client's requests go over this connection of the backend's.
fn uses(client: &mut Line, backend: &mut Line) {
    client.send(GET);
    answer(backend);
    assert_eq!(client.reply().text(), "ok");
}

/// A client that has a connection to the backend for itself, and that.
fn owner(stage: &Stage, sidecar: &Sidecar) -> (Line, Line) {
    let mut client = Line::to(sidecar.address());
    client.send(CLAIM);
    let mut backend = stage.accept();
    answer(&mut backend);
    client.reply();
    (client, backend)
}

#[test]
fn whoever_claims_a_connection_has_it_for_itself_to_its_end() {
    for scheme in ["NTLM", "ntlm TlRMTVNTUAABAAAA", "Negotiate YIIB", "NEGOTIATE"] {
        let stage = Stage::new();
        let sidecar = before(&stage);
        let mut other = Line::to(sidecar.address());
        other.send(GET);
        let mut shared = stage.accept();
        answer(&mut shared);
        other.reply();
        let mut client = Line::to(sidecar.address());
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: {scheme}\r\n\r\n"));
        let mut own = stage.accept();
        assert_eq!(own.request().header("authorization"), Some(scheme), "it passes as it is");
        own.send(OK);
        client.reply();
        for _ in 0..3 {
            uses(&mut client, &mut own);
            uses(&mut other, &mut shared);
            uses(&mut Line::to(sidecar.address()), &mut shared);
        }
        assert_eq!((sidecar.metric(CLIENTS), sidecar.metric(OPEN)), (1, 2));
        drop(client);
        assert_eq!(own.ends(), End::Closed, "it ends with its client");
        sidecar.until(CLIENTS, 0);
        uses(&mut other, &mut shared);
    }
}

#[test]
fn a_shared_connection_is_its_clients_own_once_the_backend_asks_who_that_is() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    let (mut client, mut other) = (Line::to(sidecar.address()), Line::to(sidecar.address()));
    client.send(GET);
    let mut own = stage.accept();
    own.request();
    own.send(WHO);
    assert_eq!(
        client.reply().all("www-authenticate").collect::<Vec<_>>(),
        ["Basic realm=\"a\"", "Negotiate"]
    );
    other.send(GET);
    answer(&mut stage.accept());
    other.reply();
    uses(&mut client, &mut own);
    assert_eq!(sidecar.metric(CLIENTS), 1);
}

#[test]
fn other_schemes_share_as_everybody_does() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    let mut client = Line::to(sidecar.address());
    client.send("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Basic TlRMTTpOVExN\r\n\r\n");
    let mut backend = stage.accept();
    backend.request();
    backend.send(WHO.replace("Negotiate", "Bearer scope=\"NTLM\""));
    assert_eq!(client.reply().status, 401);
    uses(&mut Line::to(sidecar.address()), &mut backend);
    assert_eq!(sidecar.metric(CLIENTS), 0);
}

#[test]
fn a_client_whose_own_connection_is_closed_begins_another_that_is_its_own_too() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    let (mut client, mut own) = owner(&stage, &sidecar);
    let mut other = Line::to(sidecar.address());
    other.send(GET);
    let mut shared = stage.accept();
    answer(&mut shared);
    other.reply();
    drop(own);
    client.send(GET);
    own = stage.accept();
    answer(&mut own);
    client.reply();
    uses(&mut other, &mut shared);
    uses(&mut client, &mut own);
    client.send(GET);
    own.request();
    own.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
    client.reply();
    assert_eq!(own.ends(), End::Closed);
    client.send(GET);
    answer(&mut stage.accept());
    assert_eq!(client.reply().text(), "ok");
}

#[test]
fn nobody_else_gets_a_connection_whose_client_hangs_up_in_the_middle() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    let mut client = Line::to(sidecar.address());
    client.send(CLAIM);
    let mut own = stage.accept();
    own.request();
    client.tear();
    own.send(OK);
    own.ends();
    sidecar.until(CLIENTS, 0);
    let mut other = Line::to(sidecar.address());
    other.send(GET);
    answer(&mut stage.accept());
    assert_eq!(other.reply().text(), "ok");
}

#[test]
fn age_does_not_end_it_and_idleness_does() {
    let stage = Stage::new();
    let sidecar = with(&stage, |config| {
        config.proxy.backend_max_age = Length::millis(1);
        config.proxy.backend_idle_timeout = Length::millis(500);
    });
    let (mut client, mut own) = owner(&stage, &sidecar);
    // Beyond its age, and a tick of the wheel.
    assert!(own.peek(Duration::from_millis(200)).is_empty());
    uses(&mut client, &mut own);
    assert_eq!(own.ends(), End::Closed);
    client.send(GET);
    answer(&mut stage.accept());
    assert_eq!(client.reply().text(), "ok");
}

#[test]
fn it_is_given_up_for_somebody_who_has_no_place() {
    let stage = Stage::new();
    let sidecar = with(&stage, |config| config.proxy.max_backend_connections = 1);
    let (mut client, mut own) = owner(&stage, &sidecar);
    let mut other = Line::to(sidecar.address());
    other.send(GET);
    assert_eq!(own.ends(), End::Closed);
    let mut shared = stage.accept();
    answer(&mut shared);
    assert_eq!(other.reply().text(), "ok");
    client.send(GET);
    assert_eq!(shared.ends(), End::Closed, "and the other way round");
    answer(&mut stage.accept());
    assert_eq!(client.reply().text(), "ok");
}

#[test]
fn a_change_of_protocol_goes_over_it_and_a_refused_one_leaves_it() {
    let upgrade = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let stage = Stage::new();
    let sidecar = before(&stage);
    let (mut client, mut own) = owner(&stage, &sidecar);
    client.send(upgrade);
    own.request();
    own.send(WHO);
    assert_eq!(client.reply().status, 401);
    uses(&mut client, &mut own);
    client.send(upgrade);
    own.request();
    own.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhi");
    client.head();
    assert_eq!(client.bytes(2), b"hi");
}

/// Something of NTLM's shape, as the backend wants it.
fn ntlm(kind: u8, rest: &[u8]) -> String {
    BASE64.encode(&[b"NTLMSSP\0", &[kind, 0, 0, 0][..], rest].concat())
}

fn ask(line: &mut Line, authorization: &str) -> Reply {
    line.ask(&format!("GET / HTTP/1.1\r\nHost: a\r\n{authorization}\r\n"))
}

/// Logs in over a connection, as a browser does when it is asked.
fn log_in(line: &mut Line, user: &str) {
    let asked = ask(line, "");
    assert_eq!((asked.status, asked.all("www-authenticate").collect()), (401, vec!["Negotiate", "NTLM"]));
    let challenged = ask(line, &format!("Authorization: NTLM {}\r\n", ntlm(1, b"")));
    let challenge = challenged.header("www-authenticate").and_then(|line| line.strip_prefix("NTLM "));
    let challenge = BASE64.decode(challenge.expect("a challenge").as_bytes()).expect("base64");
    let key = hmac::Key::new(hmac::HMAC_SHA256, user.as_bytes());
    let proof = hmac::sign(&key, &challenge[12..]);
    let proof = ntlm(3, &[proof.as_ref(), user.as_bytes()].concat());
    let answered = ask(line, &format!("Authorization: NTLM {proof}\r\n"));
    assert_eq!((answered.status, answered.text()), (200, format!("you are {user}\n")));
    assert_eq!(answered.header("x-connection"), challenged.header("x-connection"));
}

#[test]
fn nobody_is_ever_taken_for_somebody_who_has_logged_in_over_a_connection() {
    let backend = Program::ntlm();
    // Of one worker, so that they all would share.
    let sidecar = Sidecar::with(backend.address, |config| config.proxy.workers = 1);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let strangers = [(); 3].map(|()| {
            scope.spawn(|| {
                let mut asked = 0;
                while !over.load(Relaxed) || asked < 50 {
                    let reply = ask(&mut Line::to(sidecar.address()), "");
                    assert_eq!((reply.status, reply.text()), (401, "who are you?\n".to_owned()));
                    asked += 1;
                }
            })
        });
        let users: Vec<_> = (0..4)
            .map(|user| {
                let sidecar = &sidecar;
                scope.spawn(move || {
                    for round in 0..5 {
                        let (user, mut line) = (format!("user-{user}-{round}"), Line::to(sidecar.address()));
                        log_in(&mut line, &user);
                        for _ in 0..20 {
                            let reply = ask(&mut line, "");
                            assert_eq!((reply.status, reply.text()), (200, format!("you are {user}\n")));
                        }
                        // What the backend closes takes the login with it.
                        line.ask("GET /bye HTTP/1.1\r\nHost: a\r\n\r\n");
                        assert_eq!(ask(&mut line, "").status, 401);
                        log_in(&mut line, &user);
                    }
                })
            })
            .collect();
        let users: Vec<_> = users.into_iter().map(|user| user.join()).collect();
        over.store(true, Relaxed);
        assert!(users.iter().all(Result::is_ok));
        strangers.into_iter().for_each(|stranger| stranger.join().expect("they are strangers"));
    });
    sidecar.until(CLIENTS, 0);
}
