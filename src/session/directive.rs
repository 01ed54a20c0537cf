//! What a backend may ask of a session, and what that does to its record.

use std::fmt;

use serde_json::{Number, Value};

use super::data::{Data, Map, RESERVED, depth};
use super::expiry::Expiry;
use super::policy::{OnSwitch, Policy};
use super::record::{Record, Revision};
use crate::time::Timestamp;

/// The entry of Django's test cookie.
pub const TEST_COOKIE: &str = "testcookie";
/// Its value.
pub const TEST_COOKIE_VALUE: &str = "worked";

/// One wish of a backend. The order of the variants is the order in which they are applied.
#[derive(Clone, Debug, PartialEq)]
pub enum Directive {
    /// `flush()`: the data and the token go; what this response sets begins a new session.
    Flush,
    /// `clear()`: every entry goes, a custom expiry too.
    Clear,
    /// `cycle_key()`: the data stays, the token changes.
    CycleKey,
    /// `del s[k]`; an absent key is no error.
    Delete(Vec<String>),
    /// `s[k] = v`.
    Set(Map),
    /// `setdefault()`.
    SetDefault(Map),
    /// A JSON Merge Patch (RFC 7396) over the whole data.
    Merge(Map),
    /// Integers to add to numeric entries; an absent one counts as 0.
    Increment(Vec<(String, i64)>),
    /// `set_test_cookie()` and `delete_test_cookie()`.
    TestCookie(bool),
    /// `set_expiry()`.
    Expiry(Wish),
    /// Files the session under a user.
    Subject(String),
}

/// When a backend wants the session to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// So.
    So(Expiry),
    /// At once: a past date or a negative age.
    Past,
}

impl Directive {
    /// The header's name behind the prefix.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Flush => "Flush",
            Self::Clear => "Clear",
            Self::CycleKey => "Cycle-Key",
            Self::Delete(_) => "Delete",
            Self::Set(_) => "Set",
            Self::SetDefault(_) => "Set-Default",
            Self::Merge(_) => "Merge",
            Self::Increment(_) => "Increment",
            Self::TestCookie(_) => "Test-Cookie",
            Self::Expiry(_) => "Expiry",
            Self::Subject(_) => "Subject",
        }
    }

    const fn rank(&self) -> u8 {
        match self {
            Self::Flush => 0,
            Self::Clear => 1,
            Self::CycleKey => 2,
            Self::Delete(_) => 3,
            Self::Set(_) => 4,
            Self::SetDefault(_) => 5,
            Self::Merge(_) => 6,
            Self::Increment(_) => 7,
            Self::TestCookie(_) => 8,
            Self::Expiry(_) => 9,
            Self::Subject(_) => 10,
        }
    }
}

/// What must be stored for a response's changes to be applied: `X-Session-If-Version`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// `0`: there is no session.
    NoSession,
    /// The session's version is this one; `None` is a text that no version can be.
    Version(Option<Revision>),
}

/// All that one response asks of its session.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    list: Vec<Directive>,
    /// Save although nothing changed.
    pub save: bool,
    /// Apply all or nothing, only under this condition.
    pub condition: Option<Condition>,
}

/// Why a response's changes are not applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The header's name behind the prefix.
    pub directive: String,
    /// The metric's label.
    pub reason: Reason,
    /// What is wrong, without the value.
    pub detail: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.directive, self.detail)
    }
}

impl std::error::Error for Refusal {}

/// The kinds of [`Refusal`], as `coatroom_directives_refused_total{reason}` counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// It can't be parsed.
    Malformed,
    /// A JSON object names a key twice.
    DuplicateKey,
    /// It names a key that begins with `_`.
    ReservedKey,
    /// No directive has this name, or no listed entry.
    Unknown,
    /// The nonce is missing or another one's.
    Nonce,
    /// It is repeated with another value.
    Repeated,
    /// It, or the session after it, exceeds a limit.
    TooLarge,
    /// An increment met what is no number, or left the range of one.
    NotNumeric,
    /// It needs a setting that is off.
    Disabled,
    /// It came with a server error of the backend's own, and was discarded; that response passes.
    ServerError,
}

impl Reason {
    /// All of them, for a metric that shows zero before the first.
    pub const ALL: [Self; 10] = [
        Self::Malformed,
        Self::DuplicateKey,
        Self::ReservedKey,
        Self::Unknown,
        Self::Nonce,
        Self::Repeated,
        Self::TooLarge,
        Self::NotNumeric,
        Self::Disabled,
        Self::ServerError,
    ];

    /// The metric's label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::DuplicateKey => "duplicate_key",
            Self::ReservedKey => "reserved_key",
            Self::Unknown => "unknown",
            Self::Nonce => "nonce",
            Self::Repeated => "repeated",
            Self::TooLarge => "too_large",
            Self::NotNumeric => "not_numeric",
            Self::Disabled => "disabled",
            Self::ServerError => "server_error",
        }
    }
}

impl Refusal {
    /// Makes a refusal.
    pub fn new(directive: &str, reason: Reason, detail: impl Into<String>) -> Self {
        Self { directive: directive.to_owned(), reason, detail: detail.into() }
    }
}

/// Why the key changes although the session goes on: the label of `coatroom_session_cycles_total{reason}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cycle {
    /// The backend asked.
    Asked,
    /// An entry of `session.cycle_on` appeared or changed.
    Login,
}

/// What changes make of a record.
#[derive(Clone, Debug)]
pub struct Effect {
    /// The record afterwards.
    pub record: Record,
    /// Something was asked that did something; `Save` is not counted.
    pub changed: bool,
    /// The old data is gone for good, because the backend said so or because the user changed.
    pub flushed: bool,
    /// The key must change, and why.
    pub cycle: Option<Cycle>,
    /// The expiry that was asked for has passed.
    pub past: bool,
}

impl Changes {
    /// Adds a directive behind all that come before it in the contract's order.
    pub fn push(&mut self, directive: Directive) {
        let at = self.list.partition_point(|other| other.rank() <= directive.rank());
        self.list.insert(at, directive);
    }

    /// Does the response ask for nothing at all?
    pub fn is_none(&self) -> bool {
        self.count() == 0
    }

    /// The directives, in the order in which they are applied.
    pub fn directives(&self) -> &[Directive] {
        &self.list
    }

    /// How much is asked, each directive counted as one.
    pub fn count(&self) -> usize {
        self.list.len() + usize::from(self.save) + usize::from(self.condition.is_some())
    }

    /// Only flush and cycle-key: all that is obeyed on a server error of the backend's own.
    pub fn endings(&self) -> Self {
        let ends = |directive: &&Directive| matches!(directive, Directive::Flush | Directive::CycleKey);
        Self { list: self.list.iter().filter(ends).cloned().collect(), save: false, condition: None }
    }

    /// Applies everything, in order, to `base`, or to a session that begins now where there is none.
    ///
    /// # Errors
    /// A [`Refusal`] if one directive can't be applied or the result exceeds a limit; then none is applied.
    pub fn apply(&self, base: Option<&Record>, policy: &Policy, now: Timestamp) -> Result<Effect, Refusal> {
        let flushed = self.list.contains(&Directive::Flush);
        let effect = self.run(base.filter(|_| !flushed), policy, now)?;
        let login = login(base, &effect.record, &policy.cycle_on);
        let effect = match (login, policy.on_switch) {
            (Login::Switch, OnSwitch::Flush) if !flushed => {
                Effect { flushed: true, ..self.run(None, policy, now)? }
            }
            (Login::None, _) => Effect { flushed, ..effect },
            _ => Effect { flushed, cycle: effect.cycle.or(Some(Cycle::Login)), ..effect },
        };
        policy.limits.check(&effect.record.data, &self.list)?;
        Ok(effect)
    }

    fn run(&self, base: Option<&Record>, policy: &Policy, now: Timestamp) -> Result<Effect, Refusal> {
        let mut record = base.cloned().unwrap_or_else(|| Record::new(policy.scope, now));
        let mut effect = (false, None, false);
        let (changed, cycle, past) = (&mut effect.0, &mut effect.1, &mut effect.2);
        // Nothing asked, nothing parsed.
        let mut map = if self.list.is_empty() { Map::new() } else { record.data.map().clone() };
        for directive in &self.list {
            *changed |= match directive {
                Directive::Flush => true,
                Directive::Clear => {
                    map.clear();
                    record.expiry = Expiry::Default;
                    true
                }
                Directive::CycleKey => {
                    *cycle = Some(Cycle::Asked);
                    true
                }
                Directive::Delete(keys) => {
                    let before = map.len();
                    map.retain(|key, _| !keys.contains(key));
                    map.len() < before
                }
                Directive::Set(entries) => {
                    map.extend(entries.clone());
                    true
                }
                Directive::SetDefault(entries) => entries.iter().fold(false, |hit, (key, value)| {
                    let absent = !map.contains_key(key);
                    if absent {
                        map.insert(key.clone(), value.clone());
                    }
                    absent || hit
                }),
                Directive::Merge(patch) => merge(&mut map, patch),
                Directive::Increment(steps) => {
                    for (key, step) in steps {
                        increment(&mut map, key, *step)?;
                    }
                    true
                }
                Directive::TestCookie(true) => {
                    map.insert(TEST_COOKIE.to_owned(), TEST_COOKIE_VALUE.into());
                    true
                }
                Directive::TestCookie(false) => map.shift_remove(TEST_COOKIE).is_some(),
                Directive::Expiry(Wish::Past) => {
                    *past = true;
                    true
                }
                Directive::Expiry(Wish::So(expiry)) => {
                    (record.expiry, *past) = (*expiry, false);
                    true
                }
                Directive::Subject(subject) => {
                    record.subject = Some(subject.clone());
                    true
                }
            };
        }
        if !self.list.is_empty() {
            record.data = Data::from_map(map);
        }
        (record.modified_at, record.scope) = (now, policy.scope);
        let past = *past || matches!(record.expiry, Expiry::At(date) if *changed && date <= now);
        Ok(Effect { record, changed: effect.0, flushed: false, cycle: effect.1, past })
    }
}

/// RFC 7396 over an object; says whether it changed anything.
fn merge(target: &mut Map, patch: &Map) -> bool {
    let mut changed = false;
    for (key, value) in patch {
        changed |= match (value, target.get_mut(key)) {
            (Value::Null, _) => target.shift_remove(key).is_some(),
            (Value::Object(patch), Some(Value::Object(inner))) => merge(inner, patch),
            (Value::Object(patch), _) => {
                let mut inner = Map::new();
                merge(&mut inner, patch);
                target.insert(key.clone(), inner.into());
                true
            }
            (value, Some(present)) if present == value => false,
            (value, _) => {
                target.insert(key.clone(), value.clone());
                true
            }
        };
    }
    changed
}

fn increment(map: &mut Map, key: &str, step: i64) -> Result<(), Refusal> {
    let refuse = |what| Refusal::new("Increment", Reason::NotNumeric, format!("an entry {what}"));
    let sum = match map.get(key) {
        None => Number::from(step),
        Some(Value::Number(number)) => {
            let text = number.as_str();
            if text.contains(['.', 'e', 'E']) {
                #[allow(
                    clippy::cast_precision_loss,
                    reason = "an entry with a fraction is added to as a double"
                )]
                let sum = number.as_f64().map(|float| float + step as f64).and_then(Number::from_f64);
                sum.ok_or_else(|| refuse("would leave the range of a double"))?
            } else {
                let sum = text.parse::<i64>().ok().and_then(|whole| whole.checked_add(step));
                sum.map(Number::from).ok_or_else(|| refuse("would leave the range of 64-bit integers"))?
            }
        }
        Some(_) => return Err(refuse("is not a number")),
    };
    map.insert(key.to_owned(), sum.into());
    Ok(())
}

/// What became of the entries that say who the user is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Login {
    None,
    Appeared,
    Switch,
}

fn login(before: Option<&Record>, after: &Record, cycle_on: &[String]) -> Login {
    let of = |name: &String| match (before.and_then(|b| b.data.non_null(name)), after.data.non_null(name)) {
        (None, Some(_)) => Login::Appeared,
        (Some(old), Some(new)) if old != new => Login::Switch,
        _ => Login::None,
    };
    cycle_on.iter().map(of).max().unwrap_or(Login::None)
}

/// What a session may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `session.max_bytes`: bytes of the data as JSON.
    pub max_bytes: usize,
    /// `session.max_keys`: entries.
    pub max_keys: usize,
    /// Levels of arrays and objects in one entry.
    pub max_depth: usize,
    /// `headers.budget`, where a change that would not fit is to be refused.
    pub budget: Option<Budget>,
}

/// How much room the request headers have, counted as name + value + 4 bytes each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// `headers.budget`.
    pub bytes: usize,
    /// What all headers take but for the data and the entries of `headers.keys`, at their longest.
    pub fixed: usize,
    /// Each entry of `headers.keys`, and what its header takes without its value.
    pub keys: Vec<(String, usize)>,
    /// `headers.expose`.
    pub expose: Vec<String>,
}

impl Budget {
    /// What the headers of a session with this data take.
    pub fn takes(&self, data: &Data) -> usize {
        let of = |(name, header): &(String, usize)| {
            data.map().get(name).map_or(0, |value| header + super::data::to_bare(value).len())
        };
        self.fixed + data.visible(&self.expose).len() + self.keys.iter().map(of).sum::<usize>()
    }
}

impl Limits {
    fn check(&self, data: &Data, asked: &[Directive]) -> Result<(), Refusal> {
        let Some(last) = asked.last() else { return Ok(()) };
        // Named is the directive that can have made the data grow; which of several did is anybody's guess.
        let grew = asked.iter().rev().find(|d| (4..=8).contains(&d.rank())).unwrap_or(last);
        let refuse = |detail| Err(Refusal::new(grew.name(), Reason::TooLarge, detail));
        let (bytes, keys) = (data.text().len(), data.map().len());
        if bytes > self.max_bytes {
            return refuse(format!(
                "the session would hold {bytes} bytes; session.max_bytes is {}",
                self.max_bytes
            ));
        }
        if keys > self.max_keys {
            return refuse(format!(
                "the session would hold {keys} entries; session.max_keys is {}",
                self.max_keys
            ));
        }
        if data.map().values().any(|value| depth(value) >= self.max_depth) {
            return refuse(format!("an entry would nest deeper than {} levels", self.max_depth));
        }
        match self.budget.as_ref().map(|budget| (budget.takes(data), budget.bytes)) {
            Some((takes, room)) if takes > room => {
                refuse(format!("the request headers would take {takes} bytes; headers.budget is {room}"))
            }
            _ => Ok(()),
        }
    }
}

/// May a directive name this key?
///
/// # Errors
/// A [`Refusal`] for a key that begins with `_`.
pub fn allowed(directive: &str, key: &str) -> Result<(), Refusal> {
    if key.starts_with(RESERVED) {
        // A key is part of the header's value, and that is never repeated.
        let detail = format!(
            "a key in it begins with {RESERVED:?}, and such keys are reserved: not a backend's to change"
        );
        return Err(Refusal::new(directive, Reason::ReservedKey, detail));
    }
    Ok(())
}
