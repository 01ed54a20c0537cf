//! Two stores, and sessions on their way from one to the other, step by step.

use std::sync::Arc;

use bytes::Bytes;
use coatroom::session::directive::Wish;
use coatroom::session::{Directive, Expiry, Found, Key, Revision, Row, Token};
use coatroom::store::engine::{Engine as _, Stored, Swap, Worth};
use coatroom::store::memory::Memory;
use coatroom::store::moving::{Fate, Home, Moving};
use coatroom::store::{Failed, Kind};
use coatroom::time::Clock;
use serde_json::json;

use super::spy::Op::{self, Add, Get, Remove, Replace};
use super::spy::{Fault, Latch, Spy};
use super::support::{Rig, ask, counter, length, live, memory, secs, set};

/// Two stores in memory, the old one of which is written.
pub(crate) fn between_next() -> Moving<Memory, Memory> {
    Moving::new(memory(), memory(), Home::Old, Clock::system(), counter())
}

/// Two stores in memory, the new one of which is written.
pub(crate) fn between_previous() -> Moving<Memory, Memory> {
    Moving::new(memory(), memory(), Home::New, Clock::system(), counter())
}

type Between = Moving<Spy<Memory>, Spy<Memory>>;

/// A sidecar whose calls are watched, of the old store and of the new one.
struct Watched {
    rig: Rig,
    old: Spy<Memory>,
    new: Spy<Memory>,
}

impl Watched {
    fn new(home: Home) -> Self {
        let clock = Clock::stopped_at(Clock::system().now());
        Self::on(Spy::new(memory()), Spy::new(memory()), home, clock)
    }

    fn on(old: Spy<Memory>, new: Spy<Memory>, home: Home, clock: Clock) -> Self {
        let engine = Moving::new(old.clone(), new.clone(), home, clock.clone(), counter());
        let rig = Rig::within(engine, secs(1)).by(clock);
        Self { rig, old, new }
    }

    /// Another sidecar on the same two, where nothing fails.
    fn beside(&self, home: Home) -> Self {
        Self::on(self.old.sound(), self.new.sound(), home, self.rig.clock.clone())
    }

    /// A sidecar that knows of the old store alone, and one that knows of the new one.
    fn alone(&self) -> [Rig; 2] {
        [&self.old, &self.new].map(|one| Rig::over(one.sound()).by(self.rig.clock.clone()))
    }

    /// Whoever copies, with its own calls.
    fn copier(&self) -> (Arc<Between>, Spy<Memory>) {
        let old = self.old.sound();
        let clock = self.rig.clock.clone();
        (Arc::new(Moving::new(old.clone(), self.new.sound(), Home::New, clock, counter())), old)
    }

    /// A session of which there is a copy.
    async fn copied(&self) -> Token {
        let token = self.rig.begin(json!({"user_id": 1})).await;
        let (copier, _) = self.copier();
        assert_eq!(copier.copy(&Self::key(&token)).await, Ok(Fate::Done));
        token
    }

    /// While a call waits a second passes, and the old store removes what has expired by then.
    async fn forget_during(&self, latch: &Latch) {
        latch.reached().await;
        self.rig.wait(secs(1));
        self.old.engine().clear_expired(self.rig.now(), usize::MAX).await.unwrap();
        latch.release();
    }

    fn calls(&self) -> (Vec<Op>, Vec<Op>) {
        (self.old.calls(), self.new.calls())
    }

    fn key(token: &Token) -> Key {
        Key::of("", token)
    }
}

#[tokio::test]
async fn a_session_moves_when_it_is_read_and_is_the_same_one_there() {
    let one = Watched::new(Home::New);
    let [old, new] = one.alone();
    let token = old.begin(json!({"a": 1})).await;
    let before = live(old.load(&token).await);
    let after = live(one.rig.load(&token).await);
    assert_eq!((after.revision, after.until, &after.record), (before.revision, before.until, &before.record));
    let asked = (vec![Get], vec![Add, Remove]);
    let moved = (vec![Get, Replace, Remove], vec![Get, Add, Replace]);
    let first = ([&moved.0[..1], &asked.0, &moved.0[1..]].concat(), [asked.1, moved.1.clone()].concat());
    assert_eq!(one.calls(), first, "are they two stores?");
    assert_eq!((old.load(&token).await, live(new.load(&token).await)), (Found::No, after));
    one.rig.request(&token, [set(json!({"a": 2}))]).await;
    assert_eq!(one.calls(), (vec![Get], vec![Get, Replace]), "what it costs from then on");
    assert_eq!(new.data(&token).await, Some(json!({"a": 2})));
    let next = old.begin(json!({"b": 1})).await;
    live(one.rig.load(&next).await);
    assert_eq!(one.calls(), moved, "that is known by now");
}

#[tokio::test]
async fn nothing_moves_between_two_names_of_one_store() {
    let clock = Clock::stopped_at(Clock::system().now());
    let spy = Spy::new(memory());
    let one = Watched::on(spy.clone(), spy.clone(), Home::New, clock);
    let [old, _] = one.alone();
    let token = old.begin(json!({"a": 1})).await;
    for _ in 0..2 {
        let error = one.rig.store.load(&token, one.rig.now()).await.unwrap_err();
        assert_eq!(error.kind, Kind::Refused, "{error}");
    }
    let (copier, _) = one.copier();
    assert_eq!(copier.bring(&Watched::key(&token)).await.unwrap_err().kind, Kind::Refused);
    assert_eq!(copier.are_one().await, Ok(true));
    assert_eq!(old.data(&token).await, Some(json!({"a": 1})), "it is as it was");
    let all = spy.engine().clear_expired(coatroom::time::Timestamp::MAX, usize::MAX).await.unwrap();
    assert_eq!(all.removed, 1, "and alone there");
}

#[tokio::test]
async fn a_session_is_written_where_it_is() {
    let one = Watched::new(Home::Old);
    let token = one.rig.begin(json!({"a": 1})).await;
    assert_eq!(one.calls(), (vec![Add], vec![]));
    one.rig.request(&token, [set(json!({"a": 2}))]).await;
    assert_eq!(one.calls(), (vec![Get, Replace], vec![Get]), "is there a copy of what was before?");
    // Another sidecar is ahead of it.
    let next = one.beside(Home::New);
    next.rig.request(&token, [set(json!({"a": 3}))]).await;
    let [old, new] = one.alone();
    assert_eq!((old.load(&token).await, new.data(&token).await), (Found::No, Some(json!({"a": 3}))));
    one.rig.request(&token, [set(json!({"a": 4}))]).await;
    assert_eq!(new.data(&token).await, Some(json!({"a": 4})));
    // And is new ones' home.
    let token = next.rig.begin(json!({"b": 1})).await;
    assert_eq!((old.load(&token).await, one.rig.data(&token).await), (Found::No, Some(json!({"b": 1}))));
}

#[tokio::test]
async fn who_loaded_it_before_it_moved_saves_it_where_it_is() {
    let one = Watched::new(Home::Old);
    let token = one.rig.begin(json!({"n": 0})).await;
    let found = one.rig.load(&token).await;
    one.beside(Home::New).rig.load(&token).await;
    one.rig.commit(found, ask([set(json!({"n": 1}))])).await.unwrap();
    let [_, new] = one.alone();
    assert_eq!(new.data(&token).await, Some(json!({"n": 1})));
}

#[tokio::test]
async fn one_that_stands_still_on_its_way_is_brought_on_by_whoever_comes() {
    // Whoever began goes no further than each of these.
    for (op, of_old) in [(Replace, true), (Replace, false), (Remove, true)] {
        for home in [Home::Old, Home::New] {
            let one = Watched::new(Home::New);
            let [old, new] = one.alone();
            let token = old.begin(json!({"n": 0})).await;
            let latch = Latch::new();
            let spy = if of_old { &one.old } else { &one.new };
            spy.fail(op, Fault::Hold(latch.clone()));
            let (rig, shown) = (one.rig.clone(), token.clone());
            let slow = tokio::spawn(async move { rig.data(&shown).await });
            latch.reached().await;
            let other = one.beside(home);
            other.rig.request(&token, [set(json!({"n": 1}))]).await;
            other.rig.request(&token, [set(json!({"n": 2}))]).await;
            latch.release();
            assert_eq!(slow.await.unwrap(), Some(json!({"n": 2})));
            assert_eq!(one.rig.data(&token).await, Some(json!({"n": 2})));
            assert_eq!(new.data(&token).await, Some(json!({"n": 2})), "at last it is there");
            assert_eq!(old.load(&token).await, Found::No);
        }
    }
}

/// The old store says that it is leaving still, and somebody who knows of the new one alone has gone on with it.
#[tokio::test]
async fn one_that_was_changed_where_it_went_is_not_brought_there_again() {
    for copied in [false, true] {
        let one = Watched::new(Home::New);
        let [old, new] = one.alone();
        let token = old.begin(json!({"n": 0})).await;
        if copied {
            assert_eq!(one.copier().0.copy(&Watched::key(&token)).await, Ok(Fate::Done));
        }
        let latch = one.old.hold(Remove);
        let (rig, shown) = (one.rig.clone(), token.clone());
        let slow = tokio::spawn(async move { rig.data(&shown).await });
        latch.reached().await;
        new.request(&token, [set(json!({"n": 1}))]).await;
        assert_eq!(one.beside(Home::New).rig.data(&token).await, Some(json!({"n": 1})));
        latch.release();
        assert_eq!(slow.await.unwrap(), Some(json!({"n": 1})));
        assert_eq!((old.load(&token).await, new.data(&token).await), (Found::No, Some(json!({"n": 1}))));
    }
}

#[tokio::test]
async fn one_whose_place_was_lost_gets_another_one() {
    let one = Watched::new(Home::New);
    let [old, new] = one.alone();
    let token = old.begin(json!({"n": 0})).await;
    let latch = one.new.hold(Replace);
    let (rig, shown) = (one.rig.clone(), token.clone());
    let slow = tokio::spawn(async move { rig.data(&shown).await });
    latch.reached().await;
    one.new.engine().clear_expired(coatroom::time::Timestamp::MAX, usize::MAX).await.unwrap();
    latch.release();
    assert_eq!(slow.await.unwrap(), Some(json!({"n": 0})));
    assert_eq!((old.load(&token).await, new.data(&token).await), (Found::No, Some(json!({"n": 0}))));
}

#[tokio::test]
async fn what_is_copied_stays_what_it_was_and_what_is_there_is_left_alone() {
    let one = Watched::new(Home::Old);
    let [old, new] = one.alone();
    let (copier, _) = one.copier();
    let (a, b, c) = (
        old.begin(json!({"a": 1})).await,
        old.begin(json!({"b": 1})).await,
        old.begin(json!({"c": 1})).await,
    );
    let copy = async |token: &Token| copier.copy(&Watched::key(token)).await.unwrap();
    assert_eq!((copy(&a).await, copy(&a).await), (Fate::Done, Fate::Already));
    assert_eq!(live(old.load(&a).await), live(new.load(&a).await));
    // It has gone on in the old store, and the copier knows no better.
    old.request(&a, [set(json!({"a": 2}))]).await;
    assert_eq!(copy(&a).await, Fate::Taken);
    assert_eq!(new.data(&a).await, Some(json!({"a": 1})));
    // Who moves it does.
    assert_eq!(copier.bring(&Watched::key(&a)).await, Ok(Fate::Done));
    assert_eq!(
        (new.data(&a).await, copier.bring(&Watched::key(&a)).await),
        (Some(json!({"a": 2})), Ok(Fate::Ended))
    );
    // It has ended there.
    assert_eq!(copy(&b).await, Fate::Done);
    new.request(&b, [Directive::Flush]).await;
    assert_eq!(copy(&b).await, Fate::Taken);
    assert!(matches!(one.beside(Home::New).rig.load(&b).await, Found::Ended(_)), "and is not brought back");
    // It has expired.
    one.rig.wait(super::support::AGE);
    assert_eq!(copy(&c).await, Fate::Ended);
}

#[tokio::test]
async fn what_is_no_record_is_told_and_left_where_it_is() {
    let one = Watched::new(Home::Old);
    let (copier, _) = one.copier();
    for (n, text) in (0..).zip(["1:zz", "s1", "something that somebody else has put there"]) {
        let key = Key::from_bytes([n; 20]);
        let value = Bytes::from_static(text.as_bytes());
        let odd =
            Stored { value, revision: Revision::from_bits(7).unwrap(), until: one.rig.now().plus(secs(60)) };
        assert_eq!(one.old.engine().add(&key, odd.clone(), Worth::Known).await, Ok(true));
        assert_eq!(copier.copy(&key).await.unwrap_err().kind, Kind::Corrupt, "{text}");
        assert_eq!(copier.bring(&key).await.unwrap_err().kind, Kind::Corrupt, "{text}");
        assert_eq!(one.old.engine().get(&key).await, Ok(Some(odd)));
    }
}

#[tokio::test]
async fn a_copy_of_one_that_was_touched_lives_as_long() {
    let one = Watched::new(Home::Old);
    let [old, new] = one.alone();
    let (copier, _) = one.copier();
    for moved in [false, true] {
        let token = old.begin(json!({"a": 1})).await;
        let key = Watched::key(&token);
        assert_eq!(copier.copy(&key).await, Ok(Fate::Done));
        let before = live(old.load(&token).await);
        let until = before.until.plus(secs(60));
        one.old.engine().touch(&key, before.revision, until).await.unwrap();
        if moved {
            copier.bring(&key).await.unwrap();
        } else {
            assert_eq!(copier.copy(&key).await, Ok(Fate::Already));
        }
        assert_eq!(live(new.load(&token).await).until, until);
    }
}

/// Somebody copies while it is saved or ended, and is as slow as can be.
#[tokio::test]
async fn a_copy_of_what_was_before_never_stays() {
    for first_look in [true, false] {
        for (ended_memory, directive) in
            [(3600, set(json!({"n": 1}))), (3600, Directive::Flush), (0, Directive::Flush)]
        {
            let one = Watched::new(Home::Old);
            let rig = one
                .rig
                .with(|config| (config.ended_memory, config.grace) = (length(ended_memory), length(0)));
            let token = rig.begin(json!({"n": 0})).await;
            let (copier, look) = one.copier();
            if !first_look {
                look.fail(Get, Fault::None);
            }
            let latch = Latch::new();
            look.fail(Get, Fault::DoneHold(latch.clone()));
            let key = Watched::key(&token);
            let slow = tokio::spawn(async move { copier.copy(&key).await });
            latch.reached().await;
            rig.request(&token, [directive.clone()]).await;
            latch.release();
            let fate = slow.await.unwrap().unwrap();
            let [_, new] = one.alone();
            if directive == Directive::Flush {
                assert_eq!(
                    (fate, new.load(&token).await),
                    (Fate::Ended, Found::No),
                    "{ended_memory}, {first_look}"
                );
            } else {
                assert_eq!((fate, new.data(&token).await), (Fate::Done, Some(json!({"n": 1}))));
            }
        }
    }
}

/// The new store is away, and has a copy of who logs out.
#[tokio::test(start_paused = true)]
async fn nobody_is_told_of_an_end_while_a_copy_may_stay() {
    let one = Watched::new(Home::Old);
    let token = one.copied().await;
    let found = one.rig.load(&token).await;
    (0..1000).for_each(|_| one.new.fail(Get, Fault::Unreachable));
    let failed = one.rig.commit(found, ask([Directive::Flush])).await.unwrap_err();
    assert!(matches!(failed, Failed::Store(error) if !error.kind.nothing_happened()));
    assert!(one.rig.store.load(&token, one.rig.now()).await.is_err(), "it has ended, and a copy is there");
    let healed = one.beside(Home::Old);
    let [_, new] = one.alone();
    assert!(matches!(new.load(&token).await, Found::Live(_)));
    assert!(matches!(healed.rig.load(&token).await, Found::Ended(_)));
    assert_eq!(new.load(&token).await, Found::No);
}

/// Two media forget by themselves what has expired, at whatever moment that is.
#[tokio::test]
async fn no_copy_comes_back_although_the_old_store_forgets_it_at_once() {
    let short = Directive::Expiry(Wish::So(Expiry::Idle(1)));
    for (directive, row) in [(Directive::Flush, Row::Flush), (short, Row::Save)] {
        let one = Watched::new(Home::Old);
        let (token, rig) = (one.copied().await, one.rig.with(|config| config.ended_memory = length(1)));
        let found = rig.load(&token).await;
        let latch = Latch::new();
        one.old.fail(Replace, Fault::DoneHold(latch.clone()));
        let (commit, ()) = tokio::join!(rig.commit(found, ask([directive])), one.forget_during(&latch));
        assert_eq!(commit.unwrap().row, row);
        for rig in [&one.rig, &one.beside(Home::New).rig].into_iter().chain(&one.alone()) {
            assert_eq!(rig.load(&token).await, Found::No, "{row:?}");
        }
    }
}

/// The same where somebody finds it ended, whose end left a copy.
#[tokio::test(start_paused = true)]
async fn nobody_is_told_of_an_end_that_is_forgotten_while_a_copy_may_stay() {
    let one = Watched::new(Home::Old);
    let (token, rig) = (one.copied().await, one.rig.with(|config| config.ended_memory = length(1)));
    let found = rig.load(&token).await;
    (0..1000).for_each(|_| one.new.fail(Get, Fault::Unreachable));
    rig.commit(found, ask([Directive::Flush])).await.unwrap_err();
    let healed = one.beside(Home::Old);
    let latch = Latch::new();
    healed.old.fail(Get, Fault::DoneHold(latch.clone()));
    let (found, ()) = tokio::join!(healed.rig.load(&token), one.forget_during(&latch));
    assert!(matches!(found, Found::Ended(_)));
    let [_, new] = one.alone();
    assert_eq!(new.load(&token).await, Found::No);
}

/// A touch that seals anew keeps the revision, and meanwhile another sidecar moves the session.
#[tokio::test]
async fn one_that_moves_while_it_is_sealed_anew_is_no_copy_of_what_was_before() {
    let one = Watched::new(Home::Old);
    let token = one.rig.begin(json!({"user_id": 1})).await;
    let key = Watched::key(&token);
    let there = one.old.engine().get(&key).await.unwrap().unwrap();
    let (seen, again) = (there.revision, Stored { until: there.until.plus(secs(60)), ..there });
    let engine = Moving::new(one.old.clone(), one.new.clone(), Home::Old, one.rig.clock.clone(), counter());
    let latch = Latch::new();
    one.old.fail(Replace, Fault::DoneHold(latch.clone()));
    let (copier, _) = one.copier();
    let (swap, fate) = tokio::join!(engine.replace(&key, seen, again, Worth::Known), async {
        latch.reached().await;
        let fate = copier.bring(&key).await;
        latch.release();
        fate
    });
    assert_eq!((swap, fate), (Ok(Swap::Done), Ok(Fate::Done)));
    let [_, new] = one.alone();
    assert_eq!(new.data(&token).await, Some(json!({"user_id": 1})));
}

#[tokio::test]
async fn a_logout_ends_it_in_both() {
    for home in [Home::Old, Home::New] {
        let one = Watched::new(home);
        let [old, new] = one.alone();
        let token = old.begin(json!({"user_id": 1})).await;
        let (copier, _) = one.copier();
        copier.copy(&Watched::key(&token)).await.unwrap();
        assert_eq!(one.rig.request(&token, [Directive::Flush]).await.row, Row::Flush);
        for rig in [&one.rig, &one.beside(Home::Old).rig, &one.beside(Home::New).rig, &old, &new] {
            assert!(!matches!(rig.load(&token).await, Found::Live(_)));
        }
        assert_eq!(copier.copy(&Watched::key(&token)).await, Ok(Fate::Ended));
    }
}
