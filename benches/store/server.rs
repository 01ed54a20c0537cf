//! What saving a session costs the Redis itself: CPU time, and memory for each session that lies there.
//!
//! Beside it what lua-resty-session 4 asks of a Redis with its defaults: each save makes a session anew, so `TTL` of the
//! old one, then `SET` of the new one with `EX`, and `EXPIRE` of the old one. And a bare `SET` with `EX`, which looks at
//! nothing. All of them one after another, over TCP, each with its answer before the next, values of the same length.

use std::collections::BTreeMap;

use redis::{Client, Connection};
use tokio::runtime::Runtime;

use super::support::Redis;
use super::{SESSIONS, Shelf};

/// Rounds, in each of which everybody saves as often as there are sessions.
const ROUNDS: usize = 20;
/// How long what they save lives, and what was replaced, in seconds.
const AGE: u32 = 86_400;
const STALE: u32 = 10;

/// What a server has spent so far, in microseconds.
#[derive(Clone, Copy, Default)]
struct Spent {
    /// Its process, in user and kernel mode, by `INFO cpu`.
    cpu: f64,
    /// Its commands, by `INFO commandstats`.
    commands: f64,
}

impl Spent {
    fn of(server: &Redis, commands: &[&str]) -> Self {
        let text = |section| server.ask::<String>(&["INFO", section]);
        let (cpu, stats) = (text("cpu"), text("commandstats"));
        let line = |text: &str, name: &str| {
            text.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim().to_owned()))
        };
        let seconds = |name| line(&cpu, name).and_then(|text| text.parse::<f64>().ok()).expect("seconds");
        let spent = |name: &&str| {
            let line = line(&stats, &format!("cmdstat_{name}"))?;
            let usec = line.split(',').find_map(|part| part.strip_prefix("usec="))?;
            usec.parse::<f64>().ok()
        };
        Self {
            cpu: (seconds("used_cpu_user") + seconds("used_cpu_sys")) * 1e6,
            commands: commands.iter().filter_map(spent).sum(),
        }
    }

    /// What was spent between the two of each round, a save.
    fn each(rounds: &[(Self, Self)]) -> Self {
        let mean = |of: fn(&Self) -> f64| {
            let all: f64 = rounds.iter().map(|(before, after)| of(after) - of(before)).sum();
            all / (rounds.len() * SESSIONS) as f64
        };
        Self { cpu: mean(|spent| spent.cpu), commands: mean(|spent| spent.commands) }
    }
}

/// Prints both.
pub fn costs(runtime: &Runtime) {
    let server = Redis::start();
    let shelf = runtime.block_on(Shelf::open(&server.url()));
    let before = used(&server);
    let keys: Vec<Vec<u8>> = server.ask(&["KEYS", "*"]);
    assert_eq!(keys.len(), SESSIONS);
    // What there is but once is there by now.
    let more = runtime.block_on(Shelf::open(&server.url()));
    let all = used(&server).saturating_sub(before) as f64 / more.tokens.len() as f64;
    let value: usize = server.ask(&[&b"STRLEN"[..], &keys[0]]);
    let bytes: usize = server.ask(&[&b"MEMORY"[..], b"USAGE", &keys[0]]);
    println!(
        "redis-server/memory     a session of {} bytes of data, a value of {value}: MEMORY USAGE {bytes} bytes; {all:.0} with \
         tables and expiry\n",
        super::DATA.len()
    );

    let mut others =
        Client::open(server.url()).and_then(|client| client.get_connection()).expect("it listens");
    let value = vec![b'x'; value];
    let mut rounds: BTreeMap<&str, Vec<(Spent, Spent)>> = BTreeMap::new();
    for round in 0..ROUNDS {
        let mut note = |name, commands: &[&str], work: &mut dyn FnMut()| {
            let before = Spent::of(&server, commands);
            work();
            rounds.entry(name).or_default().push((before, Spent::of(&server, commands)));
        };
        let mut found = runtime.block_on(async {
            let mut all = Vec::with_capacity(SESSIONS);
            for turn in 0..SESSIONS {
                all.push(shelf.load(turn).await);
            }
            all
        });
        note("coatroom", &["evalsha"], &mut || {
            runtime.block_on(async {
                for found in found.drain(..) {
                    shelf.save(found).await;
                }
            });
        });
        note("lua-resty-session", &["ttl", "set", "expire"], &mut || resty(&mut others, round, &value));
        note("SET EX", &["set"], &mut || bare(&mut others, &value));
    }
    let of = |name: &str| Spent::each(&rounds[name]);
    let ours = of("coatroom");
    for name in ["coatroom", "lua-resty-session", "SET EX"] {
        let Spent { cpu, commands } = of(name);
        println!(
            "redis-server/save       {name}: {cpu:.1} µs of CPU, {commands:.1} of them in commands; ours to it {:.2}",
            ours.cpu / cpu
        );
    }
    println!();
}

/// Bytes that it has, but for those of connections.
fn used(server: &Redis) -> u64 {
    let memory: String = server.ask(&["INFO", "memory"]);
    let bytes = |name: &str| -> u64 {
        let line = memory.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|bytes| bytes.trim().parse().ok()).expect("a number")
    };
    bytes("used_memory") - bytes("mem_clients_normal")
}

/// Saves as lua-resty-session does: under a new key, and the old one goes soon.
fn resty(connection: &mut Connection, round: usize, value: &[u8]) {
    // As long as theirs: 32 bytes in base64 behind the names.
    let key = |round: usize, turn: usize| format!("sessions:session_{round:020}{turn:023}");
    for turn in 0..SESSIONS {
        let (old, new) = (key(round, turn), key(round + 1, turn));
        let mut pipe = redis::pipe();
        pipe.cmd("SET").arg(new).arg(value).arg("EX").arg(AGE).ignore();
        let left: i64 = redis::cmd("TTL").arg(&old).query(connection).expect("it answers");
        // In the first round there is no old one; the command costs the same.
        assert!(left > i64::from(STALE) || round == 0, "{left} s");
        pipe.cmd("EXPIRE").arg(old).arg(STALE).ignore();
        pipe.exec(connection).expect("it answers");
    }
}

fn bare(connection: &mut Connection, value: &[u8]) {
    for turn in 0..SESSIONS {
        let key = format!("bare:{turn:040}");
        redis::cmd("SET").arg(key).arg(value).arg("EX").arg(AGE).exec(connection).expect("it answers");
    }
}
