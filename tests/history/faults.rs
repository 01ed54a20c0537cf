//! The faults, one round each.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::block_in_place;
use tokio::time::sleep;

use super::fleet::{BUDGET, Fleet};
use super::relay::Harm;
use super::workload::{Round, SHARERS, Tally};
use crate::support::Redis;

/// Clients of a fleet.
const CLIENTS: usize = 64;
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
    sleep(pace.calm).await;
    loop {
        hurt(fault, pace, &mut fleet).await;
        round.heal();
        recoveries.push(loop {
            if let Some(took) = round.recovery() {
                break took.into_iter().max().unwrap_or_default();
            }
            sleep(Duration::from_millis(1)).await;
        });
        sleep(pace.calm).await;
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
async fn hurt(fault: Fault, pace: Pace, fleet: &mut Fleet) {
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
                while !fleet.relay.is_done() {
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
    assert!(tally.done > 500, "{fault:?}: it was no load: {tally:?}");
}

/// A million, or a short round.
async fn survive(fault: Fault) {
    let (tally, recoveries) = round(fault, SHORT, 1).await;
    check(fault, &tally, &recoveries);
    match fault {
        Fault::None | Fault::Forgetful => assert_eq!((tally.refused, tally.unknown), (0, 0), "{tally:?}"),
        Fault::Reset => {}
        _ => assert!(tally.refused + tally.unknown > 0, "{fault:?} hurt nobody: {tally:?}"),
    }
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
