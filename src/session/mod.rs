//! What a session is, and what becomes of it: no I/O, no clock, no HTTP types.
//!
//! [`plan`] is the heart: the contract's decision table as a function. Whoever keeps records executes what it
//! returns and, where the record changed in the meantime, asks again.

pub mod data;
pub mod directive;
pub mod expiry;
pub mod record;
pub mod token;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::{Length, Timestamp};
pub use data::Data;
pub use directive::{Changes, Condition, Cycle, Directive, Effect, Limits, Reason, Refusal};
pub use expiry::{Expiry, Lifetime, Lifetimes};
pub use record::{How, Record, Revision, Scope};
pub use token::{Id, Key, Token};

/// `[session]`: how sessions live and end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Mixed into every key of the store, so that two products on one store can't read each other's sessions.
    pub realm: String,
    /// Cookies without `Max-Age` and `Expires`. Django: `SESSION_EXPIRE_AT_BROWSER_CLOSE`.
    pub expire_at_browser_close: bool,
    /// Every request extends the session's life. Django: `SESSION_SAVE_EVERY_REQUEST`.
    pub save_every_request: bool,
    /// With `save_every_request`: the least time between two touches of the store. `auto` = min(60 s, age / 10).
    pub touch_interval: Interval,
    /// A session ends this long after its creation, whatever happens; 0 = off.
    pub absolute_timeout: Length,
    /// Entries that say who the user is: when one appears or changes, the key is cycled (session fixation).
    pub cycle_on: Vec<String>,
    /// When one of `cycle_on` changes from one user to another: `flush` the old session first, or only `cycle`.
    pub on_switch: OnSwitch,
    /// A change to a session that was flushed meanwhile: `drop` it, or `reject` it with 409.
    pub on_gone: OnGone,
    /// How long after cycle-key requests in flight may still read under the old token.
    pub grace: Length,
    /// How long ended tokens are remembered.
    pub ended_memory: Length,
    /// Bytes that a session's data may have as JSON.
    pub max_bytes: usize,
    /// Entries that a session may have.
    pub max_keys: usize,
    /// Is `X-Session-Subject` obeyed?
    pub subject: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            realm: String::new(),
            expire_at_browser_close: false,
            save_every_request: false,
            touch_interval: Interval::Auto,
            absolute_timeout: Length::secs(0),
            cycle_on: ["user_id", "member_id", "account_id", "uid", "username", "_auth_user_id"]
                .map(str::to_owned)
                .to_vec(),
            on_switch: OnSwitch::Flush,
            on_gone: OnGone::Drop,
            grace: Length::secs(10),
            ended_memory: Length::secs(600),
            max_bytes: 64 * 1024,
            max_keys: 256,
            subject: false,
        }
    }
}

/// A length of time that can be left to the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interval {
    /// Chosen from other settings.
    Auto,
    /// This.
    Every(Length),
}

impl Serialize for Interval {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Every(length) => length.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Interval {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Secs(u64),
            Text(String),
        }
        match Either::deserialize(deserializer)? {
            Either::Secs(secs) => Ok(Self::Every(Length::secs(secs))),
            Either::Text(text) if text == "auto" => Ok(Self::Auto),
            Either::Text(text) => Length::parse(&text).map(Self::Every).map_err(serde::de::Error::custom),
        }
    }
}

/// What happens to a session whose user changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnSwitch {
    /// The old user's data goes first, as in Django's `login()`.
    Flush,
    /// Only the key changes.
    Cycle,
}

/// What happens to a change whose session is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnGone {
    /// It is dropped and counted.
    Drop,
    /// The client gets 409, Django's `SessionInterrupted`.
    Reject,
}

/// Everything that [`plan`] depends on but the session and the response: settings, resolved.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Idle, absolute and cookie lifetimes.
    pub lifetimes: Lifetimes,
    /// `session.save_every_request`.
    pub save_every_request: bool,
    /// The least time between two touches.
    pub touch_interval: Duration,
    /// `session.cycle_on`.
    pub cycle_on: Vec<String>,
    /// `session.on_switch`.
    pub on_switch: OnSwitch,
    /// `session.on_gone`.
    pub on_gone: OnGone,
    /// What a session may hold.
    pub limits: Limits,
    /// The scope that cookies are issued under now.
    pub scope: Scope,
}

impl Policy {
    /// Resolves the settings. `age` is `cookie.age`, `scope` the scope of today's cookies.
    pub fn new(config: &Config, age: Duration, scope: Scope, limits: Limits) -> Self {
        let auto = (age / 10).min(Duration::from_secs(60));
        let touch_interval = match config.touch_interval {
            Interval::Auto => auto,
            Interval::Every(length) => length.0,
        };
        let absolute = Some(config.absolute_timeout.0).filter(|length| !length.is_zero());
        Self {
            lifetimes: Lifetimes { age, browser: config.expire_at_browser_close, absolute },
            save_every_request: config.save_every_request,
            touch_interval,
            cycle_on: config.cycle_on.clone(),
            on_switch: config.on_switch,
            on_gone: config.on_gone,
            limits,
            scope,
        }
    }

    /// When a record saved at `now` ends.
    pub fn until(&self, record: &Record, now: Timestamp) -> Timestamp {
        record.expiry.until(&self.lifetimes, record.created_at, now)
    }

    /// How long the browser is to keep the cookie of a record that ends at `until`.
    pub const fn cookie(&self, record: &Record, until: Timestamp) -> Lifetime {
        if record.expiry.at_browser_close(&self.lifetimes) { Lifetime::Browser } else { Lifetime::Until(until) }
    }
}

/// A session as the store has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Live {
    /// What it is filed under.
    pub key: Key,
    /// What it holds.
    pub record: Record,
    /// The state that was read, for compare-and-swap.
    pub revision: Revision,
    /// When it ends if nothing changes; a touch moves this and nothing else.
    pub until: Timestamp,
}

/// A token that was ended, but is still remembered.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// What it is filed under.
    pub key: Key,
    /// The record that goes on, where it was ended by cycle-key.
    pub successor: Option<Key>,
    /// What requests in flight still read: the session as it was before, with its old version.
    pub reads: Option<Live>,
}

/// What the store says of a token.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// A session.
    Live(Box<Live>),
    /// A token that was ended.
    Ended(Box<Ended>),
    /// Loaded live, but no more when it was to be written: flushed, cycled (then `Some`) or expired.
    Gone(Option<Box<Ended>>),
    /// Nothing: absent, expired, forged.
    No,
    /// Several sessions at once: somebody may be tossing cookies.
    Ambiguous,
    /// The store could not say.
    Unknown,
}

impl Found {
    /// What the backend reads: `None` is an empty session.
    pub fn reads(&self) -> Option<&Live> {
        match self {
            Self::Live(live) => Some(live),
            Self::Ended(ended) => ended.reads.as_ref(),
            Self::Gone(_) | Self::No | Self::Ambiguous | Self::Unknown => None,
        }
    }
}

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
}

impl Plan {
    /// Does the store have nothing to do?
    pub const fn is_nothing(&self) -> bool {
        matches!((&self.old, &self.new), (Old::Keep, None))
    }

    const fn nothing(row: Row, cookie: Cookie) -> Self {
        Self { row, old: Old::Keep, new: None, cookie }
    }

    const fn end(row: Row, cookie: Cookie) -> Self {
        Self { row, old: Old::End, new: None, cookie }
    }

    fn create(row: Row, old: Old, record: Record, until: Timestamp, policy: &Policy) -> Self {
        let cookie = Cookie::Set(policy.cookie(&record, until));
        Self { row, old, new: Some((Box::new(record), until)), cookie }
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
        Found::Live(live) => on_live(live, changes, asked.no_touch, policy, now),
        Found::Ended(ended) => on_ended(Some(ended), true, changes, policy, now),
        Found::Gone(ended) => on_ended(ended.as_deref(), false, changes, policy, now),
        Found::No => {
            let effect = changes.apply(None, policy, now)?;
            let forget = if asked.shown { Cookie::Remove } else { Cookie::Leave };
            Ok(create(Row::Create, effect, policy, now)
                .unwrap_or(Plan::nothing(Row::NothingToKeep, forget)))
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

fn on_live(live: &Live, changes: &Changes, no_touch: bool, policy: &Policy, now: Timestamp) -> Result<Plan, Denied> {
    let rescope = live.record.scope != policy.scope;
    if changes.is_none() && !rescope && (no_touch || !policy.save_every_request) {
        return Ok(Plan::nothing(Row::Nothing, Cookie::Leave));
    }
    let effect = changes.apply(Some(&live.record), policy, now)?;
    let until = |record: &Record| {
        let until = policy.until(record, now);
        if no_touch { until.min(live.until) } else { until }
    };
    let record = effect.record;
    if effect.flushed {
        if effect.past || record.is_empty() {
            return Ok(Plan::end(Row::Flush, Cookie::Remove));
        }
        let until = policy.until(&record, now);
        return Ok(Plan::create(Row::FlushWithData, Old::End, record, until, policy));
    }
    if effect.past {
        return Ok(Plan::end(Row::Past, Cookie::Remove));
    }
    if let Some(cycle) = effect.cycle {
        let until = until(&record);
        return Ok(Plan::create(Row::CycleKey(cycle), Old::Cycle, record, until, policy));
    }
    if effect.changed || changes.save {
        let until = until(&record);
        let cookie = if no_touch && !rescope { Cookie::Leave } else { Cookie::Set(policy.cookie(&record, until)) };
        return Ok(Plan { row: Row::Save, old: Old::Save(Box::new(record), until), new: None, cookie });
    }
    if rescope {
        let kept = Record { modified_at: live.record.modified_at, ..record };
        let cookie = Cookie::Set(policy.cookie(&kept, live.until));
        return Ok(Plan { row: Row::Rescope, old: Old::Save(Box::new(kept), live.until), new: None, cookie });
    }
    if no_touch || !policy.save_every_request {
        return Ok(Plan::nothing(Row::Nothing, Cookie::Leave));
    }
    let until = until(&live.record);
    let due = until > live.until && until.since(live.until) >= policy.touch_interval;
    let (old, until) = if due { (Old::Touch(until), until) } else { (Old::Keep, live.until) };
    Ok(Plan { row: Row::Touch, old, new: None, cookie: Cookie::Set(policy.cookie(&live.record, until)) })
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
        let flush = Plan { row: Row::EndedFlush, old: successor.clone(), new: None, cookie: Cookie::Leave };
        return Ok(match create(Row::EndedFlushWithData, effect, policy, now) {
            Some(plan) => Plan { old: successor, ..plan },
            None => flush,
        });
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
    let until = policy.until(&effect.record, now);
    worth.then(|| Plan::create(row, Old::Keep, effect.record, until, policy))
}
