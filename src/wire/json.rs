//! JSON as directives have it: strict where `serde_json` is lenient.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value};

use crate::session::Reason;
use crate::session::data::{Map, depth};

/// Levels of objects and arrays that one value may have.
const MAX_DEPTH: usize = 32;
/// What serde_json calls the only key of a number that it keeps digit for digit.
const NUMBER: &str = "$serde_json::private::Number";
/// What a duplicate key makes an error begin with.
const DUPLICATE: &str = "duplicate key";

/// Why a text is not what it should be.
pub(super) type Wrong = (Reason, String);

/// Reads one or several JSON values that are divided by commas, as joined header lines are.
///
/// # Errors
/// Says what is wrong without repeating the text: malformed, a key twice in one object, nested too deeply.
pub(super) fn values(text: &str) -> Result<Vec<Value>, Wrong> {
    let mut rest = text;
    let mut all = Vec::new();
    loop {
        let mut stream = serde_json::Deserializer::from_str(rest).into_iter::<Strict>();
        let value = match stream.next() {
            Some(Ok(Strict(value))) => value,
            Some(Err(error)) => return Err(wrong(&error)),
            None => return Err((Reason::Malformed, "a JSON value is missing".to_owned())),
        };
        if depth(&value) > MAX_DEPTH {
            return Err((Reason::TooLarge, format!("it nests deeper than {MAX_DEPTH} levels")));
        }
        rest = rest.get(stream.byte_offset()..).unwrap_or_default().trim_start_matches([' ', '\t']);
        all.push(value);
        if rest.is_empty() {
            return Ok(all);
        }
        rest = rest
            .strip_prefix(',')
            .ok_or_else(|| (Reason::Malformed, "something stands behind the JSON".to_owned()))?;
    }
}

/// Reads one or several JSON objects, merged in order.
///
/// # Errors
/// As [`values`], and if one is no object.
pub(super) fn object(text: &str) -> Result<Vec<Map>, Wrong> {
    let into = |value| match value {
        Value::Object(map) => Ok(map),
        _ => Err((Reason::Malformed, "it is not a JSON object".to_owned())),
    };
    values(text)?.into_iter().map(into).collect()
}

fn wrong(error: &serde_json::Error) -> Wrong {
    let text = error.to_string();
    if text.starts_with(DUPLICATE) {
        return (Reason::DuplicateKey, "a JSON object has the same key twice".to_owned());
    }
    if text.starts_with("recursion limit") {
        return (Reason::TooLarge, format!("it nests deeper than {MAX_DEPTH} levels"));
    }
    // The category and the place say enough; the message could repeat a value.
    let what = match error.classify() {
        serde_json::error::Category::Eof => "the JSON ends too early",
        _ => "it is not JSON",
    };
    (Reason::Malformed, format!("{what} (byte {})", error.column()))
}

/// A value in which no object has a key twice, at any level.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any).map(Self)
    }
}

struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(Strict(value)) = items.next_element()? {
            all.push(value);
        }
        Ok(all.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if key == NUMBER && map.is_empty() {
                // A number, or an object that looks like one inside; the digits decide, and nothing else passes.
                let digits: String = entries.next_value()?;
                return digits.parse::<Number>().map(Value::Number).map_err(de::Error::custom);
            }
            if key == NUMBER {
                // Stored, it could become the first key, and then nobody could read the session any more.
                return Err(de::Error::custom("a key that serde_json keeps for itself"));
            }
            let Strict(value) = entries.next_value()?;
            if map.insert(key, value).is_some() {
                return Err(de::Error::custom(DUPLICATE));
            }
        }
        Ok(map.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::data::to_ascii;

    fn read(text: &str) -> Result<String, Reason> {
        let all = values(text).map_err(|(reason, _)| reason)?;
        Ok(all.iter().map(|value| String::from_utf8(to_ascii(value)).unwrap()).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn values_may_be_joined_by_commas() {
        assert_eq!(read(r#"{"a":1} , {"b":[2,3]},4"#).unwrap(), r#"{"a":1} {"b":[2,3]} 4"#);
        for bad in ["", ",", "{}{}", "{},", "{} x", "{", "nul", "[1,]", "{\"a\":1,}", "'a'", "NaN", "01"] {
            assert_eq!(read(bad), Err(Reason::Malformed), "{bad}");
        }
    }

    #[test]
    fn digits_are_kept() {
        let number = "12345678901234567890123456789.10";
        assert_eq!(read(number).unwrap(), number);
        assert_eq!(read(r#"{"$serde_json::private::Number":"7"}"#).unwrap(), "7");
        for bad in [
            r#"{"$serde_json::private::Number":"7}"}"#,
            r#"{"$serde_json::private::Number":"7","x":1}"#,
            r#"{"x":1,"$serde_json::private::Number":"7"}"#,
            r#"[{"x":1,"\u0024serde_json::private::Number":{}}]"#,
        ] {
            assert_eq!(read(bad), Err(Reason::Malformed), "{bad}");
        }
    }

    #[test]
    fn a_key_twice_is_refused_at_every_level() {
        for bad in [r#"{"a":1,"a":1}"#, r#"{"x":[{"a":1,"\u0061":2}]}"#] {
            assert_eq!(read(bad), Err(Reason::DuplicateKey), "{bad}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert!(read(&nested(32)).is_ok());
        for levels in [33, 127, 128, 10_000] {
            assert_eq!(read(&nested(levels)), Err(Reason::TooLarge), "{levels}");
        }
    }

    #[test]
    fn an_error_never_repeats_the_text() {
        let (_, what) = values(r#"{"card":4111 1111}"#).unwrap_err();
        assert!(!what.contains("4111"), "{what}");
    }
}
