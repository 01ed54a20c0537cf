//! `store.encryption_keys` on a real Redis: what whoever reads it, its files or its traffic sees, and what becomes of
//! sessions when keys change.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use coatroom::config::Config;
use coatroom::secret::Secret;
use coatroom::store::Unsealed;
use data_encoding::BASE64;
use memchr::memmem;

use crate::support::client::connect;
use crate::support::{Backend, Browser, Redis, Sidecar, canary};

/// What nobody may read.
const CANARY: &str = "a-canary-of-sealed-data";

/// A key of 32 equal bytes.
fn key(byte: u8) -> Secret {
    Secret::new(BASE64.encode(&[byte; 32]))
}

fn keys(keys: &[u8], unsealed: Unsealed) -> impl Fn(&mut Config) + use<> {
    let keys: Vec<Secret> = keys.iter().map(|byte| key(*byte)).collect();
    move |config| (config.store.encryption_keys, config.store.unsealed) = (keys.clone(), unsealed)
}

/// The same browser before another sidecar.
fn at(sidecar: &Sidecar, browser: &Browser) -> Browser {
    let mut twin = sidecar.browser();
    twin.jar.clone_from(&browser.jar);
    twin
}

fn holds(bytes: &[u8], text: &str) -> bool {
    memmem::find(bytes, text.as_bytes()).is_some()
}

/// Everything below a folder, as bytes.
fn files(folder: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files(&path, found);
        // A server's socket has nothing in it.
        } else if path.is_file() {
            found.push((path.display().to_string(), fs::read(&path).expect("a file")));
        }
    }
}

/// Hears every command that a server is given from now on.
fn listen(server: &Redis) -> TcpStream {
    let mut line = connect(server.address);
    line.write_all(b"MONITOR\r\n").expect("it is taken");
    let mut ok = [0; 5];
    line.read_exact(&mut ok).expect("an answer");
    assert_eq!(&ok, b"+OK\r\n");
    line
}

/// Whatever was heard until now.
fn heard(mut line: TcpStream, server: &Redis) -> Vec<u8> {
    server.ask::<String>(&["ECHO", "the end of it"]);
    let (mut all, mut piece) = (Vec::new(), [0; 16 * 1024]);
    while !holds(&all, "the end of it") {
        let count = line.read(&mut piece).expect("more");
        assert!(count > 0, "the connection ended");
        all.extend_from_slice(&piece[..count]);
    }
    all
}

/// The life of a session with a canary in its data, and where that can be read afterwards.
fn places_that_tell(change: impl FnOnce(&mut Config)) -> Vec<String> {
    let backend = Backend::obedient();
    let server = Redis::with(&["--appendonly", "yes", "--appendfsync", "always", "--rdbcompression", "no"]);
    let line = listen(&server);
    let sidecar = Sidecar::on(&server, backend.address, |config| {
        config.session.subject = true;
        config.session.save_every_request = true;
        change(config);
    });
    let mut visitor = sidecar.browser();
    let data = format!("{{\"secret\":\"{CANARY}\"}}");
    visitor.ask(&[("X-Session-Set", &data), ("X-Session-Subject", CANARY)]);
    visitor.ask(&[("X-Session-Cycle-Key", "true")]);
    visitor.ask(&[("X-Session-Increment", "{\"n\":1}")]);
    sidecar.wind(std::time::Duration::from_secs(120));
    assert_eq!(visitor.ask(&[]).row(), "touch");
    assert!(backend.last().data().contains(CANARY), "the backend reads it");
    server.ask::<String>(&["SAVE"]);
    let mut found = vec![("the traffic".to_owned(), heard(line, &server))];
    for place in server.ask::<Vec<Vec<u8>>>(&["KEYS", "*"]) {
        found.push(("a value".to_owned(), server.ask(&[&b"GET"[..], &place])));
        found.push(("a key".to_owned(), place));
    }
    files(server.folder(), &mut found);
    let on_disk = |name: &str| found.iter().any(|(place, bytes)| place.ends_with(name) && bytes.len() > 200);
    assert!(on_disk(".aof") && on_disk("dump.rdb"), "it writes to disk");
    found.into_iter().filter(|(_, bytes)| holds(bytes, CANARY)).map(|(place, _)| place).collect()
}

#[test]
fn nothing_of_a_sealed_session_is_in_redis_on_its_disk_or_on_the_way_there() {
    let told = places_that_tell(|_| {});
    for place in ["the traffic", "a value", ".aof", "dump.rdb"] {
        assert!(told.iter().any(|told| told.ends_with(place)), "without keys {place} tells it: {told:?}");
    }
    assert_eq!(places_that_tell(keys(&[1], Unsealed::Read)), [""; 0]);
    assert_eq!(places_that_tell(keys(&[2, 1], Unsealed::Refuse)), [""; 0]);
    assert!(canary::logged(key(1).expose()).is_empty() && canary::logged(key(2).expose()).is_empty());
}

#[test]
fn a_fleet_changes_its_keys_and_logs_nobody_out() {
    let (backend, server) = (Backend::obedient(), Redis::start());
    let on = |list: &[u8], unsealed| Sidecar::on(&server, backend.address, keys(list, unsealed));
    let steps: [(&[u8], Unsealed); 7] = [
        (&[], Unsealed::Read),
        (&[1], Unsealed::Write),
        (&[1], Unsealed::Read),
        (&[1], Unsealed::Refuse),
        (&[1, 2], Unsealed::Refuse),
        (&[2, 1], Unsealed::Refuse),
        (&[2], Unsealed::Refuse),
    ];
    let mut fleet = [on(&[], Unsealed::Read), on(&[], Unsealed::Read)];
    let mut visitors: Vec<Browser> = (0..4).map(|_| fleet[0].browser()).collect();
    for visitor in &mut visitors {
        assert_eq!(visitor.ask(&[("X-Session-Set", "{\"n\":0}")]).row(), "create");
    }
    let mut n = 0;
    for (list, unsealed) in steps {
        for renewed in 0..2 {
            fleet[renewed] = on(list, unsealed);
            for sidecar in &fleet {
                n += 1;
                for (who, visitor) in visitors.iter_mut().enumerate() {
                    *visitor = at(sidecar, visitor);
                    let mut asks = vec![("X-Session-Increment", "{\"n\":1}")];
                    if who % 2 == 0 {
                        asks.push(("X-Session-Cycle-Key", "true"));
                    }
                    let reply = visitor.ask(&asks);
                    assert_eq!(reply.status, 200, "{list:?}: {reply:?}");
                    assert_eq!(backend.last().data(), format!("{{\"n\":{}}}", n - 1), "{list:?}");
                }
            }
        }
    }
    for sidecar in &fleet {
        assert_eq!(sidecar.metric("coatroom_store_old_seals_total"), 0, "the key of before can go");
    }
}

#[test]
fn a_session_whose_key_was_removed_is_a_503_and_keeps_its_cookie() {
    let (backend, server) = (Backend::obedient(), Redis::start());
    let on = |list: &[u8]| Sidecar::on(&server, backend.address, keys(list, Unsealed::Read));
    let before = on(&[1]);
    let mut visitor = before.browser();
    visitor.ask(&[("X-Session-Set", "{\"a\":1}")]);
    visitor.get("/");
    let id = backend.last().header("x-session-id").expect("it is live").to_owned();
    let after = on(&[2]);
    let (asked, mut late) = (backend.seen().len(), at(&after, &visitor));
    for wanted in [&[][..], &[("X-Session-Set", "{\"a\":2}")], &[("X-Session-Flush", "true")]] {
        let reply = late.ask(wanted);
        assert_eq!((reply.status, &*reply.problem()), (503, "store-unavailable"));
        assert_eq!(reply.header("set-cookie"), None);
        assert!(!holds(&reply.body, &id), "{reply:?}");
    }
    assert_eq!(backend.seen().len(), asked, "the backend is not asked");
    let counted = "coatroom_store_errors_total{kind=\"unknown_key\",operation=\"load\"}";
    assert_eq!(after.metric(counted), 3);
    let logged = canary::logged(&id);
    assert!(logged.iter().any(|line| line.contains("which is not in store.encryption_keys")), "{logged:?}");
    assert_eq!(after.browser().ask(&[("X-Session-Set", "{\"b\":1}")]).row(), "create", "others live");
    at(&on(&[2, 1]), &visitor).get("/");
    assert_eq!(backend.last().data(), "{\"a\":1}", "with its key it is there again");
}

#[test]
fn no_sidecar_starts_with_keys_that_are_none() {
    for (list, what) in [
        (vec![key(1), Secret::new("c2hvcnQ=")], "store.encryption_keys: key 2: it has 5 bytes"),
        (vec![Secret::new("hunter2 hunter2")], "store.encryption_keys: key 1: it is not base64"),
    ] {
        let said = Sidecar::refusal(|config| config.store.encryption_keys = list);
        assert!(said.starts_with(what), "{said}");
        assert!(!said.contains("hunter2") && !said.contains("c2hvcnQ"), "{said}");
    }
    for (file, what) in [("/nowhere", "/nowhere: "), ("/dev/null", "holds no key")] {
        let said = Sidecar::refusal(|config| config.store.encryption_keys_file = file.to_owned());
        assert!(said.starts_with(&format!("store.encryption_keys: {what}")), "{said}");
    }
}
