//! One of a fleet clears for all: the lease, in whatever engine.

use coatroom::store::engine::{Cleared, Engine};
use serde_json::json;

use super::support::{AGE, Rig, length, secs};

/// One has it, the others don't; it is had on, and ends by itself.
async fn one_at_a_time(engine: impl Engine) {
    let rig = Rig::over(engine);
    let (one, other) = (rig.beside(), rig.beside());
    let lease = async |rig: &Rig, had| rig.store.lease(had, rig.now(), secs(60)).await.unwrap();
    let mine = lease(&one, None).await;
    assert!(mine.is_some());
    assert_eq!(lease(&other, None).await, None);
    rig.wait(secs(59));
    let again = lease(&one, mine).await;
    assert!(again.is_some() && again != mine);
    rig.wait(secs(59));
    assert_eq!(lease(&other, None).await, None, "it was renewed");
    assert_eq!(lease(&one, mine).await, None, "what was renewed is not had twice");
    rig.wait(secs(1));
    let others = lease(&other, None).await;
    assert!(others.is_some(), "nobody waits for one that has gone");
    assert_eq!(lease(&one, again).await, None, "and who comes back is too late");
}

/// It is no session, nor the memory of one: it is in nobody's way, and nobody counts it.
async fn it_is_no_session(engine: impl Engine) {
    let rig = Rig::over(engine);
    rig.begin(json!({"a": 1})).await;
    assert!(rig.store.lease(None, rig.now(), secs(60)).await.unwrap().is_some());
    let cleared = rig.store.clear_expired(rig.now().plus(AGE), 100).await.unwrap();
    assert_eq!(cleared, Cleared { removed: 2, sessions: 1, more: false });
    assert_eq!(rig.counts.expiries.get(), 1);
}

/// Whoever wants to look at what has expired: nobody can read it, and it stays for so long.
async fn what_has_expired_is_kept(engine: impl Engine) {
    let rig = Rig::over(engine).with(|config| config.keep_expired = length(3600));
    let token = rig.begin(json!({"a": 1})).await;
    rig.wait(AGE);
    assert_eq!(rig.data(&token).await, None);
    assert_eq!(rig.counts.expiries.get(), 0, "it is counted when it goes");
    rig.wait(secs(3599));
    assert_eq!(rig.data(&token).await, None);
    let cleared = |cleared: Cleared| cleared.removed;
    let kept = rig.store.clear_expired(rig.now().minus(secs(3600)), 100).await.unwrap();
    assert_eq!(cleared(kept), 0);
    rig.wait(secs(1));
    assert_eq!(rig.data(&token).await, None);
    assert_eq!(rig.counts.expiries.get(), 1, "found when its time was over too");
}

macro_rules! each {
    ($($name:ident $engine:expr,)+) => {$(
        mod $name {
            #[tokio::test]
            async fn one_at_a_time() {
                super::one_at_a_time($engine).await;
            }

            #[tokio::test]
            async fn it_is_no_session() {
                super::it_is_no_session($engine).await;
            }

            #[tokio::test]
            async fn what_has_expired_is_kept() {
                super::what_has_expired_is_kept($engine).await;
            }
        }
    )+};
}

each! {
    memory crate::store::support::memory(),
    file crate::store::file::file(),
}
