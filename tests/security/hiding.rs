//! Section 1 of the contract: the session cookie is not the backend's business, and everything else is.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};

use coatroom::wire::cookie::Previous;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::support::client::{connect, read_reply};
use crate::support::{Backend, Sidecar};

const TOKEN: &str = "abcdefghijklmnopqrstuvwxyz234567";

/// The Cookie lines of each request that a backend gets, to the byte.
fn bytes() -> (SocketAddr, Receiver<Vec<Vec<u8>>>) {
    let (tell, told) = channel();
    let tell = Mutex::new(tell);
    let backend = Backend::raw(move |mut stream: TcpStream| {
        while let Some(head) = head(&mut stream) {
            let lines = head.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
            let cookies = lines.filter_map(|line| line.strip_prefix(b"cookie: ")).map(<[u8]>::to_vec);
            tell.lock().expect("no panic while held").send(cookies.collect()).ok();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").ok();
        }
    });
    (backend.address, told)
}

fn head(stream: &mut TcpStream) -> Option<Vec<u8>> {
    use std::io::Read;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut some = [0; 4096];
        match stream.read(&mut some) {
            Ok(n) if n > 0 => head.extend_from_slice(&some[..n]),
            _ => return None,
        }
    }
    Some(head)
}

/// Sends Cookie lines on a kept connection.
fn send(stream: &mut TcpStream, lines: &[Vec<u8>]) {
    let mut request = b"GET / HTTP/1.1\r\nHost: shop.test\r\n".to_vec();
    for line in lines {
        request.extend_from_slice(&[b"Cookie: ", &line[..], b"\r\n"].concat());
    }
    request.extend_from_slice(b"\r\n");
    stream.write_all(&request).expect("sent");
    assert_eq!(read_reply(stream, false).status, 200);
}

#[test]
fn our_pair_and_one_separator_go_and_the_rest_passes_byte_for_byte() {
    let (backend, told) = bytes();
    let sidecar = Sidecar::before(backend);
    let mut stream = connect(sidecar.address());
    let ours = format!("sessionid={TOKEN}");
    for (sent, expected) in [
        ("{}; a=1", vec!["a=1"]),
        ("a=1; {}", vec!["a=1"]),
        ("a=1; {}; b=2", vec!["a=1; b=2"]),
        ("{}", vec![]),
        ("{};", vec![]),
        ("a=1;{};b=2", vec!["a=1;b=2"]),
        ("a=1;  {} ;b=2", vec!["a=1;b=2"]),
        ("{};  a=1", vec!["a=1"]), // the field's own whitespace is nobody's byte
        ("a=1; {}; {}; b=2; {}", vec!["a=1; b=2"]),
        ("a==; {}; =b; ; c", vec!["a==; =b; ; c"]),
        ("a=\"x; {}; y\"", vec!["a=\"x; y\""]), // quotes mean nothing in a cookie
        ("Sessionid=1; {}; sessionidx=2; xsessionid=3", vec!["Sessionid=1; sessionidx=2; xsessionid=3"]),
        ("sessionid; {}", vec!["sessionid"]), // a bare value is no cookie of our name
        ("sessionid=; a=1; sessionid=junk", vec!["a=1"]), // malformed is ours too
        ("a=1; \tsessionid\t=\t{}; b=2", vec!["a=1; b=2"]),
        ("a=1; %73essionid=1; b=2", vec!["a=1; %73essionid=1; b=2"]), // nothing is percent-decoded
        ("a=1; \u{2000}sessionid=1; \u{a0}sessionid=2", vec!["a=1; \u{2000}sessionid=1; \u{a0}sessionid=2"]),
        ("$Version=1; sessionid=\"x\"; $Path=/", vec!["$Version=1; $Path=/"]),
    ] {
        let line = sent.replace("{}", if sent.contains("\t{}") { TOKEN } else { &ours });
        send(&mut stream, &[line.clone().into_bytes()]);
        let expected: Vec<Vec<u8>> = expected.into_iter().map(|line| line.as_bytes().to_vec()).collect();
        let seen: Vec<Vec<u8>> = told.recv().expect("seen").iter().map(|line| trim(line)).collect();
        assert_eq!(seen, expected, "{line}");
    }
}

#[test]
fn each_cookie_line_is_kept_apart_and_an_empty_one_is_dropped() {
    let (backend, told) = bytes();
    let sidecar = Sidecar::before(backend);
    let mut stream = connect(sidecar.address());
    let lines = ["a=1", &format!("sessionid={TOKEN}"), "b=2; sessionid=x", "c=3; d=4"];
    send(&mut stream, &lines.map(|line| line.as_bytes().to_vec()));
    assert_eq!(told.recv().expect("seen"), [&b"a=1"[..], b"b=2", b"c=3; d=4"]);
}

#[test]
fn names_of_before_are_hidden_too() {
    let (backend, told) = bytes();
    let sidecar = Sidecar::with(backend, |config| {
        config.cookie.previous =
            vec![Previous { name: "sid".to_owned(), domain: String::new(), path: "/".to_owned() }];
    });
    let mut stream = connect(sidecar.address());
    send(&mut stream, &[format!("sid={TOKEN}; a=1; sessionid=x; SID=2").into_bytes()]);
    assert_eq!(told.recv().expect("seen"), [b"a=1; SID=2"]);
}

#[test]
fn with_forward_on_the_backend_gets_it_as_it_is() {
    let (backend, told) = bytes();
    let sidecar = Sidecar::with(backend, |config| config.cookie.forward = true);
    let mut stream = connect(sidecar.address());
    let line = format!("a=1;sessionid={TOKEN} ; b=2").into_bytes();
    send(&mut stream, std::slice::from_ref(&line));
    assert_eq!(told.recv().expect("seen"), [line]);
}

/// What is left of a line: our pairs are taken out one after the other, each with the semicolon before it, or where
/// it is the first one with the `; ` behind it.
fn model(line: &[u8]) -> Vec<u8> {
    let mut pairs: Vec<Vec<u8>> = line.split(|b| *b == b';').map(<[u8]>::to_vec).collect();
    while let Some(at) = pairs.iter().position(|pair| is_ours(pair)) {
        pairs.remove(at);
        if at == 0
            && let Some(first) = pairs.first_mut()
            && first.first() == Some(&b' ')
        {
            first.remove(0);
        }
    }
    pairs.join(&b';')
}

fn is_ours(pair: &[u8]) -> bool {
    let text: String = pair.iter().map(|b| char::from(*b)).collect();
    text.split_once('=').is_some_and(|(name, _)| name.trim_matches([' ', '\t']) == "sessionid")
}

fn trim(line: &[u8]) -> Vec<u8> {
    let text: String = line.iter().map(|b| char::from(*b)).collect();
    text.trim_matches([' ', '\t']).chars().map(|c| c as u8).collect()
}

fn pair() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![4 => 0x21_u8..0x7f, 1 => Just(b' '), 1 => Just(b'\t'), 1 => Just(b'='), 1 => 0x80_u8..=0xff];
    let byte = byte.prop_filter("no semicolon", |byte| *byte != b';');
    prop_oneof![
        3 => proptest::collection::vec(byte, 0..12),
        2 => "[ \t]{0,2}sessionid[ \t]{0,2}=[ \t]{0,2}[a-z2-7\"=]{0,40}[ \t]{0,2}".prop_map(String::into_bytes),
        1 => "[ ]?(Sessionid|sessionid|essionid|sessionid2)(=[a-z]{0,3})?".prop_map(String::into_bytes),
    ]
}

#[test]
fn whatever_stands_around_our_pairs_passes_byte_for_byte() {
    let (backend, told) = bytes();
    let sidecar = Sidecar::before(backend);
    let stream = Mutex::new(connect(sidecar.address()));
    let line = proptest::collection::vec(pair(), 1..7).prop_map(|pairs| pairs.join(&b';'));
    let lines = proptest::collection::vec(line, 1..4);
    let mut runner = TestRunner::new(Config { cases: 600, failure_persistence: None, ..Config::default() });
    runner
        .run(&lines, |lines| {
            send(&mut stream.lock().expect("no panic while held"), &lines);
            let seen = told.recv().expect("seen");
            let expected: Vec<Vec<u8>> = lines
                .iter()
                .map(|line| trim(line))
                .filter_map(|line| {
                    let left = model(&line);
                    // Only a line that had our pair can have become empty.
                    (left == line || !trim(&left).is_empty()).then(|| trim(&left))
                })
                .collect();
            prop_assert_eq!(seen.iter().map(|line| trim(line)).collect::<Vec<_>>(), expected);
            Ok(())
        })
        .expect("the backend sees what is not ours");
}
