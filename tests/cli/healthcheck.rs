//! The probe of a container that has no other program.

use std::net::TcpListener;

use coatroom::time::Length;

use super::{coatroom, file, path, stderr, stdout};
use crate::support::child::until;
use crate::support::{Backend, Redis, Sidecar};

#[test]
fn a_health_check_asks_the_telemetry_listener_of_the_settings() {
    let backend = Backend::obedient();
    let redis = Redis::start();
    let sidecar = Sidecar::on(&redis, backend.address, |config| {
        (config.telemetry.ready_needs_store, config.store.timeout) = (true, Length::secs(1));
    });
    let listen = sidecar.telemetry_address().to_string();
    let check = |flags: &[&str]| {
        let flags = [&["healthcheck", "--telemetry-listen", &listen], flags].concat();
        let output = coatroom(&flags, &[]);
        (output.status.code(), stdout(&output), stderr(&output))
    };
    until(|| (check(&[]).0 == Some(0)).then_some(()));
    assert_eq!(check(&[]).1, "ready\n");
    assert_eq!(check(&["--live"]).1, "alive\n");
    assert_eq!(check(&["--startup"]).1, "started\n");
    redis.signal("STOP");
    until(|| (check(&[]).0 == Some(1)).then_some(()));
    assert_eq!(check(&[]).2, format!("coatroom: /readyz of {listen} says 503: waiting for the store\n"));
    assert_eq!(check(&["--live"]).0, Some(0));
    redis.signal("CONT");
    sidecar.stop();
    let (code, _, told) = check(&[]);
    assert_eq!(code, Some(1));
    assert!(told.starts_with(&format!("coatroom: /readyz of {listen} can't be asked: ")), "{told}");
}

/// A sidecar that serves has refused settings that became worse since. If its probe didn't, it would be killed for them.
#[test]
fn a_health_check_needs_nothing_of_the_settings_but_where_to_ask() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::before(backend.address);
    let listen = sidecar.telemetry_address();
    let everywhere = format!("0.0.0.0:{}", listen.port());
    let worse = "[cookie]\nnmae = \"sid\"\n[store]\nencryption_keys_file = \"/nowhere\"\n[telemetry]\n";
    let settings = file(&format!("{worse}listen = \"{everywhere}\"\n"));
    let broken = file("[telemetry\nlisten\n");
    let variable = [("COATROOM__TELEMETRY__LISTEN", &*everywhere)];
    let check = |flags: &[&str], variables: &[(&str, &str)]| {
        let output = coatroom(&[&["healthcheck"], flags].concat(), variables);
        (output.status.code(), stdout(&output), stderr(&output))
    };
    let ready = (Some(0), "ready\n".to_owned(), String::new());
    until(|| (check(&["--config", path(&settings)], &[]).0 == Some(0)).then_some(()));
    assert_eq!(check(&["--config", path(&settings)], &[]), ready);
    let cut = file(&format!("[cookie\n{worse}listen = \"{everywhere}\"\n[broken\n"));
    assert_eq!(check(&["--config", path(&cut)], &[]), ready, "what remains of the file says it");
    assert_eq!(check(&["--config", path(&broken)], &variable), ready, "a higher source needs no file");
    let flags = ["--config", path(&settings), "--telemetry-listen", &listen.to_string()];
    assert_eq!(check(&flags, &[("COATROOM__TELEMETRY__LISTEN", "127.0.0.1:1")]), ready, "the flag counts");

    let why = |flags: &[&str], variables: &[(&str, &str)]| {
        let (code, answer, told) = check(flags, variables);
        assert_eq!((code, &*answer), (Some(1), ""), "{told}");
        assert_eq!(told.matches('\n').count(), 1, "one line: {told}");
        assert!(told.starts_with("coatroom: "), "{told}");
        told
    };
    assert!(why(&["--config", path(&broken)], &[]).contains(path(&broken)));
    assert!(why(&["--config", "/nowhere"], &[]).contains("/nowhere: can't be read"));
    let wrong = why(&["--config", path(&settings)], &[("COATROOM__TELEMETRY__LISTEN", "here")]);
    assert!(wrong.contains("telemetry.listen (COATROOM__TELEMETRY__LISTEN): "), "{wrong}");
    assert!(why(&["--telemetry-listen", "127.0.0.1:0"], &[]).contains("port of the system's choice"));
    assert!(why(&[], &[("COATROOM__TELEMETRY", "9400")]).contains("is a section, not a setting"));
}

/// Somebody who says nothing, and somebody who says something else.
#[test]
fn a_health_check_is_over_in_time() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let listen = silent.local_addr().expect("its address").to_string();
    let output = coatroom(&["healthcheck", "--telemetry-listen", &listen, "--timeout", "50ms"], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("timed out"), "{}", stderr(&output));
    let other = Redis::start();
    let output = coatroom(&["healthcheck", "--telemetry-listen", &other.address.to_string()], &[]);
    assert_eq!(output.status.code(), Some(1), "{}", stdout(&output));
    assert!(stderr(&output).contains("can't be asked: "), "{}", stderr(&output));
    let output = coatroom(&["healthcheck", "--timeout", "soon"], &[]);
    assert_eq!(output.status.code(), Some(2));
}
