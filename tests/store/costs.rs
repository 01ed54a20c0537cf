//! What each request costs the store, call by call: a promise as much as what it does.

use coatroom::session::directive::Wish;
use coatroom::session::policy::Interval;
use coatroom::session::{Asked, Denied, Directive, Expiry, Found, Row, Token};
use coatroom::store::Failed;
use coatroom::store::memory::Memory;
use serde_json::json;

use super::spy::Op::{self, Add, Get, Remove, Replace, Touch};
use super::spy::Spy;
use super::support::{AGE, Rig, ask, delete, length, live, memory, only_if, secs, set};

fn watched() -> (Spy<Memory>, Rig) {
    let spy = Spy::new(memory());
    (spy.clone(), Rig::over(spy))
}

/// What a commit of what was loaded costs.
async fn cost(
    spy: &Spy<Memory>,
    rig: &Rig,
    token: &Token,
    directives: impl IntoIterator<Item = Directive>,
) -> (Row, Vec<Op>) {
    let found = rig.load(token).await;
    spy.calls();
    let row = rig.commit(found, ask(directives)).await.unwrap().row;
    (row, spy.calls())
}

#[tokio::test]
async fn a_load_is_one_get_be_it_of_a_live_an_unknown_or_a_flushed_token() {
    let (spy, rig) = watched();
    let token = rig.begin(json!({"a": 1})).await;
    spy.calls();
    rig.load(&token).await;
    assert_eq!(spy.calls(), [Get]);
    rig.load(&Token::from_bits(&[3; 20])).await;
    assert_eq!(spy.calls(), [Get]);
    rig.request(&token, [Directive::Flush]).await;
    spy.calls();
    rig.load(&token).await;
    assert_eq!(spy.calls(), [Get]);
}

#[tokio::test]
async fn a_load_of_an_old_token_is_a_get_of_it_and_of_its_successor() {
    let (spy, rig) = watched();
    let token = rig.begin(json!({"a": 1})).await;
    rig.request(&token, [Directive::CycleKey]).await;
    spy.calls();
    rig.load(&token).await;
    assert_eq!(spy.calls(), [Get, Get]);
    rig.wait(secs(10));
    rig.load(&token).await;
    assert_eq!(spy.calls(), [Get], "after the grace its successor is nobody's affair");
}

#[tokio::test]
async fn a_load_of_an_expired_session_removes_it() {
    let (spy, rig) = watched();
    let token = rig.begin(json!({"a": 1})).await;
    rig.wait(AGE);
    spy.calls();
    rig.load(&token).await;
    assert_eq!(spy.calls(), [Get, Remove]);
}

#[tokio::test]
async fn a_stranger_who_stores_nothing_costs_nothing() {
    let (spy, rig) = watched();
    for asked in
        [Asked::default(), ask([]), ask([Directive::Flush]), ask([delete("a")]), ask([Directive::CycleKey])]
    {
        for found in [Found::No, Found::Ambiguous] {
            rig.commit(found, asked.clone()).await.unwrap();
        }
    }
    assert_eq!(spy.calls(), []);
}

#[tokio::test]
async fn a_request_that_changes_nothing_costs_no_more_than_its_load() {
    let (spy, rig) = watched();
    let token = rig.begin(json!({"a": 1})).await;
    for nothing in [
        vec![],
        vec![delete("zz")],
        vec![Directive::SetDefault(super::support::map(json!({"a": 2})))],
        vec![Directive::Merge(super::support::map(json!({"zz": null})))],
        vec![Directive::TestCookie(false)],
    ] {
        assert_eq!(cost(&spy, &rig, &token, nothing).await, (Row::Nothing, vec![]));
    }
}

#[tokio::test]
async fn a_new_session_is_one_add() {
    let (spy, rig) = watched();
    rig.begin(json!({"a": 1})).await;
    assert_eq!(spy.calls(), [Add]);
}

#[tokio::test]
async fn a_save_is_one_replace_without_a_second_reading() {
    let (spy, rig) = watched();
    let token = rig.begin(json!({"a": 1})).await;
    assert_eq!(cost(&spy, &rig, &token, [set(json!({"a": 2}))]).await, (Row::Save, vec![Replace]));
    let idle = Directive::Expiry(Wish::So(Expiry::Idle(60)));
    assert_eq!(cost(&spy, &rig, &token, [idle]).await, (Row::Save, vec![Replace]));
    assert_eq!(cost(&spy, &rig, &token, [Directive::Clear]).await, (Row::Save, vec![Replace]));
}

#[tokio::test]
async fn a_save_that_met_another_is_read_and_written_once_more() {
    let (spy, rig) = watched();
    let token = rig.begin(json!({"a": 1})).await;
    let found = rig.load(&token).await;
    rig.beside().request(&token, [set(json!({"b": 1}))]).await;
    spy.calls();
    rig.commit(found, ask([set(json!({"c": 1}))])).await.unwrap();
    assert_eq!(spy.calls(), [Replace, Get, Replace]);
    assert_eq!(rig.counts.conflicts.get(), 1);
}

#[tokio::test]
async fn a_touch_is_one_touch_and_within_the_interval_none() {
    let (spy, rig) = watched();
    let rig = rig.with(|config| {
        config.save_every_request = true;
        config.touch_interval = Interval::Every(length(60));
    });
    let token = rig.begin(json!({"a": 1})).await;
    rig.wait(secs(59));
    assert_eq!(cost(&spy, &rig, &token, []).await, (Row::Touch, vec![]));
    rig.wait(secs(1));
    assert_eq!(cost(&spy, &rig, &token, []).await, (Row::Touch, vec![Touch]));
}

#[tokio::test]
async fn a_cycle_is_an_add_and_then_a_replace() {
    let (spy, rig) = watched();
    let token = rig.begin(json!({"a": 1})).await;
    let (row, calls) = cost(&spy, &rig, &token, [Directive::CycleKey]).await;
    assert!(matches!(row, Row::CycleKey(_)));
    assert_eq!(calls, [Add, Replace]);
}

#[tokio::test]
async fn a_session_of_its_own_from_an_old_token_is_an_add_and_a_look_at_who_goes_on() {
    let (spy, rig) = watched();
    let token = rig.begin(json!({"a": 1})).await;
    rig.request(&token, [Directive::CycleKey]).await;
    let (row, calls) = cost(&spy, &rig, &token, [Directive::CycleKey]).await;
    assert_eq!((row, calls), (Row::EndedCycleKey, vec![Add, Get]));
}

#[tokio::test]
async fn a_flush_is_one_replace_and_with_data_an_add_before_it() {
    let (spy, rig) = watched();
    let token = rig.begin(json!({"a": 1})).await;
    assert_eq!(cost(&spy, &rig, &token, [Directive::Flush]).await, (Row::Flush, vec![Replace]));
    let token = rig.begin(json!({"a": 1})).await;
    let with_data = [Directive::Flush, set(json!({"b": 1}))];
    assert_eq!(cost(&spy, &rig, &token, with_data).await, (Row::FlushWithData, vec![Add, Replace]));
}

#[tokio::test]
async fn without_a_memory_of_ended_tokens_a_flush_is_one_remove() {
    let (spy, rig) = watched();
    let rig = rig.with(|config| config.ended_memory = length(0));
    let token = rig.begin(json!({"a": 1})).await;
    assert_eq!(cost(&spy, &rig, &token, [Directive::Flush]).await, (Row::Flush, vec![Remove]));
    assert_eq!(rig.load(&token).await, Found::No);
}

#[tokio::test]
async fn a_change_to_a_flushed_session_costs_its_replace_and_a_reading() {
    let (spy, rig) = watched();
    let token = rig.begin(json!({"a": 1})).await;
    let slow = rig.load(&token).await;
    rig.request(&token, [Directive::Flush]).await;
    spy.calls();
    rig.commit(slow, ask([set(json!({"a": 2}))])).await.unwrap();
    assert_eq!(spy.calls(), [Replace, Get]);
}

/// What a request has read may be old by now; before it is denied, the store is asked.
#[tokio::test]
async fn nobody_is_denied_on_a_reading_of_before() {
    let (spy, rig) = watched();
    let token = rig.begin(json!({"n": "text"})).await;
    let old = rig.load(&token).await;
    rig.beside().request(&token, [set(json!({"n": 1}))]).await;
    let newer = live(rig.load(&token).await).revision;
    spy.calls();
    let add = || Directive::Increment(vec![("n".to_owned(), 1)]);
    assert_eq!(rig.commit(old.clone(), only_if(newer, [add()])).await.unwrap().row, Row::Save);
    assert_eq!(spy.calls(), [Get, Replace]);
    assert_eq!(rig.commit(old.clone(), ask([add()])).await.unwrap().row, Row::Save);
    spy.calls();
    let denied = rig.commit(old, only_if(newer, [add()])).await;
    assert_eq!((denied, spy.calls()), (Err(Failed::Denied(Denied::Conflict)), vec![Get]));
}
