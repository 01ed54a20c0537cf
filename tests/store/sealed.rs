//! `store.encryption_keys`: what a store makes of records that are sealed, not sealed, or sealed by somebody else.

use bytes::Bytes;
use coatroom::session::{Directive, Found, Key, Row, Token};
use coatroom::store::engine::{Engine, Stored, Swap, Worth};
use coatroom::store::memory::Memory;
use coatroom::store::{Kind, Unsealed};
use serde_json::json;

use super::spy::Op::{Get, Replace, Touch};
use super::spy::{Fault, Spy};
use super::support::{AGE, Rig, ask, live, memory, secs, set};

/// A sidecar without keys, and what lies in its memory.
fn shelf() -> (Spy<Memory>, Rig) {
    let spy = Spy::new(memory());
    (spy.clone(), Rig::over(spy).with(|config| config.save_every_request = true))
}

async fn stored(spy: &Spy<Memory>, key: &Key) -> Stored {
    spy.engine().get(key).await.unwrap().expect("it is there")
}

fn key_of(token: &Token) -> Key {
    Key::of("", token)
}

/// What kind of illness keeps a session from being read.
async fn ill(rig: &Rig, token: &Token) -> Kind {
    let error = rig.store.load(token, rig.now()).await.expect_err("it can't be read");
    assert!(error.detail.contains(&key_of(token).to_string()), "{error}");
    error.kind
}

/// Does the engine hold it sealed, and by the same key as another value?
fn sealed_alike(one: &Bytes, other: &Bytes) -> bool {
    one.starts_with(b"s1") && one[..6] == other[..6]
}

#[tokio::test]
async fn a_fleet_that_changes_its_keys_one_by_one_logs_nobody_out() {
    let (_, rig) = shelf();
    // Each sidecar of the two goes through the steps of the README, one behind the other: on, to another key, off.
    let steps: [(&[u8], Unsealed); 10] = [
        (&[], Unsealed::Read),
        (&[1], Unsealed::Write),
        (&[1], Unsealed::Read),
        (&[1], Unsealed::Refuse),
        (&[1, 2], Unsealed::Refuse),
        (&[2, 1], Unsealed::Refuse),
        (&[2], Unsealed::Refuse),
        (&[2], Unsealed::Read),
        (&[2], Unsealed::Write),
        (&[], Unsealed::Read),
    ];
    let token = rig.begin(json!({"n": 0})).await;
    let mut fleet = [rig.clone(), rig.clone()];
    let mut n = 0;
    for (keys, unsealed) in steps {
        for at in 0..fleet.len() {
            fleet[at] = rig.sealing(keys, unsealed);
            for sidecar in &fleet {
                assert_eq!(sidecar.data(&token).await, Some(json!({"n": n})), "{keys:?} {unsealed:?}");
                n += 1;
                sidecar.request(&token, [set(json!({"n": n}))]).await;
            }
        }
    }
}

#[tokio::test]
async fn a_session_that_is_only_read_is_sealed_anew_when_its_life_is_prolonged() {
    for (before, now) in [(&[][..], &[1][..]), (&[1], &[2, 1]), (&[2], &[1, 2])] {
        let (spy, rig) = shelf();
        let token = rig.sealing(before, Unsealed::Read).begin(json!({"a": 1})).await;
        let (rig, last) = (rig.sealing(now, Unsealed::Read), rig.sealing(&now[..1], Unsealed::Refuse));
        let mine = stored(&spy, &key_of(&rig.begin(json!({"b": 1})).await)).await;
        let (was, read) = (stored(&spy, &key_of(&token)).await, live(rig.load(&token).await));
        assert!(!sealed_alike(&was.value, &mine.value));
        assert!(last.store.load(&token, rig.now()).await.is_err());
        rig.wait(secs(600));
        spy.calls();
        assert_eq!(rig.request(&token, []).await.row, Row::Touch);
        assert_eq!(spy.calls(), [Get, Replace]);
        let (is, reads) = (stored(&spy, &key_of(&token)).await, live(last.load(&token).await));
        assert!(sealed_alike(&is.value, &mine.value));
        assert_eq!((is.revision, is.until), (was.revision, was.until.plus(secs(600))));
        assert_eq!((reads.record, reads.history, reads.revision), (read.record, read.history, read.revision));
        rig.wait(secs(600));
        spy.calls();
        assert_eq!(last.request(&token, []).await.row, Row::Touch);
        assert_eq!(spy.calls(), [Get, Touch], "when no key changes a touch is one again");
    }
}

#[tokio::test]
async fn a_seal_anew_whose_answer_was_lost_is_sent_again_and_never_undoes_a_change() {
    let (spy, rig) = shelf();
    let token = rig.sealing(&[1], Unsealed::Read).begin(json!({"n": 0})).await;
    let (rig, sound) = (rig.sealing(&[2, 1], Unsealed::Read), Rig::over(spy.sound()).by_the_clock_of(&rig));
    let sound = sound.sealing(&[2, 1], Unsealed::Read);
    rig.wait(secs(600));
    let found = rig.load(&token).await;
    spy.calls();
    spy.fail(Replace, Fault::DoneBroken);
    assert_eq!(rig.commit(found, ask([])).await.unwrap().row, Row::Touch);
    assert_eq!(spy.calls(), [Replace, Replace]);
    rig.wait(secs(600));
    let found = rig.load(&token).await;
    spy.calls();
    spy.fail(Replace, Fault::Full);
    assert_eq!(rig.commit(found, ask([])).await.unwrap().row, Row::Touch);
    assert_eq!(spy.calls(), [Replace, Touch], "to live on needs no room");
    rig.wait(secs(600));
    let found = rig.load(&token).await;
    let late = spy.hold(Replace);
    let touch = tokio::spawn({
        let rig = rig.clone();
        async move { rig.commit(found, ask([])).await }
    });
    late.reached().await;
    sound.request(&token, [set(json!({"n": 1}))]).await;
    late.release();
    touch.await.unwrap().unwrap();
    assert_eq!(sound.data(&token).await, Some(json!({"n": 1})));
}

#[tokio::test]
async fn a_record_of_an_unknown_key_is_an_error_for_its_session_alone_and_is_kept() {
    let (spy, rig) = shelf();
    let (before, after) = (rig.sealing(&[1], Unsealed::Read), rig.sealing(&[2], Unsealed::Read));
    let (theirs, ours) = (before.begin(json!({"a": 1})).await, after.begin(json!({"b": 2})).await);
    let cycled = before.begin(json!({"c": 3})).await;
    before.request(&cycled, [Directive::CycleKey]).await;
    let was = stored(&spy, &key_of(&theirs)).await;
    for token in [&theirs, &cycled] {
        assert_eq!(ill(&after, token).await, Kind::UnknownKey);
        assert_eq!(ill(&rig, token).await, Kind::UnknownKey, "without keys too");
    }
    assert_eq!(after.data(&ours).await, Some(json!({"b": 2})));
    assert_eq!(stored(&spy, &key_of(&theirs)).await, was);
    assert_eq!(before.data(&theirs).await, Some(json!({"a": 1})), "with its key it is there again");
    rig.wait(AGE);
    assert_eq!(after.load(&theirs).await, Found::No, "to end it takes no key");
    assert_eq!(rig.counts.expiries.get(), 1);
}

#[tokio::test]
async fn what_is_sealed_is_counted_when_it_expires_without_any_key() {
    let (_, rig) = shelf();
    let sealing = rig.sealing(&[1], Unsealed::Read);
    sealing.begin(json!({"a": 1})).await;
    let ended = sealing.begin(json!({"a": 1})).await;
    sealing.request(&ended, [Directive::Flush]).await;
    rig.wait(AGE * 24);
    let cleared = rig.store.clear_expired(rig.now(), 10).await.unwrap();
    assert_eq!((cleared.removed, cleared.sessions), (2, 1));
}

/// Whoever can write to the medium, but has no key.
#[tokio::test]
async fn who_writes_to_the_medium_can_neither_move_a_record_nor_make_one_up() {
    let (spy, rig) = shelf();
    let sealing = rig.sealing(&[1], Unsealed::Refuse);
    let (admin, visitor) = (sealing.begin(json!({"user_id": 1})).await, sealing.begin(json!({"n": 1})).await);
    let (good, own) = (stored(&spy, &key_of(&admin)).await, stored(&spy, &key_of(&visitor)).await);
    let put = async |value: Stored| {
        let seen = stored(&spy, &key_of(&visitor)).await.revision;
        let swap = spy.engine().replace(&key_of(&visitor), seen, value, Worth::Known).await;
        assert_eq!(swap, Ok(Swap::Done));
    };
    put(good.clone()).await;
    assert_eq!(ill(&sealing, &visitor).await, Kind::Corrupt);
    // A visitor knows the key that their own token has.
    let made_up = rig.begin(json!({"user_id": 1})).await;
    let record = live(rig.load(&made_up).await).record;
    let plain = coatroom::store::codec::native::encode(
        &key_of(&visitor),
        &coatroom::session::record::Entry::Live(record),
        &[None; 3],
    );
    put(Stored { value: plain, ..own.clone() }).await;
    assert_eq!(ill(&sealing, &visitor).await, Kind::Unsealed);
    let lenient = rig.sealing(&[1], Unsealed::Read);
    assert_eq!(
        lenient.data(&visitor).await,
        Some(json!({"user_id": 1})),
        "so \"read\" is for the change only"
    );
    put(own).await;
    assert_eq!(sealing.data(&visitor).await, Some(json!({"n": 1})));
    // Two products on one medium, and the same key of both.
    let shop = sealing.with(|config| config.realm = "shop".to_owned());
    assert_eq!(spy.engine().add(&Key::of("shop", &admin), good, Worth::Known).await, Ok(true));
    assert_eq!(shop.store.load(&admin, rig.now()).await.unwrap_err().kind, Kind::Corrupt);
}

#[tokio::test]
async fn records_that_need_a_key_of_before_are_counted() {
    let (_, rig) = shelf();
    let (old, seals) = (rig.sealing(&[1], Unsealed::Read), &rig.counts.old_seals);
    let token = old.begin(json!({"a": 1})).await;
    old.data(&token).await;
    assert_eq!(seals.get(), 0);
    let new = rig.sealing(&[2, 1], Unsealed::Read);
    for n in 1..=3 {
        new.data(&token).await;
        assert_eq!(seals.get(), n);
    }
    new.request(&token, [set(json!({"a": 2}))]).await;
    let before = seals.get();
    new.data(&token).await;
    assert_eq!(seals.get(), before);
    let plain = rig.begin(json!({"a": 1})).await;
    new.data(&plain).await;
    assert_eq!(seals.get(), before + 1, "not sealed at all");
}

#[tokio::test]
async fn a_write_of_unknown_outcome_over_a_record_of_an_unknown_key_stays_unknown() {
    let (spy, rig) = shelf();
    let (ours, theirs) = (rig.sealing(&[1], Unsealed::Read), rig.sealing(&[2, 1], Unsealed::Read));
    let token = ours.begin(json!({"n": 0})).await;
    let found = ours.load(&token).await;
    let latch = super::spy::Latch::new();
    spy.fail(Replace, Fault::DoneHoldBroken(latch.clone()));
    let save = tokio::spawn({
        let ours = ours.clone();
        async move { ours.commit(found, ask([set(json!({"n": 1}))])).await }
    });
    latch.reached().await;
    theirs.request(&token, [set(json!({"m": 1}))]).await;
    latch.release();
    let failed = save.await.unwrap().unwrap_err();
    let coatroom::store::Failed::Store(error) = failed else { panic!("{failed:?}") };
    assert_eq!(error.kind, Kind::OutcomeUnknown);
    assert!(error.detail.contains("which is not in store.encryption_keys"), "{error}");
}
