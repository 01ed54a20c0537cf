//! A fleet that moves from one store to another in three rollouts, whatever fails when.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use coatroom::session::{Directive, Found, Row, Token};
use coatroom::store::Failed;
use coatroom::store::engine::Engine as _;
use coatroom::store::memory::Memory;
use coatroom::store::moving::{Fate, Home, Moving};
use coatroom::time::Clock;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::shaky::Shaky;
use super::support::{Rig, ask, counter, increment, memory, secs};

/// What a sidecar of a fleet knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The old store.
    Old,
    /// Both, and it writes the old one (`store.next`).
    First,
    /// Both, and it writes the new one (`store.previous`).
    Second,
    /// The new store.
    New,
}

/// The rollouts, and what is copied meanwhile.
const STAGES: [([Kind; 2], Copies); 8] = [
    ([Kind::Old, Kind::Old], Copies::Nothing),
    ([Kind::Old, Kind::First], Copies::Nothing),
    ([Kind::First, Kind::First], Copies::Some),
    ([Kind::First, Kind::Second], Copies::Some),
    ([Kind::Second, Kind::Second], Copies::Some),
    ([Kind::Second, Kind::Second], Copies::All),
    ([Kind::Second, Kind::New], Copies::Nothing),
    ([Kind::New, Kind::New], Copies::Nothing),
];

/// What is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Copies {
    Nothing,
    /// Some sessions, by somebody who is ended again and again.
    Some,
    /// All are moved: the stage lasts until that is done.
    All,
}

/// The two media.
struct Media {
    old: Arc<Memory>,
    new: Arc<Memory>,
    clock: Clock,
    late: u32,
    fails: u32,
}

impl Media {
    fn shaky(&self, medium: &Arc<Memory>, random: &mut SmallRng) -> Shaky<Memory> {
        Shaky::new(medium, random.random(), self.late, self.fails)
    }

    fn moving(&self, home: Home, random: &mut SmallRng) -> Moving<Shaky<Memory>, Shaky<Memory>> {
        let (old, new) = (self.shaky(&self.old, random), self.shaky(&self.new, random));
        Moving::new(old, new, home, self.clock.clone(), counter())
    }

    fn sidecar(&self, kind: Kind, random: &mut SmallRng) -> Rig {
        let rig = match kind {
            Kind::Old => Rig::over(self.shaky(&self.old, random)),
            Kind::First => Rig::over(self.moving(Home::Old, random)),
            Kind::Second => Rig::over(self.moving(Home::New, random)),
            Kind::New => Rig::over(self.shaky(&self.new, random)),
        };
        // An ended session is forgotten soon, so that nothing but the protocol keeps it from coming back.
        rig.by(self.clock.clone()).with(|config| {
            (config.grace, config.ended_memory) = (super::support::length(1), super::support::length(4));
        })
    }
}

/// What is known of one session.
#[derive(Default)]
struct Known {
    /// Additions that were acknowledged.
    acked: AtomicU64,
    /// Additions that may have been done.
    doubtful: AtomicU64,
    /// Somebody was told that it has ended, or that it does.
    ended: AtomicBool,
    /// Somebody tried to end it, and was not told.
    perhaps: AtomicBool,
}

/// A fleet, its sessions, and what was seen.
struct Stand {
    seed: u64,
    sidecars: Mutex<Vec<Arc<Rig>>>,
    sessions: Mutex<HashMap<usize, (Token, Arc<Known>)>>,
    reads: AtomicU64,
}

impl Stand {
    fn any(&self, random: &mut SmallRng) -> (Arc<Rig>, Token, Arc<Known>) {
        let sidecars = self.sidecars.lock().unwrap();
        let sidecar = Arc::clone(&sidecars[random.random_range(0..sidecars.len())]);
        let sessions = self.sessions.lock().unwrap();
        let (token, known) = &sessions[&random.random_range(0..sessions.len())];
        (sidecar, token.clone(), Arc::clone(known))
    }

    /// Loads a session, looks whether that may be so, and adds one to it or ends it.
    async fn visit(&self, random: &mut SmallRng) {
        let (rig, token, known) = self.any(random);
        let (floor, ended) = (known.acked.load(SeqCst), known.ended.load(SeqCst));
        let Ok(found) = rig.store.load(&token, rig.now()).await else { return };
        let Found::Live(live) = &found else {
            assert!(
                ended || known.perhaps.load(SeqCst) || known.ended.load(SeqCst),
                "seed {}: a session is lost: {found:?}",
                self.seed
            );
            known.ended.store(true, SeqCst);
            return;
        };
        assert!(!ended, "seed {}: an ended session has come back", self.seed);
        let n = live.record.data.non_null("n").and_then(|n| n.as_u64()).unwrap();
        assert!(n >= floor, "seed {}: {n} was read, and {floor} acknowledged before", self.seed);
        self.reads.fetch_add(1, SeqCst);
        match random.random_range(0..100) {
            0..40 => {}
            40..45 => {
                known.perhaps.store(true, SeqCst);
                if let Ok(outcome) = rig.commit(found, ask([Directive::Flush])).await
                    && outcome.row == Row::Flush
                {
                    known.ended.store(true, SeqCst);
                }
            }
            _ => {
                known.doubtful.fetch_add(1, SeqCst);
                match rig.commit(found, ask([increment("n")])).await {
                    Ok(outcome) if outcome.row == Row::Save => {
                        known.acked.fetch_add(1, SeqCst);
                    }
                    Ok(_) => drop(known.doubtful.fetch_sub(1, SeqCst)),
                    Err(Failed::Denied(_)) => drop(known.doubtful.fetch_sub(1, SeqCst)),
                    Err(Failed::Store(_)) => {}
                }
            }
        }
    }
}

/// A fleet that moves in three rollouts, on media that are late and fail, while visitors come and go.
async fn history(seed: u64) -> (u64, u64, u64) {
    let mut random = SmallRng::seed_from_u64(seed);
    let clock = Clock::stopped_at(Clock::system().now());
    let media = Media {
        old: Arc::new(memory()),
        new: Arc::new(memory()),
        clock: clock.clone(),
        late: random.random_range(0..6),
        fails: random.random_range(0..6),
    };
    let stand = Arc::new(Stand {
        seed,
        sidecars: Mutex::default(),
        sessions: Mutex::default(),
        reads: AtomicU64::new(0),
    });
    let sound = Rig::over(Shaky::new(&media.old, 0, 0, 0)).by(clock.clone());
    for n in 0..30 {
        let token = sound.begin(json!({"n": 0})).await;
        stand.sessions.lock().unwrap().insert(n, (token, Arc::default()));
    }
    let ticking = tokio::spawn({
        let (clock, media) = (clock.clone(), [Arc::clone(&media.old), Arc::clone(&media.new)]);
        async move {
            loop {
                sleep(Duration::from_millis(10)).await;
                clock.advance(Duration::from_millis(10));
                for medium in &media {
                    medium.clear_expired(clock.now(), usize::MAX).await.unwrap();
                }
            }
        }
    });
    for (kinds, copies) in STAGES {
        let now = kinds.map(|kind| Arc::new(media.sidecar(kind, &mut random)));
        let before = std::mem::replace(&mut *stand.sidecars.lock().unwrap(), now.into());
        // As in a rollout: who goes ends what is under way.
        while before.iter().any(|rig| Arc::strong_count(rig) > 1) {
            sleep(Duration::from_millis(5)).await;
        }
        let end = Instant::now() + secs(4);
        let mut visitors = JoinSet::new();
        for _ in 0..6 {
            let (stand, mut random) = (Arc::clone(&stand), SmallRng::seed_from_u64(random.random()));
            visitors.spawn(async move {
                while Instant::now() < end {
                    sleep(Duration::from_millis(random.random_range(0..40))).await;
                    stand.visit(&mut random).await;
                }
            });
        }
        let mut copying = JoinSet::new();
        if copies == Copies::Some {
            let between = media.moving(Home::New, &mut random);
            let (old, mut random) = (Arc::clone(&media.old), SmallRng::seed_from_u64(random.random()));
            copying.spawn(async move {
                loop {
                    let keys = old.scan(None).await.unwrap().keys;
                    let Some(key) = keys.get(random.random_range(0..keys.len().max(1))) else { return };
                    let most = Duration::from_millis(random.random_range(0..100));
                    // Whoever copies is ended now and then, at whatever moment.
                    let _ = tokio::time::timeout(most, between.copy(key)).await;
                }
            });
        }
        if copies == Copies::All {
            let between = media.moving(Home::New, &mut random);
            for key in media.old.scan(None).await.unwrap().keys {
                while !matches!(between.bring(&key).await, Ok(Fate::Done | Fate::Ended)) {}
            }
        }
        while let Some(ended) = visitors.join_next().await {
            ended.unwrap();
        }
        drop(copying);
    }
    ticking.abort();
    let (mut acked, mut ended) = (0, 0);
    let last = Rig::over(Shaky::new(&media.new, 0, 0, 0)).by(clock.clone());
    let sessions: Vec<_> = stand.sessions.lock().unwrap().drain().map(|(_, session)| session).collect();
    for (token, known) in sessions {
        let (least, most) = (known.acked.load(SeqCst), known.doubtful.load(SeqCst));
        match last.data(&token).await {
            None => {
                assert!(
                    known.ended.load(SeqCst) || known.perhaps.load(SeqCst),
                    "seed {seed}: a session is lost"
                );
                ended += 1;
            }
            Some(data) => {
                assert!(!known.ended.load(SeqCst), "seed {seed}: an ended session has come back");
                let n = data["n"].as_u64().unwrap();
                assert!(least <= n && n <= most, "seed {seed}: {n}, of {least} to {most}");
            }
        }
        acked += least;
    }
    (acked, ended, stand.reads.load(SeqCst))
}

#[tokio::test(start_paused = true)]
async fn no_addition_is_lost_and_nobody_who_logged_out_comes_back_whatever_fails_in_three_rollouts() {
    let (mut acked, mut ended, mut reads) = (0, 0, 0);
    for seed in 0..16 {
        let (more, gone, read) = history(seed).await;
        (acked, ended, reads) = (acked + more, ended + gone, reads + read);
    }
    assert!(acked > 2000 && ended > 100 && reads > 5000, "{acked} additions, {ended} ends, {reads} readings");
}
