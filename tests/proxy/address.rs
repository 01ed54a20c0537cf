//! Where the backend is.

use std::io::Write;
use std::os::unix::net::UnixListener;
use std::thread;

use super::GET;
use crate::support::client::{PATIENCE, read_head};
use crate::support::{Line, Sidecar, Stage, send};

fn serves(url: &str, stage: &Stage) {
    let sidecar = Sidecar::at(url, |_| {});
    thread::scope(|scope| {
        scope.spawn(|| super::answer(&mut stage.accept()));
        assert_eq!(send(sidecar.address(), GET).text(), "ok", "{url}");
    });
}

#[test]
fn a_backend_has_an_ipv4_address_an_ipv6_address_or_a_name() {
    let stage = Stage::new();
    serves(&format!("http://{}", stage.address), &stage);
    serves(&format!("http://localhost:{}/", stage.address.port()), &stage);
    let stage = Stage::on("[::1]:0");
    serves(&format!("http://[::1]:{}", stage.address.port()), &stage);
}

#[test]
fn a_backend_on_a_unix_socket_is_reached_and_kept() {
    let room = tempfile::tempdir().expect("a directory");
    let path = room.path().join("app.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    let sidecar = Sidecar::at(&format!("unix:{}", path.display()), |config| config.proxy.workers = 1);
    let backend = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        for _ in 0..3 {
            read_head(&mut stream).expect("a request");
            stream.write_all(super::OK.as_bytes()).expect("it is taken");
        }
    });
    let mut client = Line::to(sidecar.address());
    for _ in 0..3 {
        assert_eq!(client.ask(GET).text(), "ok");
    }
    backend.join().expect("one connection for all of them");
}

#[test]
fn a_client_of_http_1_0_without_a_host_is_given_the_backends() {
    let stage = Stage::new();
    let sidecar = super::before(&stage);
    let mut client = Line::to(sidecar.address());
    client.send("GET / HTTP/1.0\r\n\r\n");
    let mut backend = stage.accept();
    let seen = backend.request();
    assert_eq!(seen.header("host"), Some(&*stage.address.to_string()));
    backend.send(super::OK);
    assert_eq!(client.reply().status, 200);
}
