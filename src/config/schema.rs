//! Which settings there are, and whether a value fits one: derived from `Config::default()`.
//!
//! serde stops at the first error. Here each leaf is tried on its own, in place of its default, so that one bad
//! value hides no other.

use figment::Error;
use figment::error::Kind;
use figment::value::{Dict, Value};

use super::Config;
use super::fault::{Fault, Why};
use super::key::Key;

/// The tree of all settings with their defaults.
pub(super) struct Schema(Dict);

/// What didn't fit.
#[derive(Default)]
pub(super) struct Misfits {
    /// Why, a fault each.
    pub(super) faults: Vec<Fault>,
    /// Elements that had to be left out of their lists.
    pub(super) lost: Vec<Key>,
}

impl Schema {
    /// Asks the defaults what there is.
    pub(super) fn new() -> Self {
        let defaults = Value::serialize(Config::default()).ok().and_then(Value::into_dict);
        Self(defaults.expect("settings are texts, numbers, lists and tables, which figment has"))
    }

    /// The default of every setting.
    pub(super) const fn defaults(&self) -> &Dict {
        &self.0
    }

    /// The default of a setting or section; `None` if there is no such thing.
    pub(super) fn default_of(&self, key: &Key) -> Option<Value> {
        key.names().try_fold(Value::from(self.0.clone()), |value, name| value.into_dict()?.remove(name))
    }

    /// Is it a setting, and a list?
    pub(super) fn is_list(&self, key: &Key) -> bool {
        matches!(self.default_of(key), Some(Value::Array(..)))
    }

    /// Takes out of a value what fits the setting or section of this key, and notes what doesn't.
    pub(super) fn fit(&self, key: &Key, value: Value, misfits: &mut Misfits) -> Option<Value> {
        let mut fault = |why| misfits.faults.push(Fault { key: key.clone(), why });
        match (self.default_of(key), value) {
            (None, value) => {
                fault(Why::Unknown { table: matches!(value, Value::Dict(..)) });
                None
            }
            (Some(Value::Dict(..)), Value::Dict(_, values)) => {
                let fitting = values.into_iter().filter_map(|(name, value)| {
                    let value = self.fit(&key.child(&name), value, misfits)?;
                    Some((name, value))
                });
                Some(fitting.collect::<Dict>().into())
            }
            (Some(Value::Dict(..)), _) => {
                fault(Why::Section);
                None
            }
            (Some(Value::Array(..)), Value::Array(_, elements)) => {
                let elements = elements.into_iter().enumerate();
                let fitting = elements.filter_map(|(index, element)| {
                    let fitting = self.fit_element(key, index, element, misfits);
                    misfits.lost.extend(fitting.is_none().then(|| key.element(index)));
                    fitting
                });
                Some(fitting.collect::<Vec<_>>().into())
            }
            (Some(_), value) => match self.try_on(key, &value) {
                Ok(()) => Some(value),
                Err(error) => {
                    fault(Why::Misfit(error.kind));
                    None
                }
            },
        }
    }

    /// The same for an element of a list. Of a table each field that doesn't fit is taken away and noted, until the
    /// rest fits.
    fn fit_element(
        &self,
        list: &Key,
        index: usize,
        mut element: Value,
        misfits: &mut Misfits,
    ) -> Option<Value> {
        let key = list.element(index);
        let mut taken: Vec<String> = Vec::new();
        let mut misspelt = false;
        loop {
            let Err(error) = self.try_on(list, &vec![element.clone()].into()) else { return Some(element) };
            let field = error.path.get(list.depth() + 1).cloned();
            let why = match error.kind {
                // The one that was misspelt is most likely the one that is missing now.
                Kind::MissingField(name) if misspelt || taken.contains(&name.to_string()) => return None,
                Kind::UnknownField(_, known) => {
                    misspelt = true;
                    Why::UnknownField(known)
                }
                kind => Why::Misfit(kind),
            };
            let key = field.as_ref().map_or_else(|| key.clone(), |field| key.child(field));
            misfits.faults.push(Fault { key, why });
            let (Value::Dict(_, fields), Some(field)) = (&mut element, field) else { return None };
            fields.remove(&field)?;
            taken.push(field);
        }
    }

    /// Puts a value in place of a default and asks serde.
    fn try_on(&self, key: &Key, value: &Value) -> Result<(), Box<Error>> {
        let mut tree = Value::from(self.0.clone());
        let leaf = key.names().try_fold(&mut tree, |at, name| match at {
            Value::Dict(_, values) => values.get_mut(name),
            _ => None,
        });
        if let Some(leaf) = leaf {
            *leaf = value.clone();
        }
        tree.deserialize::<Config>().map(drop).map_err(Box::new)
    }
}
