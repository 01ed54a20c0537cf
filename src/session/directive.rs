//! What a backend may ask of a session, and what that does to its record.

use serde_json::{Number, Value};

use super::data::{Data, Map};
use super::expiry::Expiry;
use super::policy::{OnSwitch, Policy};
use super::record::{Record, Revision};
use super::refusal::{Reason, Refusal};
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

    pub(super) const fn rank(&self) -> u8 {
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
    pub const fn is_none(&self) -> bool {
        self.asked() == 0
    }

    /// The directives, in the order in which they are applied.
    pub fn directives(&self) -> &[Directive] {
        &self.list
    }

    /// How much is asked, each directive counted as one.
    pub const fn asked(&self) -> usize {
        self.list.len() + self.save as usize + self.condition.is_some() as usize
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
