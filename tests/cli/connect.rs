//! `check-config --connect` on real servers: each thing that can be wrong has its own line, its setting, its remedy.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use coatroom::time::Stopwatch;
use rcgen::date_time_ymd;
use socket2::{Domain, Socket, Type};

use super::{coatroom, file, path, stderr, stdout};
use crate::support::child::until;
use crate::support::{Authority, Backend, Child, Redis, Sidecar, Signed};

/// A password, which must never be seen.
const SECRET: &str = "hunter2-hunter2";
/// A server that nothing can be said against.
pub(super) const SOUND: &[&str] = &["--appendonly", "yes", "--appendfsync", "always", "--maxmemory", "256mb"];
/// What the engine needs.
const RIGHTS: &str = "+get +set +getrange +setrange +pexpire +del +eval +evalsha +script|load +ping";

/// What it says of a store: whether it is a good one, and the lines.
pub(super) fn said(url: &str, settings: &[(&str, &str)]) -> (bool, Vec<String>) {
    let output = coatroom(&["check-config", "--connect", "--store", url], settings);
    let (text, lines) = (stdout(&output), stderr(&output));
    assert!(!text.contains(SECRET) && !lines.contains(SECRET), "{lines}");
    let good = match output.status.code() {
        Some(0) => true,
        Some(78) => false,
        code => panic!("{code:?}: {lines}"),
    };
    assert_eq!(text, if good { "ok\n" } else { "" });
    (good, lines.lines().map(str::to_owned).collect())
}

/// The one line about a store that won't do.
pub(super) fn problem(url: &str, settings: &[(&str, &str)]) -> String {
    let (good, mut lines) = said(url, settings);
    assert!(!good && lines.len() == 1, "{lines:?}");
    lines.remove(0)
}

fn sound(more: &[&str]) -> Redis {
    Redis::with(&[SOUND, more].concat())
}

/// The same behind a proxy of none: our URL with a user, a password or a database.
fn url(server: &Redis, login: &str, database: &str) -> String {
    let (scheme, place) =
        server.url().split_once("://").map(|(a, b)| (a.to_owned(), b.to_owned())).expect("a URL");
    format!("{scheme}://{login}{place}{database}")
}

/// A URL that looks like another store's may be the same one's.
#[test]
fn one_store_under_two_names_is_told_and_its_sessions_stay() {
    let backend = Backend::obedient();
    let (server, folder) = (sound(&[]), tempfile::tempdir().expect("a folder"));
    let place = folder.path().display();
    let by_socket = format!("redis+unix://{}", server.socket().display());
    for (one, other) in [
        (server.url(), by_socket),
        (format!("file://{place}/sessions"), format!("file://{place}/sessions/")),
        (format!("sqlite://{place}/s.db"), format!("sqlite://{place}//s.db")),
    ] {
        let sidecar = Sidecar::keeping(&one, backend.address, |_| {});
        let mut browser = sidecar.browser();
        assert_eq!(browser.ask(&[("X-Session-Set", "{\"a\":1}")]).row(), "create");
        for variable in ["COATROOM__STORE__NEXT", "COATROOM__STORE__PREVIOUS"] {
            let (good, lines) = said(&one, &[(variable, &other)]);
            let told = lines.iter().any(|line| line.contains(": is another name of what store.url is: "));
            assert!(!good && told, "{lines:?}");
        }
        let settings = file(&format!("store.previous = '{other}'\nstore.timeout = 20\n"));
        let flags = ["--store", &one, "--config", path(&settings)];
        let child = Child::before(&format!("http://{}", backend.address), &flags);
        until(|| child.log().contains("\"setting\":\"store.previous\"").then_some(()));
        browser.go(child.address);
        assert_eq!(browser.get("/").status, 503);
        browser.go(sidecar.address());
        browser.get("/");
        assert_eq!(backend.last().data(), "{\"a\":1}", "{other}");
    }
    let keys = server.ask::<Vec<Vec<u8>>>(&["KEYS", "*"]);
    assert_eq!(keys.len(), 1, "nothing is left of it");
    let (good, lines) = said(&server.url(), &[("COATROOM__STORE__NEXT", &url(&server, "", "/1"))]);
    assert!(good, "{lines:?}");
}

#[test]
fn a_sound_server_is_ok_and_nothing_is_left_there() {
    let server = sound(&[]);
    server.ask::<()>(&["SET", "other", "1"]);
    for url in [server.url(), url(&server, "", "/3"), format!("redis+unix://{}", server.socket().display())] {
        assert_eq!(said(&url, &[]), (true, vec![]), "{url}");
    }
    assert_eq!(server.ask::<Vec<String>>(&["KEYS", "*"]), ["other"]);
    assert_eq!(
        server.ask::<String>(&["INFO", "keyspace"]).lines().count(),
        2,
        "no other database has anything"
    );
}

/// Sessions in cookies ask no server; the list of what has ended does.
#[test]
fn a_list_of_revocations_is_tried_under_its_own_name() {
    let server = sound(&[]);
    let key = data_encoding::BASE64.encode(&[1; 32]);
    let with = |list: &str| {
        [("COATROOM__STORE__ENCRYPTION_KEYS", key.clone()), ("COATROOM__STORE__REVOCATIONS", list.to_owned())]
    };
    let tried = |list: &str| {
        let settings = with(list);
        said("cookie:", &settings.each_ref().map(|(name, value)| (*name, &**value)))
    };
    assert_eq!(tried(&server.url()), (true, vec![]));
    let (good, lines) = tried("");
    assert!(good && lines.len() == 1 && lines[0].contains("store.revocations is not set"), "{lines:?}");
    let (good, lines) = tried(&url(&server, "nobody:wrong@", ""));
    assert!(!good && lines.len() == 1, "{lines:?}");
    assert!(lines[0].starts_with("store.revocations (COATROOM__STORE__REVOCATIONS): "), "{lines:?}");
}

#[test]
fn nothing_is_said_against_a_server_that_is_set_up_as_the_readme_says() {
    let settings = crate::docs::block("appendonly yes\nappendfsync");
    let options: Vec<_> =
        settings.split(['\n', ' ']).map(|word| word.trim_start_matches(' ').to_owned()).collect();
    let options = options
        .iter()
        .enumerate()
        .map(|(n, word)| if n % 2 == 0 { format!("--{word}") } else { word.clone() });
    let options: Vec<_> = options.collect();
    assert_eq!(options.len(), 8, "{settings}");
    let server = Redis::with(&options.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(said(&server.url(), &[]), (true, vec![]));
}

#[test]
fn a_store_in_memory_needs_no_connection() {
    let (good, lines) = said("memory:", &[]);
    assert!(good && lines.len() == 1 && lines[0].starts_with("warning: store.url is memory:"), "{lines:?}");
}

#[test]
fn settings_that_are_wrong_are_told_before_any_server_is_asked() {
    let wrong = ("COATROOM__COOKIE__NAME", "a b");
    let line = problem("redis://127.0.0.1:1", &[wrong]);
    assert!(line.starts_with("cookie.name (COATROOM__COOKIE__NAME): "), "{line}");
}

#[test]
fn a_finding_names_the_source_of_its_setting() {
    let file = file("[store]\nurl = 'redis://127.0.0.1:1'\n");
    let output = coatroom(&["check-config", "--connect", "--config", path(&file)], &[]);
    assert_eq!(output.status.code(), Some(78));
    let expected = format!("store.url ({}, line 2): 127.0.0.1:1: nobody listens there (", path(&file));
    assert!(stderr(&output).starts_with(&expected), "{}", stderr(&output));
}

#[test]
fn where_nobody_is_and_nobody_gets_is_told_apart() {
    for (url, expected, remedy) in [
        (
            "redis://127.0.0.1:1",
            "127.0.0.1:1: nobody listens there (",
            "start the server, or correct the URL",
        ),
        (
            "redis+unix:///nowhere/s",
            "/nowhere/s: there is no socket (",
            "correct the path (unixsocket there)",
        ),
        (
            "redis+unix:///proc/version",
            "/proc/version: nobody listens there (",
            "start the server, or correct the URL",
        ),
    ] {
        let line = problem(url, &[]);
        assert!(
            line.starts_with(&format!("store.url (--store): {expected}")) && line.ends_with(remedy),
            "{line}"
        );
    }
    // No name server is asked for such a name.
    let name = format!("{}.invalid", "x".repeat(64));
    let (good, lines) = said(&format!("rediss://{name}"), &[]);
    assert!(!good && lines[0].contains(&format!("nobody knows the host of {name}:6379 (")), "{lines:?}");
}

/// A place where the kernel takes no connection: its queue is full.
fn black_hole() -> (Socket, SocketAddr, Vec<Socket>) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("bound");
    listener.listen(0).expect("it listens");
    let address = listener.local_addr().expect("an address").as_socket().expect("of IP");
    let fill = (0..8).map(|_| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_nonblocking(true).expect("set");
        drop(socket.connect(&address.into()));
        socket
    });
    let fill = fill.collect();
    (listener, address, fill)
}

#[test]
fn who_says_nothing_is_given_up_in_a_bounded_time() {
    let (_hole, hole, _fill) = black_hole();
    let silent = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let mute = silent.local_addr().expect("an address");
    let places = [
        (format!("redis://{hole}"), format!("{hole} did not answer within a second")),
        (format!("rediss://{hole}"), format!("{hole} did not answer within a second")),
        (
            format!("redis://{mute}"),
            format!("{mute} was reached, but doesn't serve (not a word within a second)"),
        ),
        (
            format!("rediss://{mute}"),
            format!("{mute} was reached, but did not answer to TLS within a second"),
        ),
    ];
    thread::scope(|scope| {
        for (url, expected) in &places {
            scope.spawn(move || {
                let watch = Stopwatch::start();
                let line = problem(url, &[("COATROOM__STORE__PASSWORD", SECRET)]);
                assert!(line.contains(expected), "{line}");
                assert!(watch.elapsed().as_secs() < 10, "{:?}", watch.elapsed());
            });
        }
    });
}

/// Serves each connection so.
fn stranger(serve: fn(TcpStream)) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || listener.incoming().map_while(Result::ok).for_each(serve));
    address
}

#[test]
fn a_program_that_is_no_redis_is_none() {
    let rude = stranger(drop);
    let echo = stranger(|mut stream| {
        let mut answers = stream.try_clone().expect("a stream");
        drop(std::io::copy(&mut stream, &mut answers));
    });
    for place in [rude, echo] {
        for scheme in ["redis", "rediss"] {
            let line = problem(&format!("{scheme}://:{SECRET}@{place}"), &[]);
            assert!(line.starts_with(&format!("store.url (--store): {place} ")), "{line}");
            assert!(
                line.ends_with("see whether it is a Redis that listens there, and what its log says"),
                "{line}"
            );
        }
    }
}

#[test]
fn passwords_are_missing_wrong_or_too_many() {
    let open = sound(&[]);
    open.ask::<()>(&["ACL", "SETUSER", "app", "on", &format!(">{SECRET}"), "~*", "+@all"]);
    open.ask::<()>(&["ACL", "SETUSER", "gone", "off", &format!(">{SECRET}"), "~*", "+@all"]);
    open.ask::<()>(&["ACL", "SETUSER", "free", "on", "nopass", "~*", "+@all"]);
    let closed = sound(&["--requirepass", SECRET]);
    let (empty, right, wrong) = (file("\n"), file(&format!("{SECRET}\n")), file("x"));
    let store = |name: &'static str, value| [(name, value)];
    let password = |value| store("COATROOM__STORE__PASSWORD", value);
    let in_file = |file| store("COATROOM__STORE__PASSWORD_FILE", path(file));

    let user = |login: &str| url(&open, login, "");
    let place = open.place();
    let none_wanted =
        format!("holds a password, and {place} wants none: remove it, or set requirepass there");
    assert_eq!(problem(&user(":x@"), &[]), format!("store.url (--store): {none_wanted}"));
    let line = problem(&open.url(), &password(SECRET));
    assert_eq!(line, format!("store.password (COATROOM__STORE__PASSWORD): {none_wanted}"));
    let other = "correct it, or the user in store.url; ACL LIST there shows who there is";
    for (name, secret) in [("app", "x"), ("nobody", SECRET), ("gone", SECRET)] {
        let expected = format!(
            "store.url (--store): holds another password than user {name:?} of {place} has, or there is no such \
             user, or it is off: {other}"
        );
        assert_eq!(problem(&user(&format!("{name}:{secret}@")), &[]), expected);
    }
    let line = problem(&user("app@"), &[]);
    let without = format!("is not set, and {place} lets no user \"app\" in without");
    assert_eq!(
        line,
        format!("store.password (default): {without}: set it, or correct the user in store.url")
    );
    for (login, settings) in [
        (format!("app:{SECRET}@"), &[][..]),
        ("free@".to_owned(), &[]),
        ("app@".to_owned(), &in_file(&right)),
    ] {
        assert_eq!(said(&user(&login), settings), (true, vec![]), "{login}");
    }

    let place = closed.place();
    let missing = format!(
        "store.password (default): is not set, and {place} wants one: set it, or store.password_file"
    );
    assert_eq!(problem(&closed.url(), &[]), missing);
    assert_eq!(problem(&url(&closed, "", "/3"), &[]), missing);
    let line = problem(&closed.url(), &in_file(&empty));
    let names = "store.password_file (COATROOM__STORE__PASSWORD_FILE): names a file that is empty";
    assert_eq!(line, format!("{names}, and {place} wants a password: put it there"));
    let line = problem(&closed.url(), &in_file(&wrong));
    let holds =
        "store.password_file (COATROOM__STORE__PASSWORD_FILE): holds another password than the default user";
    assert_eq!(line, format!("{holds} of {place} has: correct it, or name a user in store.url"));
    for settings in [password(SECRET), in_file(&right)] {
        assert_eq!(said(&closed.url(), &settings), (true, vec![]));
    }
}

/// A server that knows no such command quotes what it was sent.
#[test]
fn commands_that_a_server_does_not_know_are_named_and_not_what_they_were_sent() {
    let server = sound(&["--rename-command", "AUTH", ""]);
    let has_no = |command| {
        let place = server.place();
        let remedy = "undo its rename-command, or take a Redis that has all commands";
        format!("store.url (--store): {place} has no command {command}: {remedy}")
    };
    assert_eq!(problem(&url(&server, &format!("app:{SECRET}@"), ""), &[]), has_no("AUTH"));
    let server = sound(&["--rename-command", "EVALSHA", "", "--rename-command", "EVAL", "run"]);
    let line = problem(&server.url(), &[]);
    assert!(line.contains("has no command eval: undo"), "{line}");
    assert_eq!(server.ask::<i64>(&["DBSIZE"]), 0, "what was tried is removed all the same");
}

#[test]
fn a_database_that_is_not_there_is_named() {
    let server = sound(&[]);
    let expected = format!(
        "store.url (--store): {} has no database 16: write a smaller number (most have 0 to 15), or raise databases there",
        server.place()
    );
    assert_eq!(problem(&url(&server, "", "/16"), &[]), expected);
}

#[test]
fn each_right_that_is_missing_is_named_with_the_line_that_grants_it() {
    let server = sound(&[]);
    let (login, place) = (format!("app:{SECRET}@"), server.place());
    let line = format!("ACL SETUSER app resetkeys ~coat:* resetchannels nocommands {RIGHTS}");
    let user = format!("user \"app\" of {place}");
    let without = |less: &[&str]| {
        let left: Vec<_> = RIGHTS.split(' ').filter(|right| !less.contains(right)).collect();
        format!("~coat:* +info +config {}", left.join(" "))
    };
    let grant = |rights: &str| {
        let words = format!("ACL SETUSER app reset on >{SECRET} {rights}");
        server.ask::<()>(&words.split(' ').collect::<Vec<_>>());
    };
    for right in RIGHTS.split(' ') {
        grant(&without(&[right]));
        let expected = format!("store.url (--store): {user} may not use {}: run {line}", &right[1..]);
        assert_eq!(problem(&url(&server, &login, ""), &[]), expected);
    }
    // Where it may not be removed, what was tried goes by itself.
    let left = server.ask::<Vec<Vec<u8>>>(&["KEYS", "*"]);
    assert!(left.len() == 1 && server.ask::<i64>(&[b"TTL", &left[0][..]]) <= 60, "{left:?}");
    server.ask::<()>(&["FLUSHALL"]);
    grant(&without(&["+set", "+evalsha"]));
    let expected = format!("store.url (--store): {user} may not use set, evalsha: run {line}");
    assert_eq!(problem(&url(&server, &login, ""), &[]), expected);

    grant(&format!("~session:* +info +config {RIGHTS}"));
    let expected =
        format!("store.key_prefix (default): {user} may not use keys that begin with \"coat:\": run {line}");
    assert_eq!(problem(&url(&server, &login, ""), &[]), expected);

    // Both, and with a database and a prefix: what is told to be run is enough, and is no more than that.
    grant("+info +config");
    let strange = [("COATROOM__STORE__KEY_PREFIX", "a[b]* c")];
    let (good, lines) = said(&url(&server, &login, "/2"), &strange);
    let expected = format!(
        "store.url (--store): {user} may not select database 2: run ACL SETUSER app resetkeys ~a\\[b\\]\\*?c* \
         resetchannels nocommands {RIGHTS} +select"
    );
    assert_eq!((good, lines), (false, vec![expected.clone()]));
    let (_, granted) = expected.split_once(": run ").expect("a line");
    server.ask::<()>(&granted.split(' ').collect::<Vec<_>>());
    let (good, lines) = said(&url(&server, &login, "/2"), &strange);
    assert!(good && lines.len() == 1 && lines[0].starts_with("note: "), "{lines:?}");
    let others = said(&url(&server, &login, "/2"), &[]);
    assert!(!others.0 && others.1[0].starts_with("store.key_prefix (default): "), "{others:?}");
    assert_eq!(server.ask::<i64>(&["DBSIZE"]), 0);
}

#[test]
fn the_default_user_is_not_told_to_lose_what_others_need() {
    let server = sound(&[]);
    server.ask::<()>(&["ACL", "SETUSER", "default", "-set"]);
    let expected = format!(
        "store.url (--store): user \"default\" of {} may not use set: run {}",
        server.place(),
        crate::docs::block("ACL SETUSER coatroom ")
    );
    assert_eq!(problem(&server.url(), &[]), expected);
}

#[test]
fn what_may_not_be_looked_at_is_said_in_a_line_and_no_problem() {
    let server = sound(&[]);
    server.ask::<()>(&[
        "ACL",
        "SETUSER",
        "app",
        "on",
        "nopass",
        "~coat:*",
        "+@all",
        "-@admin",
        "-@dangerous",
    ]);
    let (place, tail) = (server.place(), "see appendonly, appendfsync, maxmemory and maxmemory-policy there");
    let expected = format!(
        "note: store.url (--store): user \"app\" of {place} may not use INFO and CONFIG (NOPERM this user has no \
         permissions to run the 'info' command): what a crash loses, and what happens when it is full, could not be \
         looked at: {tail}"
    );
    assert_eq!(said(&url(&server, "app@", ""), &[]), (true, vec![expected]));

    let managed = sound(&["--rename-command", "CONFIG", ""]);
    let (good, lines) = said(&managed.url(), &[]);
    assert!(good && lines.len() == 1, "{lines:?}");
    assert!(lines[0].contains("may not use CONFIG (ERR unknown command 'CONFIG'): "), "{lines:?}");
}

#[test]
fn what_a_server_may_lose_is_a_warning() {
    let server = Redis::with(&["--maxmemory", "256mb"]);
    let config = |settings: &[&str]| server.ask::<()>(&[&["CONFIG", "SET"], settings].concat());
    let always = "set appendfsync always there";
    let durable = "set appendonly yes and appendfsync always there";
    let undoes = "a crash undoes all since the last snapshot, logins and logouts too";
    for (settings, expected, remedy) in [
        (
            &["save", ""][..],
            "appendonly is no there, and so is save: a crash or restart ends all sessions",
            durable,
        ),
        (&["save", "3600 1"], &format!("appendonly is no there: {undoes}"), durable),
        (
            &["appendonly", "yes", "appendfsync", "everysec"],
            "appendfsync is everysec there: a crash may undo the last two seconds, logins and logouts too",
            always,
        ),
        (
            &["appendfsync", "no"],
            "appendfsync is no there: a power loss undoes what the system had not written, often half a minute",
            always,
        ),
        (
            &["appendfsync", "always", "no-appendfsync-on-rewrite", "yes"],
            "no-appendfsync-on-rewrite is yes there: a power loss during a rewrite undoes all since it began",
            "set it to no there",
        ),
        (
            &["no-appendfsync-on-rewrite", "no", "maxmemory-policy", "allkeys-lru"],
            "maxmemory-policy is allkeys-lru there: when it is full, it logs people out to make room",
            "set maxmemory-policy noeviction there: writes are refused then, and nobody is logged out",
        ),
        (
            &["maxmemory", "0"],
            "maxmemory is 0 there: when the machine has no memory left, the system ends the server",
            "set maxmemory there, and maxmemory-policy noeviction: writes are refused then, and nothing is lost",
        ),
    ] {
        config(settings);
        let expected = format!("warning: store.url (--store): {expected}: {remedy}");
        assert_eq!(said(&server.url(), &[]), (true, vec![expected]));
    }
    config(&["maxmemory", "256mb", "maxmemory-policy", "noeviction"]);
    assert_eq!(said(&server.url(), &[]), (true, vec![]));
}

#[test]
fn a_server_that_is_ill_is_told_with_what_ails_it() {
    let ill = |server: &Redis, what: &str| {
        let line = problem(&server.url(), &[]);
        assert_eq!(line, format!("store.url (--store): {} {what}", server.place()));
    };
    let server = sound(&[]);
    server.ask::<()>(&["CONFIG", "SET", "maxmemory", "1"]);
    ill(&server, "has no room left: raise maxmemory there, or remove what is not needed");
    server.ask::<()>(&["CONFIG", "SET", "maxmemory", "256mb", "min-replicas-to-write", "1"]);
    ill(&server, "has fewer replicas than min-replicas-to-write: see where they are (INFO replication)");
    server.ask::<()>(&["CONFIG", "SET", "min-replicas-to-write", "0"]);

    // With one for us to ask it by, it has no place left.
    let full = sound(&["--maxclients", "1"]);
    let _only = full.connect();
    ill(
        &full,
        "has as many connections as it takes: raise maxclients there, or see who has them (CLIENT LIST)",
    );

    let replica = sound(&["--replicaof", "127.0.0.1 1"]);
    ill(&replica, "is a replica, and takes no writes: name its master, 127.0.0.1:1");
    replica.ask::<()>(&["ACL", "SETUSER", "default", "-info"]);
    ill(&replica, "is a replica, and takes no writes: name its master");

    let cluster = sound(&["--cluster-enabled", "yes"]);
    ill(&cluster, "is part of a cluster: write redis+cluster://");
    assert!(problem(&url(&cluster, "", "/1"), &[]).contains("is part of a cluster"));
    cluster.ask::<()>(&["ACL", "SETUSER", "default", "-info"]);
    ill(&cluster, "is part of a cluster: write redis+cluster://");
    // All keys are its own then, but two sessions are still in two places.
    cluster.ask::<()>(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    until(|| cluster.ask::<String>(&["CLUSTER", "INFO"]).contains("cluster_state:ok").then_some(()));
    ill(&cluster, "is part of a cluster: write redis+cluster://");
}

#[test]
fn a_server_that_is_busy_or_loading_is_told_so() {
    let server = sound(&["--busy-reply-threshold", "1"]);
    let mut busy = server.connect();
    let endless = thread::spawn(move || {
        redis::cmd("EVAL").arg("while true do end").arg(0).query::<()>(&mut busy).expect_err("it is killed")
    });
    until(|| (!server.pings()).then_some(()));
    let line = problem(&server.url(), &[]);
    assert!(line.contains("is kept busy by a script: run SCRIPT KILL there, and find out whose"), "{line}");
    server.ask::<()>(&["SCRIPT", "KILL"]);
    endless.join().expect("it ends");

    // It hears somebody each time it has read 1,024 commands, a tenth of a millisecond each, for seconds.
    let mut server = sound(&["--key-load-delay", "100"]);
    let mut others = redis::pipe();
    for n in 0..40_000 {
        others.set(n, n).ignore();
    }
    others.exec(&mut server.connect()).expect("written");
    server.restart();
    let line = problem(&server.url(), &[]);
    assert!(line.contains("is reading its data from disk still: wait until it has, and try again"), "{line}");
}

#[test]
fn tls_that_does_not_come_about_is_told_with_its_reason() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let server = |signed: &Signed| Redis::tls(&ours, signed, SOUND);
    let (ca, other_ca) = (&*ours.own.cert, &*theirs.own.cert);
    const CA: &str = "COATROOM__STORE__TLS_CA_FILE";
    let told = |server: &Redis, ca: &str, expected: &str| {
        let line = problem(&server.url(), &[(CA, ca)]);
        let expected = expected.replace("PLACE", &server.place());
        assert_eq!(line, expected);
    };

    let good = server(&ours.sign(&["localhost"]));
    assert_eq!(said(&good.url(), &[(CA, ca)]), (true, vec![]));
    told(
        &good,
        other_ca,
        &format!(
            "store.tls_ca_file ({CA}): nobody in {other_ca} has signed the certificate of localhost: \
             put the certificate of who has there"
        ),
    );
    let line = problem(&good.url(), &[]);
    let expected = "store.tls_ca_file (default): is not set, and nobody whom the system believes has signed the \
                    certificate of localhost: name a file with the certificate of who has";
    assert_eq!(line, expected);
    let plain = problem(&format!("redis://{}", good.address), &[]);
    let speaks = format!(
        "store.url (--store): {} speaks TLS, and this is a URL without: write rediss://",
        good.address
    );
    assert_eq!(plain, speaks);
    let secret = format!("redis://:{SECRET}@{}", good.address);
    assert_eq!(problem(&secret, &[]), speaks);

    let clear = sound(&[]);
    let line = problem(&format!("rediss://{}", clear.address), &[(CA, ca)]);
    let speaks = "speaks no TLS, and this is a URL with it: write redis://, or name its tls-port";
    assert_eq!(line, format!("store.url (--store): {} {speaks}", clear.address));

    let named = server(&ours.sign(&["cache.example", "10.0.0.7"]));
    told(
        &named,
        ca,
        "store.url (--store): the certificate of localhost is not for that name, but for cache.example, 10.0.0.7: \
         write one of those as the host, or have one issued for this name",
    );
    let nameless = server(&ours.sign(&[]));
    told(
        &nameless,
        ca,
        "store.url (--store): the certificate of localhost is for no name at all: \
         have one issued with the host as its subjectAltName",
    );
    let expired = ours.sign_with(&["localhost"], |params| params.not_after = date_time_ymd(2020, 1, 1));
    let line = problem(&server(&expired).url(), &[(CA, ca)]);
    assert!(
        line.starts_with("store.url (--store): the certificate of localhost is not valid now ("),
        "{line}"
    );
    assert!(line.ends_with("): renew it, or set the clock of this machine"), "{line}");
    let line = problem(&server(&ours.own).url(), &[(CA, ca)]);
    assert!(
        line.starts_with("store.url (--store): the certificate of localhost can't be accepted ("),
        "{line}"
    );
}

#[test]
fn a_server_that_wants_to_know_us_says_whether_it_does() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    for version in ["TLSv1.2", "TLSv1.3"] {
        let options = ["--tls-auth-clients", "yes", "--tls-protocols", version];
        let server = Redis::tls(&ours, &ours.sign(&["localhost"]), &[SOUND, &options].concat());
        let ca = ("COATROOM__STORE__TLS_CA_FILE", &*ours.own.cert);
        let line = problem(&server.url(), &[ca]);
        let wants = format!(
            "store.tls_cert_file (default): is not set, and {} wants a certificate (",
            server.place()
        );
        assert!(line.starts_with(&wants), "{line}");
        assert!(line.ends_with("): name a file with ours, and its key in store.tls_key_file"), "{line}");
        for (authority, good) in [(&ours, true), (&theirs, false)] {
            let us = authority.sign(&["app"]);
            let settings = [
                ca,
                ("COATROOM__STORE__TLS_CERT_FILE", &us.cert),
                ("COATROOM__STORE__TLS_KEY_FILE", &us.key),
            ];
            if good {
                assert_eq!(said(&server.url(), &settings), (true, vec![]));
                continue;
            }
            let line = problem(&server.url(), &settings);
            let setting = "store.tls_cert_file (COATROOM__STORE__TLS_CERT_FILE)";
            assert!(
                line.starts_with(&format!("{setting}: {} doesn't accept our certificate (", server.place()))
            );
        }
    }
}

#[test]
fn tls_files_that_cannot_be_used_are_told_without_any_server() {
    let authority = Authority::new();
    let (us, other) = (authority.sign(&["app"]), authority.sign(&["app"]));
    let nothing = file("nothing");
    let check = |settings: &[(&str, &str)]| {
        let output = coatroom(&["check-config", "--store", "rediss://localhost:1"], settings);
        assert_eq!(output.status.code(), Some(78), "{}", stderr(&output));
        stderr(&output)
    };
    let (ca, cert, key) =
        ("COATROOM__STORE__TLS_CA_FILE", "COATROOM__STORE__TLS_CERT_FILE", "COATROOM__STORE__TLS_KEY_FILE");
    for (settings, expected) in [
        (&[(ca, "/nowhere")][..], "store.tls_ca_file (COATROOM__STORE__TLS_CA_FILE): /nowhere: No such file"),
        (&[(ca, path(&nothing))], "holds no certificate in PEM: "),
        (&[(cert, &us.cert), (key, path(&nothing))], "holds no private key in PEM ("),
        (&[(cert, &us.cert), (key, &other.key)], "doesn't fit store.tls_cert_file: "),
    ] {
        let line = check(settings);
        assert!(line.contains(expected) && line.lines().count() == 1, "{line}");
    }
}
