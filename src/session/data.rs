//! A session's entries: a JSON object that is text until somebody asks for a map.

use std::fmt;
use std::io;
use std::sync::{LazyLock, OnceLock};

use bytes::Bytes;
use memchr::memmem::Finder;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};

/// Entries in insertion order, numbers kept digit for digit.
pub type Map = serde_json::Map<String, Value>;

/// Keys that begin with this are the framework's own (`_auth_user_id`): never set by a directive.
pub const RESERVED: char = '_';
/// Finds what text with such a key holds.
static RESERVED_KEY: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new(b"\"_"));

/// Is it visible ASCII, spaces included? All bytes are looked at, many at once.
pub fn is_visible(text: &[u8]) -> bool {
    text.iter().fold(0, |other, byte| other | u8::from(byte.wrapping_sub(0x20) > 0x5e)) == 0
}

/// Everything outside 0x21–0x7E, and `%` itself.
const BARE: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(0x7f);

/// The data of a session, an object of JSON entries.
///
/// A request that only reads never parses it: the text that the store kept is the text that the backend gets.
/// The text is visible ASCII (`\uXXXX` for the rest), so it fits into a header as it is.
pub struct Data {
    text: OnceLock<Bytes>,
    map: OnceLock<Map>,
}

impl Data {
    /// Data without an entry.
    pub fn empty() -> Self {
        Self::from_text(Bytes::from_static(b"{}"))
    }

    /// Data from text that [`Data::text`] wrote. Nothing is checked here: a codec vouches for it.
    pub fn from_text(text: Bytes) -> Self {
        Self { text: OnceLock::from(text), map: OnceLock::new() }
    }

    /// Data from its entries.
    pub fn from_map(map: Map) -> Self {
        Self { text: OnceLock::new(), map: OnceLock::from(map) }
    }

    /// The entries as a JSON object in visible ASCII, compact, in insertion order.
    pub fn text(&self) -> &Bytes {
        self.text.get_or_init(|| Bytes::from(to_ascii(self.map.get().unwrap_or(&Map::new()))))
    }

    /// The entries.
    ///
    /// # Panics
    /// If the text is no JSON object, which its codec has ruled out: we wrote it, or it [is an object](Self::is_object).
    pub fn map(&self) -> &Map {
        self.map.get_or_init(|| {
            let text = self.text.get().map_or(&b"{}"[..], |text| &text[..]);
            serde_json::from_slice(text).expect("the codec vouches for the text")
        })
    }

    /// Is the text a JSON object, so that there is a [`Data::map`]? What it takes to know is not done again for that.
    pub fn is_object(&self) -> bool {
        let Some(text) = self.text.get() else { return true };
        serde_json::from_slice(text).is_ok_and(|map| {
            self.map.get_or_init(|| map);
            true
        })
    }

    /// Takes the entries out.
    pub fn into_map(self) -> Map {
        self.map();
        self.map.into_inner().unwrap_or_default()
    }

    /// Is there no entry at all, not even a reserved one?
    pub fn is_empty(&self) -> bool {
        match self.text.get() {
            Some(text) => &text[..] == b"{}",
            None => self.map().is_empty(),
        }
    }

    /// The value of an entry; `None` also where it is `null`, which means "nobody" as much as absence does.
    pub fn non_null(&self, name: &str) -> Option<&Value> {
        self.map().get(name).filter(|value| !value.is_null())
    }

    /// What a backend may read: everything but reserved entries that `expose` doesn't list.
    ///
    /// Where no text so much as looks like a reserved key, this is the very text of the store.
    pub fn visible(&self, expose: &[String]) -> Bytes {
        if RESERVED_KEY.find(self.text()).is_none() {
            return self.text().clone();
        }
        let mut map = self.map().clone();
        map.retain(|key, _| !key.starts_with(RESERVED) || expose.contains(key));
        Bytes::from(to_ascii(&map))
    }
}

impl Clone for Data {
    fn clone(&self) -> Self {
        match self.text.get() {
            Some(text) => Self::from_text(text.clone()),
            None => Self::from_map(self.map().clone()),
        }
    }
}

impl PartialEq for Data {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl fmt::Debug for Data {
    /// Shows how much there is, never what: session data stays out of logs (ASVS 16.2.5).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Data({} bytes)", self.text().len())
    }
}

/// Any JSON value in visible ASCII, compact.
pub fn to_ascii<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    value
        .serialize(&mut Serializer::with_formatter(&mut out, Ascii(CompactFormatter)))
        .expect("JSON values with string keys serialize into memory");
    out
}

/// A value for a backend that can't parse JSON: strings bare, the rest as JSON, percent-encoded.
pub fn to_bare(value: &Value) -> String {
    match value {
        Value::String(text) => utf8_percent_encode(text, BARE).to_string(),
        other => utf8_percent_encode(&String::from_utf8_lossy(&to_ascii(other)), BARE).to_string(),
    }
}

/// How deep a value nests: a scalar 0, `[]` 1, `[[]]` 2.
pub fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// serde_json's compact form, but for what is not visible ASCII: `\uXXXX`, surrogate pairs beyond 0xFFFF.
struct Ascii(CompactFormatter);

impl Formatter for Ascii {
    fn write_string_fragment<W: io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.bytes().position(|b| !(0x20..0x7f).contains(&b)) {
            let (plain, from) = rest.split_at(at);
            self.0.write_string_fragment(writer, plain)?;
            let char = from.chars().next().expect("position found a byte");
            for unit in char.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = &from[char.len_utf8()..];
        }
        self.0.write_string_fragment(writer, rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn data(json: &str) -> Data {
        Data::from_map(serde_json::from_str(json).unwrap())
    }

    #[test]
    fn numbers_stay_digit_for_digit_and_keys_in_their_order() {
        let json = r#"{"z":1.10,"a":123456789012345678901234567890,"m":-0.0,"e":1e+400}"#; // an exponent gets its sign
        assert_eq!(data(json).text(), json);
        assert_eq!(Data::from_text(json.into()).map(), data(json).map());
    }

    #[test]
    fn whatever_is_not_visible_ascii_is_escaped() {
        let mut map = Map::new();
        map.insert("é".into(), "\u{7f}\r\n\t\"\\ 😀".into());
        assert_eq!(Data::from_map(map).text(), r#"{"\u00e9":"\u007f\r\n\t\"\\ \ud83d\ude00"}"#);
    }

    #[test]
    fn what_is_said_to_be_an_object_can_be_read_as_one() {
        let nested = |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
        for text in [
            "{}",
            " {} ",
            r#"{"a":1.10,"b":-0.0,"c":1e400,"d":[null,true,"x",{}],"e":"\ud83d\ude00"}"#,
            r#"{"$serde_json::private::Number":"x"}"#,
            r#"{"a":{"$serde_json::private::Number":"12"}}"#,
            &nested(126),
        ] {
            let data = Data::from_text(text.to_owned().into());
            assert!(data.is_object(), "{text}");
            assert_eq!(data.map(), &serde_json::from_str::<Map>(text).unwrap());
        }
        for text in [
            "",
            "{",
            "{]}",
            "[]",
            "{}{}",
            "{nonsense}",
            r#"{"a":1,}"#,
            r#"{"a":01}"#,
            r#"{"a":1.}"#,
            r#"{"a":"\ud83d"}"#,
            r#"{"a":"\x"}"#,
            r#"{1:1}"#,
            r#"{"a":{"$serde_json::private::Number":"x"}}"#,
            r#"{"a":{"$serde_json::private::Number":"1","b":2}}"#,
            &nested(127),
        ] {
            let data = Data::from_text(text.to_owned().into());
            assert!(!data.is_object(), "{text}");
        }
    }

    #[test]
    fn debug_shows_no_data() {
        assert_eq!(format!("{:?}", data(r#"{"card":"4111"}"#)), "Data(15 bytes)");
    }

    #[test]
    fn a_bare_value_has_no_byte_that_a_header_could_lose() {
        assert_eq!(to_bare(&"50 % off é".into()), "50%20%25%20off%20%C3%A9");
        assert_eq!(to_bare(&serde_json::json!(["a b", 1])), "[\"a%20b\",1]");
        assert_eq!(to_bare(&serde_json::json!(true)), "true");
    }

    proptest! {
        #[test]
        fn any_text_comes_back_from_its_ascii_form(key in any::<String>(), value in any::<String>()) {
            let mut map = Map::new();
            map.insert(key, value.into());
            let written = Data::from_map(map.clone());
            prop_assert!(written.text().iter().all(|b| (0x20..0x7f).contains(b)));
            let read = Data::from_text(written.text().clone());
            prop_assert_eq!(read.map(), &map);
        }
    }
}
