//! What every [`Store`] must do: Django's semantics, and the races of the contract's section 5 (in [`super::races`]).
//! One line of [`store_suite!`] for each engine that a store is made of.
//!
//! The semantics are those that `SessionTestsMixin` of Django 5.2 (`tests/sessions_tests/tests.py`) holds its engines
//! to. Each of its cases exists twice there, the second time for `async`; the sidecar has only that.
//!
//! | Django's case | our test, or why it has no meaning here |
//! | --- | --- |
//! | `test_new_session` | [`a_request_that_asks_nothing_leaves_no_trace`] |
//! | `test_get_empty` | [`a_session_that_nobody_began_is_empty`] |
//! | `test_store` | [`what_is_set_is_read_by_the_next_request`] |
//! | `test_pop` | [`a_deleted_entry_is_gone_and_the_others_stay`] |
//! | `test_pop_default`, `test_pop_default_named_argument` | [`deleting_what_is_not_there_is_no_change`]; the default is the backend's affair |
//! | `test_pop_no_default_keyerror_raised` | [`deleting_what_is_not_there_is_no_change`]: no error, on purpose (a directive is a wish, not an expression) |
//! | `test_setdefault` | [`set_default_sets_what_is_absent_and_leaves_what_is_there`] |
//! | `test_update` | [`what_is_set_is_read_by_the_next_request`], [`a_set_of_nothing_saves_as_update_does`] |
//! | `test_has_key`, `test_keys`, `test_values`, `test_items` | [`entries_keep_the_order_in_which_they_came`]; reading changes nothing: [`a_request_that_asks_nothing_leaves_no_trace`] |
//! | `test_clear` | [`clear_empties_a_session_and_keeps_it`] |
//! | `test_save` | [`what_is_set_is_read_by_the_next_request`], [`save_alone_saves_and_changes_the_version`] |
//! | `test_delete` | [`flush_ends_a_session_and_removes_the_cookie`] |
//! | `test_flush` | [`flush_ends_a_session_and_removes_the_cookie`], [`flush_with_data_begins_a_session_of_its_own`] |
//! | `test_cycle`, `test_cycle_with_no_session_cache` | [`cycle_key_keeps_the_data_under_a_new_token`]; there is no cache that a session could lack |
//! | `test_save_doesnt_clear_data` | [`saving_one_entry_keeps_the_others`] |
//! | `test_invalid_key` | [`a_made_up_token_is_never_adopted`] |
//! | `test_session_key_empty_string_invalid`, `…_too_short_invalid`, `…_valid_string_saved` | the grammar of tokens: `src/session/token.rs`, `what_is_outside_the_grammar_is_no_token` |
//! | `test_session_key_is_read_only` | no directive names a token, and `commit` takes none: the type says so |
//! | `test_default_expiry` | [`a_session_ends_an_age_after_its_last_change`], [`expiry_at_browser_close_still_ends_in_the_store`] |
//! | `test_custom_expiry_seconds` | [`an_idle_expiry_counts_from_the_last_change`] |
//! | `test_custom_expiry_timedelta`, `test_custom_expiry_datetime` | [`a_fixed_date_ends_a_session_whatever_changes`]; an ISO 8601 duration becomes a date in `wire` |
//! | `test_custom_expiry_reset` | [`an_expiry_is_reset_by_default_and_by_clear`] |
//! | `test_get_expire_at_browser_close` | [`expiry_at_browser_close_still_ends_in_the_store`]; all of its combinations: `src/session/expiry.rs` |
//! | `test_decode` | `src/store/codec/native.rs`, `every_entry_comes_back_with_every_history` |
//! | `test_decode_failure_logged_to_security`, `test_decode_serializer_exception` | `faults.rs`, `a_corrupt_record_is_an_error_and_is_kept`: Django reads `{}`, which logs a user out by a flipped bit |
//! | `test_actual_expiry` | [`an_expiry_that_has_passed_ends_a_session_at_once`], [`an_expired_session_is_absent_and_counted_once`] |
//! | `test_session_load_does_not_create_record` | [`a_made_up_token_is_never_adopted`] |
//! | `test_session_save_does_not_resurrect_session_logged_out_in_other_context` | [`super::races::a_flush_during_a_slow_request_is_final`] |
//!
//! Of the other classes: `test_clearsessions_command` is [`clearing_removes_expired_sessions_only`], `test_test_cookie`
//! is [`the_test_cookie_comes_and_goes`], `test_empty_session_saved` is [`clear_empties_a_session_and_keeps_it`],
//! `test_session_update_error_redirect` is [`a_change_to_a_gone_session_can_be_rejected`], and those of the middleware
//! are rows of the decision table (`src/session/plan.rs`). What is left is about Django's models, caches and files.

use std::collections::HashSet;

use coatroom::session::directive::Wish;
use coatroom::session::policy::{Interval, OnGone};
use coatroom::session::{Asked, Condition, Cookie, Denied, Directive, Expiry, Found, Lifetime, Row, Token};
use coatroom::store::Failed;
use coatroom::store::engine::Cleared;
use serde_json::{Value, json};

use super::support::{AGE, Rig, ask, delete, increment, length, live, map, only_if, secs, set};

/// Makes a test of each case, each on an engine of its own: `$engine` is a function whose future is one, `$settings`
/// makes other sidecars of the rigs.
macro_rules! store_suite {
    ($name:ident, $engine:expr) => {
        store_suite!($name, $engine, |rig| rig);
    };
    ($name:ident, $engine:expr, $settings:expr) => {
        store_suite!(@cases $name, $engine, $settings,
            store::a_session_that_nobody_began_is_empty
            store::a_request_that_asks_nothing_leaves_no_trace
            store::what_is_set_is_read_by_the_next_request
            store::a_set_of_nothing_saves_as_update_does
            store::entries_keep_the_order_in_which_they_came
            store::numbers_and_text_come_back_as_they_were
            store::a_deleted_entry_is_gone_and_the_others_stay
            store::deleting_what_is_not_there_is_no_change
            store::set_default_sets_what_is_absent_and_leaves_what_is_there
            store::saving_one_entry_keeps_the_others
            store::every_save_makes_a_new_version_and_reading_none
            store::save_alone_saves_and_changes_the_version
            store::clear_empties_a_session_and_keeps_it
            store::the_test_cookie_comes_and_goes
            store::flush_ends_a_session_and_removes_the_cookie
            store::flush_with_data_begins_a_session_of_its_own
            store::cycle_key_keeps_the_data_under_a_new_token
            store::a_made_up_token_is_never_adopted
            store::every_session_has_a_token_of_its_own
            store::two_realms_on_one_engine_cannot_read_each_other
            store::a_session_ends_an_age_after_its_last_change
            store::an_idle_expiry_counts_from_the_last_change
            store::a_fixed_date_ends_a_session_whatever_changes
            store::an_expiry_is_reset_by_default_and_by_clear
            store::expiry_at_browser_close_still_ends_in_the_store
            store::an_expiry_that_has_passed_ends_a_session_at_once
            store::an_expired_session_is_absent_and_counted_once
            store::clearing_removes_expired_sessions_only
            store::the_absolute_timeout_survives_cycle_key_and_flush_starts_anew
            store::a_touch_extends_life_once_an_interval_and_changes_no_version
            store::a_touch_never_moves_a_fixed_date
            store::a_change_to_a_gone_session_can_be_rejected
            store::a_change_under_a_version_that_is_no_more_is_a_conflict
            store::nothing_is_decided_for_an_ambiguous_or_unknown_session
            store::the_store_answers_a_ping
            races::n_changes_to_different_entries_all_count
            races::n_increments_of_one_entry_all_count
            races::n_increments_from_one_reading_all_count
            races::a_touch_never_undoes_a_save
            races::a_change_that_extends_nothing_never_undoes_a_touch
            races::of_n_changes_under_one_version_exactly_one_wins
            races::a_flush_during_a_slow_request_is_final
            races::a_flush_among_writers_is_final
            races::an_expiry_during_a_slow_request_is_final
            races::a_flushed_token_is_remembered_and_any_change_begins_anew
            races::an_old_token_reads_on_for_the_grace_of_a_cycle
            races::an_old_token_reads_nothing_if_the_user_is_another
            races::an_old_token_reads_nothing_if_its_successor_was_flushed
            races::a_change_under_an_old_token_is_dropped
            races::a_double_clicked_login_gives_both_a_session
            races::a_slow_login_keeps_what_it_read_when_the_grace_is_over
            races::an_entry_that_was_read_and_is_set_again_is_no_login
            races::a_flush_under_an_old_token_ends_the_chain
            races::a_logout_at_the_end_of_a_chain_holds_for_who_read_its_beginning
            races::a_cycle_key_from_what_an_old_token_read_never_outlives_a_logout
            races::a_flush_among_cycle_keys_under_an_old_token_is_final
            races::cycle_keys_and_writers_leave_exactly_one_live_token
        );
    };
    (@cases $name:ident, $engine:expr, $settings:expr, $($module:ident :: $case:ident)*) => {
        mod $name {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let settings: fn($crate::store::support::Rig) -> $crate::store::support::Rig = $settings;
                    let rig = settings($crate::store::support::Rig::over(($engine)().await));
                    $crate::store::$module::$case(rig).await;
                }
            )*
        }
    };
}

store_suite!(memory, || async { crate::store::support::memory() });
store_suite!(file, || async { crate::store::file::file() });
store_suite!(file_behind_memory, || async { crate::store::cached::file_behind_memory() });
store_suite!(postgres_behind_redis, || async { crate::store::cached::postgres_behind_redis() });
store_suite!(file_behind_redis, || async { crate::store::cached::file_behind_redis() });
store_suite!(redis, || async { crate::store::served::redis() });
store_suite!(sqlite, || async { crate::store::sql::sqlite() });
store_suite!(sealed_sqlite, || async { crate::store::sql::sqlite() }, |rig| {
    rig.sealing(&[1], coatroom::store::Unsealed::Refuse)
});
store_suite!(postgres, || async { crate::store::sql::postgres() });
store_suite!(mariadb, || async { crate::store::sql::mariadb() });
store_suite!(redis_over_tls, || async { crate::store::access::over_tls() });
store_suite!(redis_by_sentinel, || async { crate::store::sentinel::shared() });
store_suite!(redis_cluster, || async { crate::store::cluster::shared() });
store_suite!(redis_waiting_for_a_replica, || async { crate::store::sentinel::replicated() });
store_suite!(redis_as_an_acl_user, || async { crate::store::access::as_an_acl_user() });
store_suite!(memcached, || async { crate::store::served::memcached(1) });
store_suite!(three_memcached, || async { crate::store::served::memcached(3) });
store_suite!(sealed_memory, || async { crate::store::support::memory() }, |rig| {
    rig.sealing(&[2, 1], coatroom::store::Unsealed::Read)
});
store_suite!(sealed_redis, || async { crate::store::served::redis() }, |rig| {
    rig.sealing(&[1], coatroom::store::Unsealed::Refuse)
});

fn text(cookie: Cookie) -> &'static str {
    match cookie {
        Cookie::Leave => "leave",
        Cookie::Set(_) => "set",
        Cookie::Remove => "remove",
    }
}

/// Row and cookie in two words.
macro_rules! assert_outcome {
    ($outcome:expr, $row:expr, $cookie:literal) => {
        let outcome = &$outcome;
        assert_eq!((outcome.row, text(outcome.cookie)), ($row, $cookie));
    };
}

pub(crate) async fn a_session_that_nobody_began_is_empty(rig: Rig) {
    let token = Token::from_bits(&[7; 20]);
    assert_eq!(rig.load(&token).await, Found::No);
    assert_eq!(rig.data(&token).await, None);
}

pub(crate) async fn a_request_that_asks_nothing_leaves_no_trace(rig: Rig) {
    let token = rig.begin(json!({"a": 1})).await;
    let before = rig.load(&token).await;
    let outcome = rig.request(&token, []).await;
    assert_outcome!(outcome, Row::Nothing, "leave");
    assert_eq!(rig.load(&token).await, before, "version and end are those of before");
    let stranger = rig.commit(Found::No, Asked::default()).await.unwrap();
    assert_outcome!(stranger, Row::NothingToKeep, "leave");
    assert_eq!(stranger.minted, None, "who stores nothing gets no session");
}

pub(crate) async fn what_is_set_is_read_by_the_next_request(rig: Rig) {
    let first = rig.commit(Found::No, ask([set(json!({"cat": "dog"}))])).await.unwrap();
    assert_outcome!(first, Row::Create, "set");
    let token = first.minted.unwrap();
    assert_eq!(rig.data(&token).await, Some(json!({"cat": "dog"})));
    let second = rig.request(&token, [set(json!({"cat": "cow", "n": null}))]).await;
    assert_outcome!(second, Row::Save, "set");
    assert_eq!(second.minted, None, "the token stays");
    assert_eq!(rig.data(&token).await, Some(json!({"cat": "cow", "n": null})));
    assert_eq!(rig.beside().data(&token).await, Some(json!({"cat": "cow", "n": null})), "on any sidecar");
}

pub(crate) async fn a_set_of_nothing_saves_as_update_does(rig: Rig) {
    let token = rig.begin(json!({"a": 1})).await;
    rig.wait(secs(60));
    assert_outcome!(rig.request(&token, [set(json!({}))]).await, Row::Save, "set");
    assert_eq!(live(rig.load(&token).await).until, rig.now().plus(AGE));
}

pub(crate) async fn entries_keep_the_order_in_which_they_came(rig: Rig) {
    let token = rig.begin(json!({"z": 1, "m": 2})).await;
    rig.request(&token, [set(json!({"a": 3, "m": 4}))]).await;
    assert_eq!(live(rig.load(&token).await).record.data.text(), r#"{"z":1,"m":4,"a":3}"#);
}

pub(crate) async fn numbers_and_text_come_back_as_they_were(rig: Rig) {
    let json = r#"{"n":12345678901234567890.10,"e":"é\u0000\r\n😀","k e.y":[[],{"":null}],"b":true}"#;
    let data: Value = serde_json::from_str(json).unwrap();
    let token = rig.begin(data.clone()).await;
    assert_eq!(rig.data(&token).await, Some(data));
}

pub(crate) async fn a_deleted_entry_is_gone_and_the_others_stay(rig: Rig) {
    let token = rig.begin(json!({"some key": "exists", "b": 1})).await;
    assert_outcome!(rig.request(&token, [delete("some key")]).await, Row::Save, "set");
    assert_eq!(rig.data(&token).await, Some(json!({"b": 1})));
}

pub(crate) async fn deleting_what_is_not_there_is_no_change(rig: Rig) {
    let token = rig.begin(json!({"b": 1})).await;
    let before = rig.load(&token).await;
    assert_outcome!(rig.request(&token, [delete("some key")]).await, Row::Nothing, "leave");
    assert_eq!(rig.load(&token).await, before);
}

pub(crate) async fn set_default_sets_what_is_absent_and_leaves_what_is_there(rig: Rig) {
    let token = rig.begin(json!({"b": 1})).await;
    let first = rig.request(&token, [Directive::SetDefault(map(json!({"foo": "bar"})))]).await;
    assert_outcome!(first, Row::Save, "set");
    let second = rig.request(&token, [Directive::SetDefault(map(json!({"foo": "baz"})))]).await;
    assert_outcome!(second, Row::Nothing, "leave");
    assert_eq!(rig.data(&token).await, Some(json!({"b": 1, "foo": "bar"})));
}

pub(crate) async fn saving_one_entry_keeps_the_others(rig: Rig) {
    let token = rig.begin(json!({"a": {"deep": [1, 2]}})).await;
    rig.request(&token, [set(json!({"b": 1}))]).await;
    assert_eq!(rig.data(&token).await, Some(json!({"a": {"deep": [1, 2]}, "b": 1})));
}

pub(crate) async fn every_save_makes_a_new_version_and_reading_none(rig: Rig) {
    let token = rig.begin(json!({"a": 1})).await;
    let mut versions = HashSet::new();
    for n in 0..20 {
        let version = live(rig.load(&token).await).revision;
        assert_eq!(live(rig.load(&token).await).revision, version);
        assert!(versions.insert(version), "a version comes back");
        rig.request(&token, [set(json!({"a": n % 2}))]).await;
    }
}

pub(crate) async fn save_alone_saves_and_changes_the_version(rig: Rig) {
    let token = rig.begin(json!({"a": 1})).await;
    let before = live(rig.load(&token).await);
    rig.wait(secs(5));
    let mut asked = ask([]);
    asked.changes.save = true;
    let outcome = rig.commit(rig.load(&token).await, asked).await.unwrap();
    assert_outcome!(outcome, Row::Save, "set");
    let after = live(rig.load(&token).await);
    assert_ne!(after.revision, before.revision);
    assert_eq!((after.until, after.record.modified_at), (before.until.plus(secs(5)), rig.now()));
}

pub(crate) async fn clear_empties_a_session_and_keeps_it(rig: Rig) {
    let token = rig.begin(json!({"x": 1})).await;
    assert_outcome!(rig.request(&token, [Directive::Clear]).await, Row::Save, "set");
    assert_eq!(rig.data(&token).await, Some(json!({})));
    rig.request(&token, [set(json!({"y": 2}))]).await;
    assert_eq!(rig.data(&token).await, Some(json!({"y": 2})), "the same token goes on");
}

pub(crate) async fn the_test_cookie_comes_and_goes(rig: Rig) {
    let token = rig.commit(Found::No, ask([Directive::TestCookie(true)])).await.unwrap().minted.unwrap();
    assert_eq!(rig.data(&token).await, Some(json!({"testcookie": "worked"})));
    assert_outcome!(rig.request(&token, [Directive::TestCookie(false)]).await, Row::Save, "set");
    assert_eq!(rig.data(&token).await, Some(json!({})));
}

pub(crate) async fn flush_ends_a_session_and_removes_the_cookie(rig: Rig) {
    let token = rig.begin(json!({"user_id": 1})).await;
    let outcome = rig.request(&token, [Directive::Flush]).await;
    assert_outcome!(outcome, Row::Flush, "remove");
    assert_eq!(outcome.minted, None);
    assert_eq!(rig.data(&token).await, None);
    assert_eq!(rig.beside().data(&token).await, None);
}

pub(crate) async fn flush_with_data_begins_a_session_of_its_own(rig: Rig) {
    let token = rig.begin(json!({"user_id": 1, "secret": "theirs"})).await;
    let outcome = rig.request(&token, [Directive::Flush, set(json!({"message": "bye"}))]).await;
    assert_outcome!(outcome, Row::FlushWithData, "set");
    assert_eq!(rig.data(&outcome.minted.unwrap()).await, Some(json!({"message": "bye"})));
    assert_eq!(rig.data(&token).await, None);
}

pub(crate) async fn cycle_key_keeps_the_data_under_a_new_token(rig: Rig) {
    let rig = rig.with(|config| config.grace = length(0));
    let token = rig.begin(json!({"a": "c", "b": "d"})).await;
    let before = live(rig.load(&token).await);
    rig.wait(secs(5));
    let outcome = rig.request(&token, [Directive::CycleKey]).await;
    assert_eq!(text(outcome.cookie), "set");
    let fresh = outcome.minted.unwrap();
    assert_ne!(fresh, token);
    assert_eq!(rig.data(&token).await, None, "without a grace the old token reads nothing");
    let after = live(rig.load(&fresh).await);
    assert_eq!(after.record.data, before.record.data);
    assert_eq!(after.record.created_at, before.record.created_at);
    assert_ne!((after.key, after.revision), (before.key, before.revision));
}

pub(crate) async fn a_made_up_token_is_never_adopted(rig: Rig) {
    let forged = Token::from_bits(&[9; 20]);
    let empty = rig.request(&forged, []).await;
    assert_outcome!(empty, Row::NothingToKeep, "remove");
    let outcome = rig.request(&forged, [set(json!({"a": 1}))]).await;
    assert_outcome!(outcome, Row::Create, "set");
    assert_ne!(outcome.minted.unwrap(), forged);
    assert_eq!(rig.load(&forged).await, Found::No, "nothing was filed under it");
}

pub(crate) async fn every_session_has_a_token_of_its_own(rig: Rig) {
    let mut tokens = HashSet::new();
    for n in 0..500 {
        let token = rig.begin(json!({"n": n})).await;
        assert!(tokens.insert(token.expose().into_owned()));
    }
}

pub(crate) async fn two_realms_on_one_engine_cannot_read_each_other(rig: Rig) {
    let shop = rig.with(|config| config.realm = "shop".to_owned());
    let token = shop.begin(json!({"a": 1})).await;
    assert_eq!(rig.load(&token).await, Found::No);
    assert_eq!(rig.with(|config| config.realm = "sho".to_owned()).load(&token).await, Found::No);
    rig.request(&token, [Directive::Flush]).await;
    assert_eq!(shop.data(&token).await, Some(json!({"a": 1})), "nor end each other");
}

pub(crate) async fn a_session_ends_an_age_after_its_last_change(rig: Rig) {
    let token = rig.begin(json!({"a": 1})).await;
    assert_eq!(live(rig.load(&token).await).until, rig.now().plus(AGE));
    rig.wait(AGE - secs(1));
    assert!(rig.data(&token).await.is_some(), "reading");
    rig.request(&token, [set(json!({"a": 2}))]).await;
    rig.wait(AGE - secs(1));
    rig.request(&token, []).await;
    assert!(rig.data(&token).await.is_some(), "counted from the change");
    rig.wait(secs(1));
    assert_eq!(rig.load(&token).await, Found::No, "and reading was no activity");
}

pub(crate) async fn an_idle_expiry_counts_from_the_last_change(rig: Rig) {
    let idle = Directive::Expiry(Wish::So(Expiry::Idle(10)));
    let token = rig.commit(Found::No, ask([set(json!({"a": 1})), idle])).await.unwrap().minted.unwrap();
    assert_eq!(live(rig.load(&token).await).until, rig.now().plus(secs(10)));
    rig.wait(secs(9));
    let outcome = rig.request(&token, [set(json!({"a": 2}))]).await;
    assert_eq!(outcome.cookie, Cookie::Set(Lifetime::Until(rig.now().plus(secs(10)))));
    rig.wait(secs(9));
    assert_eq!(rig.data(&token).await, Some(json!({"a": 2})));
    rig.wait(secs(1));
    assert_eq!(rig.load(&token).await, Found::No);
}

pub(crate) async fn a_fixed_date_ends_a_session_whatever_changes(rig: Rig) {
    let date = rig.now().plus(secs(10));
    let fixed = Directive::Expiry(Wish::So(Expiry::At(date)));
    let token = rig.commit(Found::No, ask([fixed])).await.unwrap().minted.unwrap();
    rig.wait(secs(9));
    rig.request(&token, [set(json!({"a": 2}))]).await;
    assert_eq!(live(rig.load(&token).await).until, date);
    rig.wait(secs(1));
    assert_eq!(rig.load(&token).await, Found::No);
}

pub(crate) async fn an_expiry_is_reset_by_default_and_by_clear(rig: Rig) {
    let idle = || Directive::Expiry(Wish::So(Expiry::Idle(10)));
    let token = rig.begin(json!({"a": 1})).await;
    for reset in [Directive::Expiry(Wish::So(Expiry::Default)), Directive::Clear] {
        rig.request(&token, [idle()]).await;
        assert_eq!(live(rig.load(&token).await).record.expiry, Expiry::Idle(10));
        rig.request(&token, [reset]).await;
        let session = live(rig.load(&token).await);
        assert_eq!((session.record.expiry, session.until), (Expiry::Default, rig.now().plus(AGE)));
    }
}

pub(crate) async fn expiry_at_browser_close_still_ends_in_the_store(rig: Rig) {
    let token = rig.begin(json!({"a": 1})).await;
    let outcome = rig.request(&token, [Directive::Expiry(Wish::So(Expiry::Browser))]).await;
    assert_eq!(outcome.cookie, Cookie::Set(Lifetime::Browser));
    assert_eq!(live(rig.load(&token).await).until, rig.now().plus(AGE));
    let closing = rig.with(|config| config.expire_at_browser_close = true);
    let plain = rig.begin(json!({"a": 1})).await;
    assert_eq!(closing.request(&plain, [set(json!({}))]).await.cookie, Cookie::Set(Lifetime::Browser));
    let idle = closing.request(&plain, [Directive::Expiry(Wish::So(Expiry::Idle(10)))]).await;
    assert_eq!(idle.cookie, Cookie::Set(Lifetime::Until(rig.now().plus(secs(10)))));
}

pub(crate) async fn an_expiry_that_has_passed_ends_a_session_at_once(rig: Rig) {
    let past = || Directive::Expiry(Wish::Past);
    let token = rig.begin(json!({"foo": "bar"})).await;
    assert_outcome!(rig.request(&token, [past()]).await, Row::Past, "remove");
    assert_eq!(rig.data(&token).await, None);
    let unborn = rig.commit(Found::No, ask([set(json!({"foo": "bar"})), past()])).await.unwrap();
    assert_eq!((unborn.row, unborn.minted), (Row::NothingToKeep, None));
}

pub(crate) async fn an_expired_session_is_absent_and_counted_once(rig: Rig) {
    let token = rig.begin(json!({"a": 1})).await;
    let ended = rig.begin(json!({"a": 1})).await;
    rig.request(&ended, [Directive::Flush]).await;
    rig.wait(AGE);
    let (one, other) = (rig.clone(), rig.beside());
    let loads = (0..32).map(|n| {
        let rig = if n % 2 == 0 { one.clone() } else { other.clone() };
        let (token, ended) = (token.clone(), ended.clone());
        tokio::spawn(async move { (rig.load(&token).await, rig.load(&ended).await) })
    });
    for load in loads.collect::<Vec<_>>() {
        assert_eq!(load.await.unwrap(), (Found::No, Found::No));
    }
    assert!(rig.counts.expiries.get() <= 1, "the memory of an ended one is no session");
    rig.store.clear_expired(rig.now(), 100).await.unwrap();
    assert!(rig.counts.expiries.get() <= 1, "once");
    assert_outcome!(rig.request(&token, []).await, Row::NothingToKeep, "remove");
}

pub(crate) async fn clearing_removes_expired_sessions_only(rig: Rig) {
    let old = rig.begin(json!({"a": 1})).await;
    rig.wait(secs(60));
    let new = rig.begin(json!({"a": 1})).await;
    rig.wait(AGE - secs(60));
    let cleared = rig.store.clear_expired(rig.now(), 100).await.unwrap();
    assert!(cleared.removed <= 1);
    assert_eq!(rig.counts.expiries.get(), cleared.sessions as u64);
    assert_eq!((rig.data(&old).await, rig.data(&new).await), (None, Some(json!({"a": 1}))));
    assert_eq!(rig.store.clear_expired(rig.now(), 100).await.unwrap(), Cleared::default());
}

pub(crate) async fn the_absolute_timeout_survives_cycle_key_and_flush_starts_anew(rig: Rig) {
    let rig = rig.with(|config| config.absolute_timeout = length(5400));
    let mut token = rig.begin(json!({"a": 1})).await;
    let born = rig.now();
    for _ in 0..3 {
        rig.wait(secs(1500));
        token = rig.request(&token, [Directive::CycleKey]).await.minted.unwrap();
        let session = live(rig.load(&token).await);
        assert_eq!(session.record.created_at, born);
        assert!(session.until <= born.plus(secs(5400)));
    }
    rig.wait(secs(899));
    let flushed = rig.request(&token, [Directive::Flush, set(json!({"b": 1}))]).await.minted.unwrap();
    assert_eq!(live(rig.load(&flushed).await).until, rig.now().plus(AGE));
    let token = rig.begin(json!({"a": 1})).await;
    rig.wait(secs(3000));
    rig.request(&token, [set(json!({"a": 2}))]).await;
    rig.wait(secs(2400));
    assert_eq!(rig.load(&token).await, Found::No, "a save does not move it");
}

pub(crate) async fn a_touch_extends_life_once_an_interval_and_changes_no_version(rig: Rig) {
    let rig = rig.with(|config| {
        config.save_every_request = true;
        config.touch_interval = Interval::Every(length(60));
    });
    let token = rig.begin(json!({"a": 1})).await;
    let first = live(rig.load(&token).await);
    for (after, extended) in [(59, false), (1, true), (30, false), (29, false), (1, true)] {
        rig.wait(secs(after));
        let before = live(rig.load(&token).await);
        let outcome = rig.request(&token, []).await;
        let session = live(rig.load(&token).await);
        assert_outcome!(outcome, Row::Touch, "set");
        assert_eq!(outcome.cookie, Cookie::Set(Lifetime::Until(session.until)), "set every time");
        assert_eq!(session.until, if extended { rig.now().plus(AGE) } else { before.until });
        assert_eq!((session.revision, session.record), (first.revision, first.record.clone()));
    }
    let still = Asked { no_touch: true, ..ask([]) };
    rig.wait(secs(600));
    let before = rig.load(&token).await;
    let outcome = rig.commit(before.clone(), still).await.unwrap();
    assert_outcome!(outcome, Row::Nothing, "leave");
    assert_eq!(rig.load(&token).await, before, "a route that is no activity");
}

pub(crate) async fn a_touch_never_moves_a_fixed_date(rig: Rig) {
    let rig = rig.with(|config| config.save_every_request = true);
    let date = rig.now().plus(AGE / 2);
    let token = rig.begin(json!({"a": 1})).await;
    rig.request(&token, [Directive::Expiry(Wish::So(Expiry::At(date)))]).await;
    rig.wait(secs(600));
    assert_outcome!(rig.request(&token, []).await, Row::Touch, "set");
    assert_eq!(live(rig.load(&token).await).until, date);
}

pub(crate) async fn a_change_to_a_gone_session_can_be_rejected(rig: Rig) {
    let strict = rig.with(|config| config.on_gone = OnGone::Reject);
    let token = rig.begin(json!({"a": 1})).await;
    let slow = rig.load(&token).await;
    rig.request(&token, [Directive::Flush]).await;
    let gone = strict.commit(slow.clone(), ask([set(json!({"a": 2}))])).await;
    assert_eq!(gone, Err(Failed::Denied(Denied::Gone)));
    assert_outcome!(strict.commit(slow, ask([])).await.unwrap(), Row::Nothing, "leave");
}

pub(crate) async fn a_change_under_a_version_that_is_no_more_is_a_conflict(rig: Rig) {
    let token = rig.begin(json!({"n": 1})).await;
    let read = live(rig.load(&token).await);
    let found = || Found::Live(Box::new(read.clone()));
    let conflict = Err(Failed::Denied(Denied::Conflict));
    let add = || only_if(read.revision, [increment("n")]);
    assert_eq!(rig.commit(found(), add()).await.unwrap().row, Row::Save);
    assert_eq!(rig.commit(found(), add()).await, conflict, "what it read is no more");
    assert_eq!(rig.commit(rig.load(&token).await, add()).await, conflict);
    assert_eq!(rig.data(&token).await, Some(json!({"n": 2})), "all or nothing");
    let mut no_session = ask([set(json!({"n": 9}))]);
    no_session.changes.condition = Some(Condition::NoSession);
    assert_eq!(rig.commit(found(), no_session.clone()).await, conflict);
    assert_eq!(rig.commit(Found::No, no_session).await.unwrap().row, Row::Create);
    let now = live(rig.load(&token).await).revision;
    rig.request(&token, [Directive::Flush]).await;
    assert_eq!(rig.commit(found(), only_if(now, [increment("n")])).await, conflict, "gone is a conflict too");
}

pub(crate) async fn nothing_is_decided_for_an_ambiguous_or_unknown_session(rig: Rig) {
    for (found, row) in [(Found::Ambiguous, Row::Ambiguous), (Found::Unknown, Row::Unavailable)] {
        let outcome = rig.commit(found, ask([set(json!({"a": 1}))])).await.unwrap();
        assert_eq!((outcome.row, outcome.cookie, outcome.minted), (row, Cookie::Leave, None));
    }
    let flush = rig.commit(Found::Unknown, ask([Directive::Flush])).await;
    assert_eq!(flush, Err(Failed::Denied(Denied::Unavailable)), "a logout is never lost in silence");
}

pub(crate) async fn the_store_answers_a_ping(rig: Rig) {
    assert_eq!(rig.store.ping().await, Ok(()));
}
