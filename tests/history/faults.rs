//! What befalls a medium, one round each; which faults there are is the medium's affair (`redis.rs` and the others).

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::task::block_in_place;
use tokio::time::sleep;

use super::fleet::{BUDGET, Fleet, Medium};
use super::judge::Violation;
use super::relay::Harm;
use super::tally::Tally;
use super::workload::{Round, SHARERS};
use crate::support::{Database, Pulse};

/// Requests between two resets at least: else most of them would meet connections that are only being opened.
const AT_ONCE: usize = 64;
/// Acknowledged requests of a round at least.
const LEAST: u64 = 1000;
/// Microseconds without a processor that make a round say nothing of what needs no patience.
const STALL: u64 = 50_000;
/// What a reply to a load of these sessions takes at most, and to a write.
const REPLY: usize = 400;

/// What can happen to a medium.
pub trait Fault: Copy + Debug + Send + Sync + 'static {
    type Medium: Medium;

    /// A medium that nothing has happened to yet, which keeps what it acknowledges.
    fn medium() -> Self::Medium;

    /// Its name in `long.md`.
    fn name(self) -> String;

    /// Clients of a fleet: what the medium can carry on two cores besides the sidecars and the clients themselves.
    const CLIENTS: usize = 64;

    /// Who must notice.
    fn effect(self) -> Effect;

    /// Makes the medium ill, and well again.
    fn hurt(
        self,
        pace: Pace,
        fleet: &mut Fleet<Self::Medium>,
        round: &Round,
    ) -> impl Future<Output = ()> + Send;
}

/// Who must notice a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nobody.
    None,
    /// Perhaps somebody.
    Perhaps,
    /// Some requests are refused, or their outcome is unknown.
    Some,
}

/// How long things last.
#[derive(Clone, Copy)]
pub struct Pace {
    /// Of load before and after a fault.
    pub calm: Duration,
    pub frozen: Duration,
    /// From one offset of a reply at which a connection is reset to the next.
    pub stride: usize,
    /// Where nobody must notice, sidecars have other budgets than the defaults.
    pub patient: bool,
}

/// Such budgets, and what a request takes at most with them.
const PATIENT: [(&str, &str); 2] =
    [("COATROOM__STORE__TIMEOUT", "2"), ("COATROOM__STORE__COMMIT_TIMEOUT", "3")];
const PATIENCE: Duration = Duration::from_millis(2000 + 3000 + 50);

const SHORT: Pace =
    Pace { calm: Duration::from_millis(150), frozen: Duration::from_millis(1500), stride: 23, patient: true };
const LONG: Pace =
    Pace { calm: Duration::from_secs(2), frozen: Duration::from_secs(5), stride: 1, patient: false };

/// One round of a fault on a fleet of its own, until so much was acknowledged.
async fn round<F: Fault>(fault: F, pace: Pace, acknowledged: u64) -> (Tally, Vec<Duration>) {
    // What nobody is to notice is not to be what a busy machine does.
    let (settings, budget) = match (fault.effect(), pace.patient) {
        (Effect::None, true) => (&PATIENT[..], PATIENCE),
        _ => (&[][..], BUDGET),
    };
    let mut fleet = Fleet::start(F::medium(), settings).await;
    let round = Round::new(fleet.addresses(), budget, F::Medium::TAKES_OVER);
    let clients = tokio::spawn(Arc::clone(&round).run(F::CLIENTS / SHARERS, acknowledged ^ seed(fault)));
    let mut recoveries = Vec::new();
    // All are at work when it begins.
    while round.tally().done < u64::try_from(4 * F::CLIENTS).expect("few") {
        sleep(Duration::from_millis(5)).await;
    }
    sleep(pace.calm).await;
    loop {
        fault.hurt(pace, &mut fleet, &round).await;
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

/// Other requests for each fault.
fn seed(fault: impl Fault) -> u64 {
    fault.name().bytes().fold(0, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte.into()))
}

/// Lets the medium be ill for so long, and until that has hurt somebody: on a busy machine nobody may have asked, or all
/// may still be trying.
pub async fn suffer(least: Duration, round: &Round) {
    let (before, watch) = (round.tally().hurt(), Pulse::start());
    sleep(least).await;
    while round.tally().hurt() == before && watch.elapsed() < Duration::from_secs(20) {
        sleep(Duration::from_millis(1)).await;
    }
}

/// Kills a database, and starts it again.
pub async fn crash(pace: Pace, round: &Round, database: &mut Database) {
    block_in_place(|| database.kill());
    suffer(pace.calm, round).await;
    block_in_place(|| database.restart());
}

/// Freezes what is sent a signal so, and thaws it.
pub async fn freeze(pace: Pace, signal: impl Fn(&str)) {
    signal("STOP");
    sleep(pace.frozen).await;
    signal("CONT");
}

/// Resets connections in the middle of replies, at each offset in turn.
pub async fn reset<M: Medium>(pace: Pace, fleet: &Fleet<M>, round: &Round) {
    for offset in (0..REPLY).step_by(pace.stride) {
        fleet.relay().set(Harm::ResetAfter(offset));
        let more = round.tally().done + u64::try_from(AT_ONCE).expect("few");
        while !fleet.relay().is_done() || round.tally().done < more {
            sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Fails where a round shows what must not be.
fn check(fault: impl Fault, tally: &Tally, recoveries: &[Duration]) {
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
/// Acknowledged requests of each fault in the long form: a million of all of them.
const SHARE: u64 = 30_000;

/// One fleet at a time: two of them would spend each other's budgets.
static ALONE: Mutex<()> = Mutex::const_new(());

pub async fn survive(fault: impl Fault) {
    let _alone = ALONE.lock().await;
    let folder = std::env::var_os(LONG_FORM).map(PathBuf::from);
    let (pace, acknowledged) = if folder.is_some() { (LONG, SHARE) } else { (SHORT, 1) };
    let (tally, recoveries) = round(fault, pace, acknowledged).await;
    check(fault, &tally, &recoveries);
    match fault.effect() {
        // Where the machine itself stands still, budgets of fractions of a second are spent on nothing.
        Effect::None if !pace.patient && tally.stalled > STALL => {}
        Effect::None => assert_eq!((tally.refused, tally.unknown), (0, 0), "{tally:?}"),
        Effect::Perhaps => {}
        Effect::Some => assert!(tally.hurt() > 0, "{fault:?} hurt nobody: {tally:?}"),
    }
    if let Some(folder) = folder {
        let name = format!("{}-{fault:?}", std::any::type_name_of_val(&fault));
        std::fs::write(folder.join(name), row(fault, &tally, &recoveries)).expect("the folder of tests/run");
    }
}

/// The line of a fault in `long.md`.
fn row(fault: impl Fault, tally: &Tally, recoveries: &[Duration]) -> String {
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

/// A test of each fault.
macro_rules! rounds {
    ($($name:ident $fault:expr,)+) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            $crate::history::faults::survive($fault).await;
        }
    )+};
}
pub(crate) use rounds;
