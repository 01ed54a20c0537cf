//! The faults, one round each.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::block_in_place;
use tokio::time::sleep;

use super::fleet::{BUDGET, Fleet};
use super::judge::Violation;
use super::relay::Harm;
use super::workload::{Round, SHARERS, Tally};
use crate::support::Redis;

/// Clients of a fleet.
const CLIENTS: usize = 64;
/// Acknowledged requests of a round at least.
const LEAST: u64 = 1000;
/// Microseconds without a processor that make a round say nothing of what needs no patience.
const STALL: u64 = 50_000;
/// What a reply to a load of these sessions takes at most, and to a write.
const REPLY: usize = 400;

/// What happens to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    Killed,
    Frozen,
    Reset,
    Full,
    Replica,
    Paused,
    Forgetful,
}

impl Fault {
    const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Killed => "kill -9, restarted 2 s later",
            Self::Frozen => "SIGSTOP for 5 s",
            Self::Reset => "a reset at each of 400 offsets of replies",
            Self::Full => "OOM (maxmemory)",
            Self::Replica => "READONLY (a replica)",
            Self::Paused => "CLIENT PAUSE, writes and all",
            Self::Forgetful => "SCRIPT FLUSH, ten times",
        }
    }
}

/// How long things last.
#[derive(Clone, Copy)]
struct Pace {
    /// Of load before and after a fault.
    calm: Duration,
    frozen: Duration,
    /// From one offset of a reply at which a connection is reset to the next.
    stride: usize,
}

const SHORT: Pace =
    Pace { calm: Duration::from_millis(150), frozen: Duration::from_millis(1500), stride: 23 };
const LONG: Pace = Pace { calm: Duration::from_secs(2), frozen: Duration::from_secs(5), stride: 1 };

/// One round of a fault on a fleet of its own, until so much was acknowledged.
async fn round(fault: Fault, pace: Pace, acknowledged: u64) -> (Tally, Vec<Duration>) {
    let mut fleet = Fleet::start(Redis::durable(), &[]).await;
    let round = Round::new(fleet.addresses(), BUDGET);
    let clients = tokio::spawn(Arc::clone(&round).run(CLIENTS / SHARERS, acknowledged ^ fault as u64));
    let mut recoveries = Vec::new();
    // All are at work when it begins.
    while round.tally().done < u64::try_from(4 * CLIENTS).expect("few") {
        sleep(Duration::from_millis(5)).await;
    }
    sleep(pace.calm).await;
    loop {
        hurt(fault, pace, &mut fleet, &round).await;
        round.heal();
        recoveries.push(loop {
            if let Some(took) = round.recovery() {
                break took.into_iter().max().unwrap_or_default();
            }
            sleep(Duration::from_millis(1)).await;
        });
        sleep(pace.calm).await;
        // However slow the machine is, it is a load.
        while round.tally().done < LEAST {
            sleep(Duration::from_millis(5)).await;
        }
        if round.tally().done >= acknowledged {
            break;
        }
    }
    round.stop();
    clients.await.expect("no client panics");
    let tally = round.tally().clone();
    (tally, recoveries)
}

/// Makes the server ill, and well again.
async fn hurt(fault: Fault, pace: Pace, fleet: &mut Fleet, round: &Round) {
    let ask = |redis: &Redis, words: &[&str]| block_in_place(|| redis.ask::<()>(words));
    match fault {
        Fault::None => {}
        Fault::Killed => block_in_place(|| {
            fleet.redis.kill();
            std::thread::sleep(pace.calm);
            fleet.redis.restart();
            crate::support::child::until(|| fleet.redis.pings().then_some(()));
        }),
        Fault::Frozen => {
            fleet.redis.signal("STOP");
            sleep(pace.frozen).await;
            fleet.redis.signal("CONT");
        }
        Fault::Reset => {
            for offset in (0..REPLY).step_by(pace.stride) {
                fleet.relay.set(Harm::ResetAfter(offset));
                // Else most of them would meet connections that are only being opened.
                let more = round.tally().done + u64::try_from(CLIENTS).expect("few");
                while !fleet.relay.is_done() || round.tally().done < more {
                    sleep(Duration::from_millis(1)).await;
                }
            }
        }
        Fault::Full => {
            ask(&fleet.redis, &["CONFIG", "SET", "maxmemory", "1"]);
            sleep(2 * pace.calm).await;
            ask(&fleet.redis, &["CONFIG", "SET", "maxmemory", "0"]);
        }
        Fault::Replica => {
            // Of nobody: it keeps what it has.
            ask(&fleet.redis, &["REPLICAOF", "127.0.0.1", "1"]);
            sleep(2 * pace.calm).await;
            ask(&fleet.redis, &["REPLICAOF", "NO", "ONE"]);
        }
        Fault::Paused => {
            for what in ["WRITE", "ALL"] {
                ask(&fleet.redis, &["CLIENT", "PAUSE", "400", what]);
                sleep(Duration::from_millis(450)).await;
            }
        }
        Fault::Forgetful => {
            for _ in 0..10 {
                ask(&fleet.redis, &["SCRIPT", "FLUSH"]);
                sleep(pace.calm / 5).await;
            }
        }
    }
}

/// Fails where a round shows what must not be.
fn check(fault: Fault, tally: &Tally, recoveries: &[Duration]) {
    let Tally { violations, odd, late, .. } = tally;
    assert!(
        violations.is_empty(),
        "{fault:?}: {} violations: {:?}",
        violations.len(),
        &violations[..violations.len().min(5)]
    );
    assert!(odd.is_empty(), "{fault:?}: {} odd answers: {:?}", odd.len(), &odd[..odd.len().min(5)]);
    assert_eq!(tally.broken, 0, "{fault:?}: every request is answered");
    assert!(late.is_empty(), "{fault:?}: past their budgets: {late:?} µs");
    let slow: Vec<_> = recoveries.iter().filter(|took| **took > Duration::from_secs(1)).collect();
    assert!(slow.is_empty(), "{fault:?}: {slow:?} from the server being back to the first success");
    assert!(tally.done >= LEAST, "{fault:?}: it was no load: {tally:?}");
}

/// What the long form writes its rows into; without it the rounds are short.
const LONG_FORM: &str = "COATROOM_LONG";
/// Acknowledged requests of each fault in the long form: a million of all eight.
const SHARE: u64 = 125_000;

async fn survive(fault: Fault) {
    let folder = std::env::var_os(LONG_FORM).map(PathBuf::from);
    let (pace, acknowledged) = if folder.is_some() { (LONG, SHARE) } else { (SHORT, 1) };
    let (tally, recoveries) = round(fault, pace, acknowledged).await;
    check(fault, &tally, &recoveries);
    match fault {
        // Where the machine itself stands still, budgets are spent on nothing.
        Fault::None | Fault::Forgetful if tally.stalled > STALL => {}
        Fault::None | Fault::Forgetful => assert_eq!((tally.refused, tally.unknown), (0, 0), "{tally:?}"),
        Fault::Reset => {}
        _ => assert!(tally.refused + tally.unknown > 0, "{fault:?} hurt nobody: {tally:?}"),
    }
    if let Some(folder) = folder {
        std::fs::write(folder.join(format!("{}-{fault:?}", fault as u8)), row(fault, &tally, &recoveries))
            .expect("the folder of tests/run");
    }
}

/// The line of a fault in `long.md`.
fn row(fault: Fault, tally: &Tally, recoveries: &[Duration]) -> String {
    let slowest = recoveries.iter().max().map_or(0, Duration::as_millis);
    let count = |wanted: fn(&Violation) -> bool| {
        tally.violations.iter().filter(|(_, violation)| wanted(violation)).count()
    };
    let Tally { lives, done, dropped, conflicts, refused, unknown, longest, .. } = tally;
    format!(
        "| {} | {} | {lives} | {done} | {dropped} | {conflicts} | {refused} | {unknown} | {} | {} | {} | {} | {} | {slowest} ms | {} ms |\n",
        fault.name(),
        recoveries.len(),
        count(|violation| matches!(violation, Violation::Lost { .. } | Violation::Phantom { .. })),
        count(|violation| matches!(violation, Violation::Stale { .. })),
        count(|violation| matches!(violation, Violation::Resurrected { .. })),
        count(|violation| matches!(violation, Violation::LoggedOut { .. } | Violation::Strange { .. })),
        count(|violation| matches!(violation, Violation::Cleared { .. })),
        longest / 1000,
    )
}

macro_rules! rounds {
    ($($name:ident $fault:ident,)+) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            survive(Fault::$fault).await;
        }
    )+};
}

rounds! {
    nothing_is_lost_where_nothing_happens None,
    nothing_is_lost_when_the_server_is_killed_and_comes_back Killed,
    nothing_is_lost_when_the_server_freezes Frozen,
    nothing_is_lost_when_connections_break_in_the_middle_of_a_reply Reset,
    nothing_is_lost_when_the_server_has_no_room Full,
    nothing_is_lost_when_the_server_becomes_a_replica Replica,
    nothing_is_lost_when_the_server_pauses Paused,
    nothing_is_lost_when_the_server_forgets_its_scripts Forgetful,
}
