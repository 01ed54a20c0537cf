//! TOML as values of figment, with the line of every key.

use std::collections::BTreeMap;

use figment::value::{Dict, Num, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::key::Key;
use super::problem::Problem;

/// The values of a file, and the lines that they are on.
#[derive(Default)]
pub(super) struct File {
    /// The values.
    pub(super) values: Dict,
    /// The line of each key and of each element of a list, by the text of its key, from 1.
    pub(super) lines: BTreeMap<String, usize>,
}

impl File {
    /// Reads TOML.
    ///
    /// # Errors
    /// Each mistake of syntax with its line and column. The text itself is not quoted: a secret may stand there.
    pub(super) fn read(text: &str) -> Result<Self, Vec<Problem>> {
        let (table, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            return Err(errors.iter().map(|error| broken(text, error)).collect());
        }
        Ok(Self::of(text, table.get_ref()))
    }

    /// Reads what is TOML of a text that need not be.
    pub(super) fn rest(text: &str) -> Self {
        Self::of(text, DeTable::parse_recoverable(text).0.get_ref())
    }

    fn of(text: &str, table: &DeTable<'_>) -> Self {
        let mut file = Self::default();
        file.values = file.table(text, &Key::default(), table);
        file
    }

    fn table(&mut self, text: &str, at: &Key, table: &DeTable<'_>) -> Dict {
        let mut values = Dict::new();
        for (name, value) in table {
            let key = at.child(name.get_ref());
            self.lines.insert(key.to_string(), position(text, name.span().start).0);
            values.insert(name.get_ref().to_string(), self.value(text, &key, value));
        }
        values
    }

    fn value(&mut self, text: &str, at: &Key, value: &Spanned<DeValue<'_>>) -> Value {
        match value.get_ref() {
            DeValue::Table(table) => self.table(text, at, table).into(),
            DeValue::Array(elements) => {
                let mut values = Vec::new();
                for (index, element) in elements.iter().enumerate() {
                    let key = at.element(index);
                    self.lines.insert(key.to_string(), position(text, element.span().start).0);
                    values.push(self.value(text, &key, element));
                }
                values.into()
            }
            scalar => self::scalar(scalar),
        }
    }
}

/// Reads one TOML value, as it stands behind a `=`; `None` if it is none, or a date, which would not stay as written.
pub(super) fn value(text: &str) -> Option<Value> {
    let value = DeValue::parse(text).ok().filter(|value| !value.get_ref().is_datetime())?;
    Some(File::default().value(text, &Key::default(), &value))
}

fn scalar(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::Boolean(flag) => (*flag).into(),
        DeValue::Float(number) => number.as_str().parse::<f64>().unwrap_or(f64::NAN).into(),
        // Signed, because figment takes small unsigned numbers for names of an enum, by their index. What doesn't
        // fit 64 bits fits no setting; it stays a number, so that the problem says so.
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => number.into(),
            Err(_) => Num::I128(i128::MAX).into(),
        },
        DeValue::String(text) => text.to_string().into(),
        // No setting is a date, so one can only be meant as text.
        DeValue::Datetime(date) => date.to_string().into(),
        DeValue::Array(_) | DeValue::Table(_) => Dict::new().into(),
    }
}

fn broken(text: &str, error: &toml::de::Error) -> Problem {
    let (line, column) = position(text, error.span().map_or(text.len(), |span| span.start));
    let what = format!("line {line}, column {column}: {}", error.message());
    Problem::new("", what, "correct the TOML there")
}

/// Line and column of a byte, both from 1.
fn position(text: &str, byte: usize) -> (usize, usize) {
    let before = text.get(..byte).unwrap_or(text);
    let line = before.rsplit('\n').next().unwrap_or(before);
    (before.matches('\n').count() + 1, line.chars().count() + 1)
}
