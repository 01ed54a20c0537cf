//! The decision table of the contract.

use super::directive::{Changes, Condition, Cycle, Effect};
use super::expiry::Lifetime;
use super::policy::{OnGone, Policy};
use super::record::Record;
use super::refusal::Refusal;
use super::{Ended, Found, Live};
use crate::time::Timestamp;

/// What one response asks, and under which circumstances.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// Its directives.
    pub changes: Changes,
    /// The backend answered with a 5xx of its own.
    pub server_error: bool,
    /// The route is `no-touch`: nothing extends the session's life, no cookie is renewed.
    pub no_touch: bool,
    /// The client showed a cookie of our name, be it malformed.
    pub shown: bool,
}

/// The rows of the decision table. Their names are what `X-Coatroom-Decision` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Row {
    /// ambiguous · anything.
    Ambiguous,
    /// any · on a 5xx, neither flush nor cycle-key.
    ServerError,
    /// live · flush, no data after.
    Flush,
    /// live · flush, and data.
    FlushWithData,
    /// live · an expiry that has passed.
    Past,
    /// live · cycle-key, or an entry of `cycle_on`.
    CycleKey(Cycle),
    /// live · a change, or Save.
    Save,
    /// live, under a previous scope · nothing: the record moves to today's scope.
    Rescope,
    /// no · a change, some data after.
    Create,
    /// no · anything else.
    NothingToKeep,
    /// live, gone at commit, or ended · a change without flush: dropped.
    Gone,
    /// ended, or gone at commit · flush, no data after.
    EndedFlush,
    /// ended, or gone at commit · flush, and data.
    EndedFlushWithData,
    /// ended by cycle-key · cycle-key or an entry of `cycle_on`: a session of its own.
    EndedCycleKey,
    /// loaded as flushed · a change, some data after.
    EndedCreate,
    /// live · nothing, `save_every_request` on.
    Touch,
    /// any other · nothing.
    Nothing,
    /// the store could not say.
    Unavailable,
    /// no row: the directives were refused, and `headers.on_refused` let the response through.
    Refused,
}

impl Row {
    /// The row's name, for `X-Coatroom-Decision`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ambiguous => "ambiguous",
            Self::ServerError => "server-error",
            Self::Flush => "flush",
            Self::FlushWithData => "flush-with-data",
            Self::Past => "expiry-passed",
            Self::CycleKey(Cycle::Asked) => "cycle-key",
            Self::CycleKey(Cycle::Login) => "cycle-key-on-login",
            Self::Save => "save",
            Self::Rescope => "rescope",
            Self::Create => "create",
            Self::NothingToKeep => "nothing-to-keep",
            Self::Gone => "gone",
            Self::EndedFlush => "ended-flush",
            Self::EndedFlushWithData => "ended-flush-with-data",
            Self::EndedCycleKey => "ended-cycle-key",
            Self::EndedCreate => "ended-create",
            Self::Touch => "touch",
            Self::Nothing => "nothing",
            Self::Unavailable => "unavailable",
            Self::Refused => "refused",
        }
    }
}

/// What is to happen to the record that was found.
#[derive(Clone, Debug, PartialEq)]
pub enum Old {
    /// Nothing.
    Keep,
    /// Its end moves to this instant; data and version stay.
    Touch(Timestamp),
    /// It is replaced by this, which ends at that instant.
    Save(Box<Record>, Timestamp),
    /// It ends by flush. Of an ended token: what goes on after it ends.
    End,
    /// It ends with the new record as its successor.
    Cycle,
}

/// What is to happen to the cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cookie {
    /// Nothing is sent.
    Leave,
    /// The token of the new record, or else of the one that was found, is sent.
    Set(Lifetime),
    /// The browser is told to forget it.
    Remove,
}

/// What [`plan`] decided; somebody else executes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The row of the table.
    pub row: Row,
    /// What becomes of the record that was found.
    pub old: Old,
    /// The record to be created under a new token, and when it ends.
    pub new: Option<(Box<Record>, Timestamp)>,
    /// What the client is told.
    pub cookie: Cookie,
    /// It stands only for a session as it is by now, and who executes it looks anew first: what is written ends when the
    /// session that was read did, and a touch may have moved that since, which leaves no other trace; or nothing is to be
    /// written, under a condition.
    pub looks_anew: bool,
    /// It is, or would have been, a logout, a login or a new key: what nobody gives up in silence.
    pub vital: bool,
}

impl Plan {
    /// Does the store have nothing to do? Of a token that has ended it makes sure that it stays so.
    pub fn is_nothing(&self) -> bool {
        matches!((&self.old, &self.new), (Old::Keep, None)) && self.row != Row::EndedFlush && !self.looks_anew
    }

    const fn nothing(row: Row, cookie: Cookie) -> Self {
        Self { row, old: Old::Keep, new: None, cookie, looks_anew: false, vital: false }
    }

    fn end(row: Row, cookie: Cookie) -> Self {
        Self { old: Old::End, vital: true, ..Self::nothing(row, cookie) }
    }

    fn create(row: Row, old: Old, record: Record, until: Timestamp, policy: &Policy) -> Self {
        let cookie = Cookie::Set(policy.cookie(&record, until));
        Self { old, new: Some((Box::new(record), until)), ..Self::nothing(row, cookie) }
    }
}

/// Why nothing is applied and the client is told so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// A directive can't be obeyed.
    Refused(Refusal),
    /// `X-Session-If-Version` does not hold.
    Conflict,
    /// The session is gone and `session.on_gone` is `reject`.
    Gone,
    /// The store could not say, and the response asks for what must not be lost.
    Unavailable,
}

impl From<Refusal> for Denied {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Decides what becomes of a session: the decision table of the contract, tried from the top.
///
/// | found | the response asked | data after | store | cookie |
/// | --- | --- | --- | --- | --- |
/// | ambiguous | anything | – | nothing | leave |
/// | any | on a 5xx: neither flush nor cycle-key | – | nothing | leave |
/// | live | flush, no data after | empty | end | remove |
/// | live | flush, and data | some | end, create under a new token | set |
/// | live | an expiry that has passed | any | end | remove |
/// | live | cycle-key (also by `cycle_on`), any data | any | create under a new token, end the old with a successor | set |
/// | live | a change, or Save | any | save | set |
/// | no | a change | some | create under a new token | set |
/// | no | anything else | empty | nothing | remove if a token was shown, else leave |
/// | ended by cycle-key | flush | empty, some | end the successor; with data create | leave; set |
/// | ended by cycle-key | cycle-key (also by `cycle_on`) | any | create under a new token | set |
/// | ended by cycle-key | any other change | – | nothing; counted `gone` | leave |
/// | ended by flush | a change | some | create under a new token | set |
/// | live, gone at commit | a change without flush | – | nothing; counted `gone` | leave |
/// | live, gone at commit | flush, and data | some | create under a new token | set |
/// | live | nothing, `save_every_request` on | any | touch, at most every `touch_interval` | set, every time |
/// | live | nothing | any | nothing | leave |
/// | any other | nothing | – | nothing | leave |
///
/// It is pure, and is asked anew on the record as it then stands at every attempt to write.
///
/// # Errors
/// [`Denied`] where nothing is to be applied and the client must learn of it.
pub fn plan(found: &Found, asked: &Asked, policy: &Policy, now: Timestamp) -> Result<Plan, Denied> {
    let endings;
    let changes = if asked.server_error {
        endings = asked.changes.endings();
        if endings.is_none() {
            return Ok(Plan::nothing(Row::ServerError, Cookie::Leave));
        }
        &endings
    } else {
        &asked.changes
    };
    holds(changes.condition, found)?;
    match found {
        Found::Ambiguous => Ok(Plan::nothing(Row::Ambiguous, Cookie::Leave)),
        Found::Unknown => {
            let effect = changes.apply(None, policy, now)?;
            let lost = effect.flushed || effect.past || effect.cycle.is_some();
            if lost { Err(Denied::Unavailable) } else { Ok(Plan::nothing(Row::Unavailable, Cookie::Leave)) }
        }
        Found::Live(live) => {
            let plan = on_live(live, changes, asked.no_touch, policy, now)?;
            let looks_anew = plan.looks_anew || (changes.condition.is_some() && plan.row == Row::Nothing);
            Ok(Plan { looks_anew, ..plan })
        }
        Found::Ended(ended) => on_ended(Some(ended), true, changes, policy, now),
        Found::Gone(ended) => on_ended(ended.as_deref(), false, changes, policy, now),
        Found::No => {
            let forget = if asked.shown { Cookie::Remove } else { Cookie::Leave };
            let nothing = Plan::nothing(Row::NothingToKeep, forget);
            // Most requests of those who have no session.
            if changes.directives().is_empty() {
                return Ok(nothing);
            }
            let effect = changes.apply(None, policy, now)?;
            Ok(create(Row::Create, effect, policy, now).unwrap_or(nothing))
        }
    }
}

fn holds(condition: Option<Condition>, found: &Found) -> Result<(), Denied> {
    let loaded_flushed = |ended: &Ended| ended.successor.is_none();
    let holds = match (condition, found) {
        (None, _) => true,
        (Some(_), Found::Unknown) => return Err(Denied::Unavailable),
        (Some(Condition::Version(version)), Found::Live(live)) => version == Some(live.revision),
        (Some(Condition::NoSession), Found::No) => true,
        (Some(Condition::NoSession), Found::Ended(ended)) => loaded_flushed(ended),
        (Some(_), _) => false,
    };
    if holds { Ok(()) } else { Err(Denied::Conflict) }
}

fn on_live(
    live: &Live,
    changes: &Changes,
    no_touch: bool,
    policy: &Policy,
    now: Timestamp,
) -> Result<Plan, Denied> {
    let rescope = live.record.scope != policy.scope;
    if changes.is_none() && !rescope && (no_touch || !policy.save_every_request) {
        return Ok(Plan::nothing(Row::Nothing, Cookie::Leave));
    }
    let effect = changes.apply(Some(&live.record), policy, now)?;
    let until = |record: &Record| {
        let until = policy.until(record, now);
        if no_touch { until.min(live.until) } else { until }
    };
    // Without touches an end moves with the revision.
    let looks_anew = |until: Timestamp| no_touch && policy.save_every_request && until == live.until;
    let record = effect.record;
    if effect.flushed {
        if effect.past || record.is_empty() {
            return Ok(Plan::end(Row::Flush, Cookie::Remove));
        }
        let until = policy.until(&record, now);
        let plan = Plan::create(Row::FlushWithData, Old::End, record, until, policy);
        return Ok(Plan { vital: true, ..plan });
    }
    if effect.past || policy.until(&record, now) <= now {
        return Ok(Plan::end(Row::Past, Cookie::Remove));
    }
    if let Some(cycle) = effect.cycle {
        let until = until(&record);
        let plan = Plan::create(Row::CycleKey(cycle), Old::Cycle, record, until, policy);
        return Ok(Plan { looks_anew: looks_anew(until), vital: true, ..plan });
    }
    if effect.changed || changes.save {
        let until = until(&record);
        // Where the cookie is the session, what is not sent is not saved.
        let quiet = no_touch && !rescope && policy.limits.cookies.is_none();
        let cookie = if quiet { Cookie::Leave } else { Cookie::Set(policy.cookie(&record, until)) };
        let old = Old::Save(Box::new(record), until);
        return Ok(Plan { old, looks_anew: looks_anew(until), ..Plan::nothing(Row::Save, cookie) });
    }
    if rescope {
        let kept = Record { modified_at: live.record.modified_at, ..record };
        let cookie = Cookie::Set(policy.cookie(&kept, live.until));
        let (old, looks_anew) = (Old::Save(Box::new(kept), live.until), policy.save_every_request);
        return Ok(Plan { old, looks_anew, ..Plan::nothing(Row::Rescope, cookie) });
    }
    if no_touch || !policy.save_every_request {
        return Ok(Plan::nothing(Row::Nothing, Cookie::Leave));
    }
    let until = until(&live.record);
    let due = until > live.until && until.since(live.until) >= policy.touch_interval(&live.record);
    let (old, until) = if due { (Old::Touch(until), until) } else { (Old::Keep, live.until) };
    let cookie = Cookie::Set(policy.cookie(&live.record, until));
    Ok(Plan { old, ..Plan::nothing(Row::Touch, cookie) })
}

/// `ended` is `None` where nothing is remembered of the end; `loaded` says that the token had ended when it was loaded.
fn on_ended(
    ended: Option<&Ended>,
    loaded: bool,
    changes: &Changes,
    policy: &Policy,
    now: Timestamp,
) -> Result<Plan, Denied> {
    let cycled = ended.is_some_and(|ended| ended.successor.is_some());
    let base = ended.and_then(|ended| ended.reads.as_ref()).map(|live| &live.record);
    let effect = changes.apply(base, policy, now)?;
    let successor = if cycled { Old::End } else { Old::Keep };
    if effect.flushed || (effect.past && cycled) {
        let plan = create(Row::EndedFlushWithData, effect, policy, now);
        let plan = plan.unwrap_or(Plan::nothing(Row::EndedFlush, Cookie::Leave));
        return Ok(Plan { old: successor, vital: true, ..plan });
    }
    if cycled && effect.cycle.is_some() {
        return Ok(create(Row::EndedCycleKey, effect, policy, now)
            .unwrap_or(Plan::nothing(Row::EndedCycleKey, Cookie::Leave)));
    }
    if loaded && !cycled {
        return Ok(create(Row::EndedCreate, effect, policy, now)
            .unwrap_or(Plan::nothing(Row::Nothing, Cookie::Leave)));
    }
    if !effect.changed && !changes.save {
        return Ok(Plan::nothing(Row::Nothing, Cookie::Leave));
    }
    match policy.on_gone {
        OnGone::Drop => Ok(Plan::nothing(Row::Gone, Cookie::Leave)),
        OnGone::Reject => Err(Denied::Gone),
    }
}

/// A new session, if something changed and there is something to keep.
fn create(row: Row, effect: Effect, policy: &Policy, now: Timestamp) -> Option<Plan> {
    let worth = effect.changed && !effect.past && !effect.record.is_empty();
    let (until, vital) = (policy.until(&effect.record, now), effect.flushed || effect.cycle.is_some());
    worth.then(|| Plan { vital, ..Plan::create(row, Old::Keep, effect.record, until, policy) })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::session::data::{Data, Map};
    use crate::session::directive::{Directive, Wish};
    use crate::session::expiry::Expiry;
    use crate::session::policy::{Config, OnSwitch};
    use crate::session::record::{Revision, Scope};
    use crate::session::token::Key;
    use crate::session::{Cookies, Lifetime, Limits, Reason, Token};

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
    const AGE: Duration = Duration::from_secs(1_209_600);
    const SCOPE: Scope = Scope(1);

    fn policy() -> Policy {
        let limits = Limits { max_bytes: 1000, max_keys: 10, max_depth: 32, budget: None, cookies: None };
        Policy::new(&Config::default(), AGE, SCOPE, limits)
    }

    fn map(value: serde_json::Value) -> Map {
        serde_json::from_value(value).unwrap()
    }

    fn key(n: u8) -> Key {
        Key::of("", &Token::from_bits(&[n; 20]))
    }

    /// A session created an hour ago, saved half an hour ago.
    fn session(data: serde_json::Value) -> Live {
        let at = |secs_ago: i64| Timestamp::from_millis(NOW.as_millis() - secs_ago * 1000);
        let record = Record {
            data: Data::from_map(map(data)),
            created_at: at(3600),
            modified_at: at(1800),
            ..Record::new(SCOPE, NOW)
        };
        Live {
            key: key(1),
            record,
            revision: Revision::from_bits(7).unwrap(),
            until: at(1800).plus(AGE),
            history: [None; 3],
            age: Duration::ZERO,
        }
    }

    fn live() -> Found {
        Found::Live(Box::new(session(json!({"a": 1}))))
    }

    fn cycled(reads: Option<Live>) -> Box<Ended> {
        Box::new(Ended { key: key(1), successor: Some(key(2)), reads })
    }

    fn flushed() -> Box<Ended> {
        Box::new(Ended { key: key(1), successor: None, reads: None })
    }

    fn ask(directives: impl IntoIterator<Item = Directive>) -> Asked {
        let mut asked = Asked { shown: true, ..Asked::default() };
        directives.into_iter().for_each(|directive| asked.changes.push(directive));
        asked
    }

    fn set(data: serde_json::Value) -> Directive {
        Directive::Set(map(data))
    }

    fn with_absolute_timeout(secs: u64) -> Policy {
        let absolute = Some(Duration::from_secs(secs));
        Policy { lifetimes: Lifetimes { absolute, ..policy().lifetimes }, ..policy() }
    }

    fn decide(found: &Found, asked: &Asked) -> Plan {
        plan(found, asked, &policy(), NOW).unwrap()
    }

    /// Row, store and cookie in a few words: `save:end:create set`.
    fn short(plan: &Plan) -> String {
        let old = match &plan.old {
            Old::Keep => "",
            Old::Touch(_) => "touch ",
            Old::Save(..) => "save ",
            Old::End => "end ",
            Old::Cycle => "cycle ",
        };
        let new = if plan.new.is_some() { "create " } else { "" };
        let cookie = match plan.cookie {
            Cookie::Leave => "leave",
            Cookie::Set(_) => "set",
            Cookie::Remove => "remove",
        };
        format!("{old}{new}{cookie}")
    }

    #[test]
    fn the_table_row_by_row() {
        use Directive::{Clear, CycleKey, Delete, Flush, Merge, SetDefault, TestCookie};
        let a = || set(json!({"b": 2}));
        let past = || Directive::Expiry(Wish::Past);
        let idle = || Directive::Expiry(Wish::So(Expiry::Idle(300)));
        let delete = |name: &str| Delete(vec![name.to_owned()]);
        let grace = || Found::Ended(cycled(Some(session(json!({"a": 1})))));
        let late = || Found::Ended(cycled(None));
        let gone = || Found::Gone(None);
        let gone_cycled = || Found::Gone(Some(cycled(Some(session(json!({"a": 1}))))));
        let gone_flushed = || Found::Gone(Some(flushed()));
        let was_flushed = || Found::Ended(flushed());
        let login = || set(json!({"user_id": 1}));
        #[rustfmt::skip]
        let rows: Vec<(&str, Found, Vec<Directive>, &str)> = vec![
            ("ambiguous", Found::Ambiguous, vec![a()], "leave"),
            ("ambiguous", Found::Ambiguous, vec![Flush], "leave"),
            ("flush", live(), vec![Flush], "end remove"),
            ("flush-with-data", live(), vec![Flush, a(), delete("b"), Clear], "end create set"), // delete comes before set
            ("flush", live(), vec![Flush, a(), past()], "end remove"),
            ("flush-with-data", live(), vec![a(), Flush], "end create set"),
            ("flush-with-data", live(), vec![Flush, idle()], "end create set"), // a custom expiry counts as data
            ("expiry-passed", live(), vec![past()], "end remove"),
            ("expiry-passed", live(), vec![a(), CycleKey, past()], "end remove"),
            ("expiry-passed", live(), vec![Directive::Expiry(Wish::So(Expiry::At(NOW)))], "end remove"),
            ("cycle-key", live(), vec![CycleKey], "cycle create set"),
            ("cycle-key", live(), vec![CycleKey, Clear], "cycle create set"),
            ("cycle-key-on-login", live(), vec![login()], "cycle create set"),
            ("save", live(), vec![a()], "save set"),
            ("save", live(), vec![set(json!({}))], "save set"), // as update({}) does
            ("save", live(), vec![delete("a")], "save set"), // emptied is saved empty
            ("save", live(), vec![Clear], "save set"),
            ("save", live(), vec![idle()], "save set"),
            ("nothing", live(), vec![delete("zz")], "leave"),
            ("nothing", live(), vec![SetDefault(map(json!({"a": 9})))], "leave"),
            ("nothing", live(), vec![Merge(map(json!({"zz": null, "a": 1})))], "leave"),
            ("nothing", live(), vec![TestCookie(false)], "leave"),
            ("nothing", live(), vec![], "leave"),
            ("create", Found::No, vec![a()], "create set"),
            ("create", Found::No, vec![idle()], "create set"),
            ("create", Found::No, vec![Flush, a()], "create set"),
            ("create", Found::No, vec![CycleKey, a()], "create set"),
            ("nothing-to-keep", Found::No, vec![CycleKey], "remove"),
            ("nothing-to-keep", Found::No, vec![a(), past()], "remove"),
            ("nothing-to-keep", Found::No, vec![Clear], "remove"),
            ("nothing-to-keep", Found::No, vec![], "remove"),
            ("gone", gone(), vec![a()], "leave"),
            ("gone", gone(), vec![login()], "leave"),
            ("gone", gone_flushed(), vec![CycleKey], "leave"),
            ("gone", gone_cycled(), vec![a()], "leave"),
            ("ended-flush-with-data", gone(), vec![Flush, a()], "create set"),
            ("ended-flush-with-data", gone_flushed(), vec![Flush, a()], "create set"),
            ("ended-flush-with-data", gone_cycled(), vec![Flush, a()], "end create set"),
            ("ended-flush", gone(), vec![Flush], "leave"),
            ("ended-flush", gone_cycled(), vec![Flush], "end leave"),
            ("ended-flush", gone_cycled(), vec![past()], "end leave"),
            ("ended-cycle-key", gone_cycled(), vec![login()], "create set"),
            ("ended-cycle-key", gone_cycled(), vec![CycleKey], "create set"),
            ("nothing", gone(), vec![], "leave"),
            ("gone", grace(), vec![a()], "leave"),
            ("gone", late(), vec![a()], "leave"),
            ("ended-flush", grace(), vec![Flush], "end leave"),
            ("ended-flush", late(), vec![Flush], "end leave"),
            ("ended-flush", late(), vec![past()], "end leave"),
            ("ended-flush-with-data", late(), vec![Flush, a()], "end create set"),
            ("ended-cycle-key", grace(), vec![CycleKey], "create set"),
            ("ended-cycle-key", grace(), vec![login()], "create set"),
            ("ended-cycle-key", late(), vec![login()], "create set"),
            ("ended-cycle-key", late(), vec![CycleKey], "leave"), // nothing to keep
            ("nothing", grace(), vec![], "leave"),
            ("ended-create", was_flushed(), vec![a()], "create set"),
            ("nothing", was_flushed(), vec![], "leave"),
            ("nothing", was_flushed(), vec![CycleKey], "leave"),
            ("ended-flush", was_flushed(), vec![Flush], "leave"),
            ("ended-flush-with-data", was_flushed(), vec![Flush, a()], "create set"),
            ("unavailable", Found::Unknown, vec![a()], "leave"),
        ];
        for (n, (row, found, directives, expected)) in rows.into_iter().enumerate() {
            let plan = decide(&found, &ask(directives.clone()));
            let row =
                if short(&plan) == "end create set" && row == "flush" { "flush-with-data" } else { row };
            assert_eq!(
                (plan.row.name(), &*short(&plan)),
                (row, expected),
                "row {n}: {found:?} {directives:?}"
            );
        }
    }

    #[test]
    fn on_a_server_error_only_endings_are_obeyed() {
        let failed = |directives: Vec<Directive>| Asked { server_error: true, ..ask(directives) };
        for found in [live(), Found::No, Found::Ended(flushed()), Found::Unknown] {
            let plan = decide(&found, &failed(vec![set(json!({"user_id": 1}))]));
            assert_eq!((plan.row, &*short(&plan)), (Row::ServerError, "leave"), "{found:?}");
        }
        let plan = decide(&live(), &failed(vec![Directive::Flush, set(json!({"b": 1}))]));
        assert_eq!((plan.row, &*short(&plan)), (Row::Flush, "end remove"), "what was set is discarded");
        let plan = decide(&live(), &failed(vec![Directive::CycleKey, Directive::Clear]));
        assert_eq!(plan.new.unwrap().0.data.text(), r#"{"a":1}"#);
        let mut condition = failed(vec![Directive::Flush]);
        condition.changes.condition = Some(Condition::NoSession);
        assert_eq!(decide(&live(), &condition).row, Row::Flush, "the condition is discarded too");
    }

    #[test]
    fn save_alone_saves_what_is_there_and_creates_nothing() {
        let mut asked = ask([]);
        asked.changes.save = true;
        assert_eq!(short(&decide(&live(), &asked)), "save set");
        assert_eq!(short(&decide(&Found::No, &asked)), "remove");
        assert_eq!(decide(&Found::Gone(None), &asked).row, Row::Gone);
    }

    #[test]
    fn without_a_cookie_there_is_none_to_remove() {
        assert_eq!(short(&decide(&Found::No, &Asked::default())), "leave");
    }

    #[test]
    fn save_every_request_touches_and_sets_the_cookie_every_time() {
        let policy = Policy { save_every_request: true, ..policy() };
        let decide = |found: &Found, asked: &Asked| plan(found, asked, &policy, NOW).unwrap();
        let touched = decide(&live(), &ask([]));
        assert_eq!(touched.old, Old::Touch(NOW.plus(AGE)));
        assert_eq!(touched.cookie, Cookie::Set(Lifetime::Until(NOW.plus(AGE))));
        let mut fresh = session(json!({}));
        fresh.until = Timestamp::from_millis(NOW.as_millis() - 59_000).plus(AGE);
        let soon = decide(&Found::Live(Box::new(fresh.clone())), &ask([]));
        assert_eq!(
            (soon.row, soon.old, soon.cookie),
            (Row::Touch, Old::Keep, Cookie::Set(Lifetime::Until(fresh.until)))
        );
        let mut fixed = session(json!({}));
        (fixed.record.expiry, fixed.until) = (Expiry::At(NOW.plus(AGE / 2)), NOW.plus(AGE / 2));
        assert_eq!(
            decide(&Found::Live(Box::new(fixed)), &ask([])).old,
            Old::Keep,
            "a fixed date never moves"
        );
        let still = Asked { no_touch: true, ..ask([]) };
        assert_eq!(short(&decide(&live(), &still)), "leave");
        assert_eq!(short(&decide(&Found::No, &Asked::default())), "leave");
        assert_eq!(short(&decide(&Found::Ended(cycled(Some(session(json!({})))),), &ask([]))), "leave");
    }

    #[test]
    fn a_no_touch_route_saves_but_extends_nothing() {
        let asked = Asked { no_touch: true, ..ask([set(json!({"b": 1}))]) };
        let plan = decide(&live(), &asked);
        let Old::Save(record, until) = &plan.old else { panic!("{plan:?}") };
        assert_eq!((record.data.text(), *until), (&r#"{"a":1,"b":1}"#.into(), session(json!({})).until));
        assert_eq!(plan.cookie, Cookie::Leave);
        let cycle = Asked { no_touch: true, ..ask([Directive::CycleKey]) };
        assert_eq!(decide(&live(), &cycle).new.unwrap().1, session(json!({})).until);

        let mut in_cookies = policy();
        in_cookies.limits.cookies = Some(Cookies { most: 2, bytes: 100 });
        let sent = super::plan(&live(), &asked, &in_cookies, NOW).unwrap();
        assert_eq!(sent.cookie, Cookie::Set(Lifetime::Until(*until)), "or it would not be saved");
        assert_eq!(sent.old, plan.old);
    }

    #[test]
    fn what_was_written_beyond_the_absolute_timeout_ends_when_it_is_changed() {
        let absolute = with_absolute_timeout(3600);
        let later = session(json!({})).record.created_at.plus(Duration::from_secs(3600));
        for directive in [set(json!({"b": 1})), Directive::CycleKey] {
            let decided = plan(&live(), &ask([directive]), &absolute, later).unwrap();
            assert_eq!((decided.row, &*short(&decided)), (Row::Past, "end remove"));
        }
    }

    #[test]
    fn an_end_that_is_kept_is_looked_at_anew_where_there_are_touches() {
        let touching = Policy { save_every_request: true, ..policy() };
        let mut old = session(json!({"a": 1}));
        old.record.scope = Scope(9);
        let old = Found::Live(Box::new(old));
        let soon = || Directive::Expiry(Wish::So(Expiry::Idle(5)));
        for (found, directives, no_touch, kept) in [
            (live(), vec![set(json!({"b": 1}))], true, true),
            (live(), vec![Directive::CycleKey], true, true),
            (live(), vec![set(json!({"b": 1}))], false, false),
            (live(), vec![soon()], true, false),
            (live(), vec![Directive::Flush], true, false),
            (live(), vec![], true, false),
            (old.clone(), vec![], false, true),
            (old, vec![], true, true),
        ] {
            let asked = Asked { no_touch, ..ask(directives) };
            for (policy, kept) in [(&touching, kept), (&policy(), false)] {
                let plan = plan(&found, &asked, policy, NOW).unwrap();
                assert_eq!(plan.looks_anew, kept, "{plan:?}");
            }
        }
    }

    #[test]
    fn what_has_grown_too_large_can_still_be_made_smaller_or_end() {
        let mut small = policy();
        small.limits.max_bytes = 4;
        let delete = || Directive::Delete(vec!["z".to_owned()]);
        for directive in
            [delete(), Directive::CycleKey, Directive::Clear, Directive::Expiry(Wish::So(Expiry::Idle(5)))]
        {
            assert!(plan(&live(), &ask([directive]), &small, NOW).is_ok());
        }
        assert!(plan(&live(), &ask([set(json!({"a": 1})), delete()]), &small, NOW).is_err());
    }

    #[test]
    fn a_change_that_no_longer_fits_into_the_cookies_is_refused() {
        let mut small = policy();
        let largest = r#"{"a":1,"b":"xx"}"#.len();
        small.limits.cookies = Some(Cookies { most: 2, bytes: largest });
        let save = |value: &str| plan(&live(), &ask([set(json!({"b": value}))]), &small, NOW);
        assert_eq!(save("xx").map(|plan| plan.row), Ok(Row::Save));
        let Err(Denied::Refused(refusal)) = save("xxx") else { panic!("it must be refused") };
        assert_eq!((&*refusal.directive, refusal.reason), ("Set", Reason::TooLarge));
        assert!(refusal.detail.contains("store.cookie_chunks"), "{refusal}");
    }

    #[test]
    fn the_end_counts_from_this_modification_and_cycle_keeps_the_creation() {
        let absolute = with_absolute_timeout(7200);
        let end = session(json!({})).record.created_at.plus(Duration::from_secs(7200));
        for directive in [Directive::CycleKey, set(json!({"b": 1}))] {
            let plan = plan(&live(), &ask([directive]), &absolute, NOW).unwrap();
            let until = plan.new.map(|new| new.1).or(match plan.old {
                Old::Save(_, until) => Some(until),
                _ => None,
            });
            assert_eq!(until, Some(end));
        }
        let anew = plan(&live(), &ask([Directive::Flush, set(json!({"b": 1}))]), &absolute, NOW).unwrap();
        assert_eq!(anew.new.unwrap().1, NOW.plus(Duration::from_secs(7200)));
    }

    use crate::session::expiry::Lifetimes;

    #[test]
    fn a_session_that_ends_with_the_browser_gets_a_cookie_without_a_date() {
        let plan = decide(&live(), &ask([Directive::Expiry(Wish::So(Expiry::Browser))]));
        assert_eq!(plan.cookie, Cookie::Set(Lifetime::Browser));
        let Old::Save(record, until) = plan.old else { panic!() };
        assert_eq!((record.expiry, until), (Expiry::Browser, NOW.plus(AGE)));
    }

    #[test]
    fn clear_resets_a_custom_expiry_and_reserved_entries() {
        let mut before = session(json!({"_auth_user_id": "1"}));
        before.record.expiry = Expiry::Idle(5);
        let plan = decide(&Found::Live(Box::new(before)), &ask([Directive::Clear, set(json!({"x": 1}))]));
        let Old::Save(record, _) = plan.old else { panic!("{plan:?}") };
        assert_eq!((record.expiry, record.data.text()), (Expiry::Default, &r#"{"x":1}"#.into()));
    }

    #[test]
    fn a_user_who_becomes_another_one_starts_from_nothing() {
        let alice = || Found::Live(Box::new(session(json!({"user_id": 1, "secret": "alice's"}))));
        let bob = || ask([set(json!({"user_id": 2}))]);
        let switched = decide(&alice(), &bob());
        assert_eq!(switched.row, Row::FlushWithData);
        assert_eq!(switched.new.unwrap().0.data.text(), r#"{"user_id":2}"#);
        let keep = Policy { on_switch: OnSwitch::Cycle, ..policy() };
        let cycled = plan(&alice(), &bob(), &keep, NOW).unwrap();
        assert_eq!(cycled.row, Row::CycleKey(Cycle::Login));
        for nobody in [set(json!({"user_id": null})), Directive::Delete(vec!["user_id".into()])] {
            assert_eq!(decide(&alice(), &ask([nobody])).row, Row::Save, "a removal cycles nothing");
        }
        assert_eq!(decide(&alice(), &ask([set(json!({"user_id": 1}))])).row, Row::Save);
    }

    #[test]
    fn the_condition_holds_or_nothing_happens() {
        let under = |condition| {
            let mut asked = ask([set(json!({"b": 1}))]);
            asked.changes.condition = Some(condition);
            asked
        };
        let none = Condition::NoSession;
        let seven = Condition::Version(Revision::from_bits(7));
        let eight = Condition::Version(Revision::from_bits(8));
        let grace = || Found::Ended(cycled(Some(session(json!({"a": 1})))));
        for (found, condition, holds) in [
            (live(), seven, true),
            (live(), eight, false),
            (live(), Condition::Version(None), false),
            (live(), none, false),
            (Found::No, none, true),
            (Found::No, seven, false),
            (Found::Gone(None), seven, false),
            (Found::Gone(None), none, false),
            (grace(), seven, false),
            (grace(), none, false),
            (Found::Ended(flushed()), none, true),
            (Found::Ambiguous, none, false),
        ] {
            let got = plan(&found, &under(condition), &policy(), NOW);
            assert_eq!(got.is_ok(), holds, "{found:?} {condition:?}");
            assert!(holds || got == Err(Denied::Conflict));
        }
    }

    #[test]
    fn a_gone_session_can_be_told_to_the_client() {
        let told = Policy { on_gone: OnGone::Reject, ..policy() };
        let asked = ask([set(json!({"b": 1}))]);
        assert_eq!(plan(&Found::Gone(None), &asked, &told, NOW), Err(Denied::Gone));
        assert!(plan(&Found::Gone(None), &ask([]), &told, NOW).is_ok());
    }

    #[test]
    fn an_outage_loses_no_ending_in_silence() {
        for directive in
            [Directive::Flush, Directive::CycleKey, Directive::Expiry(Wish::Past), set(json!({"user_id": 1}))]
        {
            assert_eq!(plan(&Found::Unknown, &ask([directive]), &policy(), NOW), Err(Denied::Unavailable));
        }
    }

    #[test]
    fn a_session_under_a_previous_scope_moves_once() {
        let mut old = session(json!({"a": 1}));
        old.record.scope = Scope(9);
        let plan = decide(&Found::Live(Box::new(old.clone())), &ask([]));
        let Old::Save(record, until) = &plan.old else { panic!("{plan:?}") };
        assert_eq!((record.scope, *until, record.modified_at), (SCOPE, old.until, old.record.modified_at));
        assert_eq!(short(&plan), "save set");
    }

    #[test]
    fn what_exceeds_a_limit_is_refused_whole() {
        let deep = (0..32).fold(json!(1), |inner, _| json!([inner]));
        for (what, reason) in [
            (set(json!({"big": "x".repeat(1000)})), Reason::TooLarge),
            (set((0..11).map(|n| (n.to_string(), json!(n))).collect()), Reason::TooLarge),
            (set(json!({"deep": deep})), Reason::TooLarge),
            (Directive::Increment(vec![("s".into(), 1)]), Reason::NotNumeric),
            (Directive::Increment(vec![("max".into(), 1)]), Reason::NotNumeric),
        ] {
            let found = Found::Live(Box::new(session(json!({"s": "text", "max": i64::MAX}))));
            match plan(&found, &ask([set(json!({"ok": 1})), what]), &policy(), NOW) {
                Err(Denied::Refused(refusal)) => assert_eq!(refusal.reason, reason, "{refusal}"),
                other => panic!("{other:?}"),
            }
        }
    }
}
