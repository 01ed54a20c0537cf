//! Clients that share sessions: four a session, each at the sidecar of its turn, one life of a session after another.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use coatroom::time::Stopwatch;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::judge::{Answer, Event, Forgiven, Instant, Loss, Op, Seen, judge};
use super::tally::Tally;
use super::wire::{Client, Reply};
use crate::support::client::PATIENCE;

/// Clients that share a session.
pub const SHARERS: usize = 4;
/// Requests of each client in one life of a session.
const REQUESTS: usize = 25;
/// A client that was refused waits so long; else an outage is a contest in being refused.
const REST: Duration = Duration::from_millis(5);

/// What all clients share.
pub struct Round {
    /// Where the sidecars are.
    pub sidecars: Vec<SocketAddr>,
    /// What a request may take at most: the budgets, and 50 ms.
    pub budget: Duration,
    /// A replica of the medium may take over.
    takes_over: bool,
    watch: Stopwatch,
    stop: AtomicBool,
    /// What was seen.
    pub tally: Mutex<Tally>,
    /// When the server was back.
    healed: AtomicU64,
    /// When the medium forgot.
    forgotten: Mutex<Vec<Forgotten>>,
    /// Moments at which this machine gave us no time, and how long.
    stolen: Mutex<Vec<(Instant, Instant)>>,
}

/// The medium forgot what it had, or a part of it.
struct Forgotten {
    from: Instant,
    /// When that was done.
    to: Instant,
    /// It was everything.
    whole: bool,
}

/// One life of a session.
struct Life {
    name: String,
    /// When it was begun: asked for, and answered.
    begun: (Instant, Instant),
    /// The token that clients use now.
    token: Mutex<String>,
    /// All that there were.
    tokens: Mutex<Vec<String>>,
    events: Mutex<Vec<Event>>,
}

impl Round {
    pub fn new(sidecars: Vec<SocketAddr>, budget: Duration, takes_over: bool) -> Arc<Self> {
        Arc::new(Self {
            sidecars,
            budget,
            takes_over,
            watch: Stopwatch::start(),
            stop: AtomicBool::new(false),
            tally: Mutex::default(),
            healed: AtomicU64::new(Instant::MAX),
            forgotten: Mutex::default(),
            stolen: Mutex::default(),
        })
    }

    /// The present.
    pub fn now(&self) -> Instant {
        self.watch.elapsed().as_micros() as Instant
    }

    /// Lets clients finish the lives that they are in.
    pub fn stop(&self) {
        self.stop.store(true, SeqCst);
    }

    /// The server is back; returns when that was.
    pub fn heal(&self) {
        self.tally().recovered.clear();
        self.healed.store(self.now(), SeqCst);
    }

    /// The medium forgets from now on, all that it has or a part; until [`Round::forgot`] nobody knows what.
    pub fn forgets(&self, whole: bool) {
        let from = self.now();
        self.forgotten.lock().expect("whole").push(Forgotten { from, to: Instant::MAX, whole });
    }

    /// It has, and goes on.
    pub fn forgot(&self) {
        let to = self.now();
        self.forgotten.lock().expect("whole").last_mut().expect("it did").to = to;
    }

    /// What of that befell a session.
    fn loss(&self, (asked, answered): (Instant, Instant)) -> Option<Loss> {
        let forgotten = self.forgotten.lock().expect("whole");
        let first = forgotten.iter().find(|forgotten| asked <= forgotten.to)?;
        let mut certain = forgotten.iter().filter(|forgotten| forgotten.whole && answered < forgotten.from);
        Some(Loss { from: first.from, gone: certain.next().map_or(Instant::MAX, |certain| certain.to) })
    }

    /// How long it took each sidecar, once all of them have done something; time that this machine did not give us is
    /// not counted.
    pub fn recovery(&self) -> Option<Vec<Duration>> {
        let (recovered, healed) = (self.tally().recovered.clone(), self.healed.load(SeqCst));
        let took = |at: &Instant| Duration::from_micros(at - healed - self.stolen(healed, *at));
        (recovered.len() == self.sidecars.len()).then(|| recovered.values().map(took).collect())
    }

    pub fn tally(&self) -> std::sync::MutexGuard<'_, Tally> {
        self.tally.lock().expect("whole")
    }

    /// Runs so many groups of clients until they are told to stop.
    pub async fn run(self: Arc<Self>, groups: usize, seed: u64) {
        let mut tasks = JoinSet::new();
        for group in 0..groups {
            let round = Arc::clone(&self);
            tasks
                .spawn(async move { round.group(group, SmallRng::seed_from_u64(seed ^ group as u64)).await });
        }
        let probe = tokio::spawn(Arc::clone(&self).probe());
        while let Some(ended) = tasks.join_next().await {
            ended.expect("no client panics");
        }
        probe.abort();
    }

    /// Notes when this process was not given its time: what a request took then is not the sidecar's doing.
    async fn probe(self: Arc<Self>) {
        const TICK: Duration = Duration::from_millis(5);
        loop {
            let before = self.now();
            sleep(TICK).await;
            let after = self.now();
            if after - before > 3 * TICK.as_micros() as Instant {
                let mut tally = self.tally();
                tally.stalled = tally.stalled.max(after - before);
                drop(tally);
                self.stolen.lock().expect("whole").push((before, after));
            }
        }
    }

    fn stolen(&self, from: Instant, to: Instant) -> Instant {
        let stolen = self.stolen.lock().expect("whole");
        stolen.iter().map(|(start, end)| (*end).min(to).saturating_sub((*start).max(from))).sum()
    }

    async fn group(self: Arc<Self>, group: usize, mut random: SmallRng) {
        let mut clients: Vec<_> =
            (0..SHARERS).map(|n| Some(Client::new(self.sidecars[n % self.sidecars.len()]))).collect();
        let mut number = 0;
        while !self.stop.load(SeqCst) {
            number += 1;
            let name = format!("{group}.{number}");
            let Some(life) = self.begin(name, clients[0].as_mut().expect("here")).await else { continue };
            // Every third is logged out while the others are at work.
            let rude = (number % 3 == 0).then(|| random.random_range(1..SHARERS));
            let mut tasks = JoinSet::new();
            for (n, client) in clients.iter_mut().enumerate() {
                let (round, life, mut client) =
                    (Arc::clone(&self), Arc::clone(&life), client.take().expect("here"));
                let mut random = SmallRng::seed_from_u64(random.random());
                tasks.spawn(async move {
                    for request in 0..REQUESTS {
                        let op = match random.random_range(0..100) {
                            _ if rude == Some(n) && request == REQUESTS / 2 => Op::Logout,
                            0..30 => Op::Read,
                            30..85 => Op::Add,
                            85..95 => Op::AddIf,
                            _ => Op::Cycle,
                        };
                        round.step(&life, n, &mut client, op).await;
                    }
                    (n, client)
                });
            }
            while let Some(back) = tasks.join_next().await {
                let (n, client) = back.expect("no client panics");
                clients[n] = Some(client);
            }
            self.end(&life, rude.is_some(), &mut clients).await;
        }
    }

    /// Begins a life, unless the store doesn't let it.
    async fn begin(&self, name: String, client: &mut Client) -> Option<Arc<Life>> {
        let wanted = [("X-Session-Set", format!("{{\"life\":\"{name}\"}}"))];
        let asked = self.now();
        let reply = client.ask(None, &wanted).await;
        let begun = (asked, self.now());
        match reply {
            Ok(Reply { status: 200, row, cookie: Some(token), .. }) if row == "create" => {
                crate::support::canary::sing(&token);
                let tokens = Mutex::new(vec![token.clone()]);
                let token = Mutex::new(token);
                Some(Arc::new(Life { name, begun, token, tokens, events: Mutex::default() }))
            }
            _ => {
                sleep(REST).await;
                None
            }
        }
    }

    /// Looks at what is there, ends it, and judges.
    async fn end(&self, life: &Life, ended: bool, clients: &mut [Option<Client>]) {
        let lost_track = || {
            let events = life.events.lock().expect("whole");
            events.iter().any(|event| event.op == Op::Cycle && event.answer == Answer::Unknown)
        };
        let mut there = None;
        if !ended && !lost_track() {
            let client = clients[1].as_mut().expect("here");
            let patience = Stopwatch::start();
            there = loop {
                assert!(patience.elapsed() < PATIENCE, "the store does not come back");
                match self.step(life, 1, client, Op::Read).await {
                    (Answer::Done, Seen::Session { counts, .. }) => break Some(counts),
                    (Answer::Done, _) => break None,
                    _ => {}
                }
            };
        }
        let client = clients[0].as_mut().expect("here");
        let patience = Stopwatch::start();
        while !matches!(self.step(life, 0, client, Op::Logout).await.0, Answer::Done | Answer::Dropped) {
            assert!(patience.elapsed() < PATIENCE, "nobody can log out");
        }
        let tokens = life.tokens.lock().expect("whole").clone();
        for (n, token) in tokens.into_iter().enumerate() {
            *life.token.lock().expect("whole") = token;
            let client = clients[n % SHARERS].as_mut().expect("here");
            while self.step(life, n % SHARERS, client, Op::Read).await.0 != Answer::Done {
                assert!(patience.elapsed() < PATIENCE, "nobody can read");
            }
        }
        let events = std::mem::take(&mut *life.events.lock().expect("whole"));
        let found = judge(
            &life.name,
            &events,
            there.as_ref(),
            Forgiven { loss: self.loss(life.begun), takes_over: self.takes_over },
        );
        let mut tally = self.tally();
        tally.lives += 1;
        tally.violations.extend(found.into_iter().map(|violation| (life.name.clone(), violation)));
    }

    /// One request, written down.
    async fn step(&self, life: &Life, n: usize, client: &mut Client, op: Op) -> (Answer, Seen) {
        let add = || ("X-Session-Increment", format!("{{\"c{n}\":1}}"));
        let mut wanted = match op {
            Op::Read => vec![],
            Op::Add => vec![add()],
            Op::Cycle => vec![add(), ("X-Session-Cycle-Key", "true".to_owned())],
            Op::Logout => vec![("X-Session-Flush", "true".to_owned())],
            Op::AddIf => vec![add(), ("X-Session-If-Version", String::new())],
        };
        if op == Op::AddIf {
            // A look before tells the version; it is a request like any other.
            let (_, _, version) = self.exchange(life, n, client, Op::Read, &[]).await;
            if version.is_empty() {
                return (Answer::Refused, Seen::Nothing);
            }
            wanted[1].1 = version;
        }
        let (answer, seen, _) = self.exchange(life, n, client, op, &wanted).await;
        (answer, seen)
    }

    async fn exchange(
        &self,
        life: &Life,
        n: usize,
        client: &mut Client,
        op: Op,
        wanted: &[(&str, String)],
    ) -> (Answer, Seen, String) {
        // In this order: whoever is told of a new token before now uses it.
        let invoked = self.now();
        let token = life.token.lock().expect("whole").clone();
        let reply = client.ask(Some(&token), wanted).await;
        let conflict = reply.as_ref().is_ok_and(|reply| reply.status == 409);
        let (answer, cleared, body, cookie) = match reply {
            Ok(reply) => {
                let cleared = reply.cookie.as_deref() == Some("");
                let answer = classify(op, &reply).unwrap_or_else(|| {
                    let what = format!("{op:?}: {} {} {}", reply.status, reply.row, reply.body);
                    self.tally().odd.push(what);
                    Answer::Unknown
                });
                (answer, cleared, if reply.status == 200 { reply.body } else { String::new() }, reply.cookie)
            }
            Err(_) => {
                self.tally().broken += 1;
                (Answer::Unknown, false, String::new(), None)
            }
        };
        let (seen, version) = read(&body);
        if let (Op::Cycle, Answer::Done, Some(new)) = (op, answer, cookie.filter(|cookie| !cookie.is_empty()))
        {
            crate::support::canary::sing(&new);
            life.tokens.lock().expect("whole").push(new.clone());
            *life.token.lock().expect("whole") = new;
        }
        let completed = self.now();
        let event = Event { client: n, op, invoked, completed, answer, seen: seen.clone(), cleared };
        life.events.lock().expect("whole").push(event);
        self.count(n, answer, conflict, invoked, completed);
        if !conflict && matches!(answer, Answer::Refused | Answer::Unknown) {
            sleep(REST).await;
        }
        (answer, seen, version)
    }

    fn count(&self, n: usize, answer: Answer, conflict: bool, invoked: Instant, completed: Instant) {
        let (took, budget) = (completed - invoked, self.budget.as_micros() as Instant);
        let late = took > budget && took - self.stolen(invoked, completed) > budget;
        let mut tally = self.tally();
        match answer {
            Answer::Done => tally.done += 1,
            Answer::Dropped => tally.dropped += 1,
            Answer::Refused if conflict => tally.conflicts += 1,
            Answer::Refused => tally.refused += 1,
            Answer::Unknown => tally.unknown += 1,
        }
        tally.longest = tally.longest.max(took);
        if late {
            tally.late.push(took);
        }
        if answer == Answer::Done && completed >= self.healed.load(SeqCst) {
            tally.recovered.entry(n % self.sidecars.len()).or_insert(completed);
        }
    }
}

/// What an answer says of what was asked; `None` if nothing explains it.
fn classify(op: Op, reply: &Reply) -> Option<Answer> {
    match (reply.status, op, &*reply.row) {
        (200, Op::Read, "nothing" | "nothing-to-keep") => Some(Answer::Done),
        (200, Op::Add | Op::AddIf, "save") | (200, Op::Cycle, "cycle-key") => Some(Answer::Done),
        (200, Op::Logout, "flush" | "ended-flush" | "nothing-to-keep") => Some(Answer::Done),
        // Under an ended token: dropped, or a session of its own, which nobody uses here. One that ended while there
        // was no room for its memory is like one that never was.
        (200, _, "gone" | "ended-create" | "ended-cycle-key" | "create") => Some(Answer::Dropped),
        (409, Op::AddIf, _) => Some(Answer::Refused),
        (503, ..) if reply.body.contains("/store-unavailable\"") => Some(Answer::Refused),
        (503, ..) if reply.body.contains("/outcome-unknown\"") => Some(Answer::Unknown),
        _ => None,
    }
}

/// What the backend read, as it says in its body.
pub fn read(body: &str) -> (Seen, String) {
    let mut lines = body.lines();
    let (state, version, data) = (lines.next(), lines.next(), lines.next());
    let seen = match (state, data) {
        (Some("active"), Some(data)) => {
            let data: BTreeMap<String, serde_json::Value> = serde_json::from_str(data).expect("an object");
            let life = data.get("life").and_then(|life| life.as_str()).unwrap_or_default().to_owned();
            let count = |(name, value): (&String, &serde_json::Value)| {
                Some((name.strip_prefix('c')?.parse().ok()?, value.as_u64()?))
            };
            Seen::Session { life, counts: data.iter().filter_map(count).collect() }
        }
        (Some("empty"), _) => Seen::Empty,
        _ => Seen::Nothing,
    };
    (seen, version.unwrap_or_default().to_owned())
}
