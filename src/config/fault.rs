//! Why a value didn't fit, and how that is told.

use figment::error::{Actual, Kind};
use figment::value::Value;

use super::key::Key;
use super::problem::{Problem, nearest, suggest};
use super::schema::Schema;

/// Why a value didn't fit. It holds no text of the value but the name of an unknown variant, which is no secret.
pub(super) struct Fault {
    /// The setting.
    pub(super) key: Key,
    pub(super) why: Why,
}

/// What serde, or the lack of a default, says.
pub(super) enum Why {
    /// There is no such setting or, where a table was given, section.
    Unknown { table: bool },
    /// A table in a list has no such field, but these.
    UnknownField(&'static [&'static str]),
    /// A section that is given a value.
    Section,
    /// serde said no.
    Misfit(Kind),
}

impl Fault {
    /// Has the value the wrong type?
    pub(super) fn is_mismatch(&self) -> bool {
        matches!(&self.why, Why::Misfit(Kind::InvalidType(..)) | Why::Section)
    }

    /// What is wrong, in words.
    pub(super) fn problem(self, schema: &Schema) -> Problem {
        let Self { key, why } = self;
        let name = key.to_string();
        match why {
            Why::Unknown { table } => unknown(schema, &key, table),
            Why::UnknownField(known) => {
                let field = key.names().next_back().unwrap_or_default();
                Problem::new(&name, "unknown setting", suggest(field, known.iter().copied()))
            }
            Why::Section => Problem::new(&name, "is a section, not a setting", format!("set {name}.<key>")),
            Why::Misfit(kind) => {
                let remedy = example(schema, &key);
                match kind {
                    Kind::InvalidType(actual, expected) | Kind::InvalidValue(actual, expected) => {
                        let remedy = words(&expected).map_or(remedy, |expected| format!("write {expected}"));
                        Problem::new(name, format!("is {}", named(&actual)), remedy)
                    }
                    Kind::UnknownVariant(word, known) => Problem::new(
                        name,
                        format!("unknown value {word:?}"),
                        suggest(&word, known.iter().copied()),
                    ),
                    Kind::MissingField(field) => Problem::new(name, format!("has no {field}"), "add it"),
                    // What serde says of untagged enums; the remedy says it better.
                    Kind::Message(text)
                        if text.starts_with("data did not") || text.starts_with("expected") =>
                    {
                        Problem::new(name, "doesn't fit", remedy)
                    }
                    Kind::Message(text) => Problem::of(name, &text, &remedy),
                    kind => Problem::new(name, kind.to_string(), remedy),
                }
            }
        }
    }
}

/// An unknown setting or section, with the one that was most likely meant.
fn unknown(schema: &Schema, given: &Key, table: bool) -> Problem {
    // What is unknown is the first step that leaves the tree: of `cooky.name` it is `cooky`.
    let mut key = given.clone();
    while let Some(parent) = key.parent().filter(|parent| schema.default_of(parent).is_none()) {
        key = parent;
    }
    let name = key.names().next_back().unwrap_or_default();
    let parent = key.parent().unwrap_or_default();
    let Some(Value::Dict(_, beside)) = schema.default_of(&parent) else {
        return Problem::new(parent.to_string(), "is a setting, not a section", "set it as a whole");
    };
    let near = nearest(name, beside.keys().map(String::as_str)).map(|name| parent.child(name));
    let squashed = |name: &str| name.replace('_', "").to_lowercase();
    let elsewhere = || {
        let tables = [(Key::default(), schema.defaults())].into_iter();
        let sections = schema.defaults().iter();
        let sections =
            sections.filter_map(|(name, values)| Some((Key::default().child(name), values.as_dict()?)));
        tables.chain(sections).find_map(|(table, values)| {
            values.keys().find(|other| squashed(other) == squashed(name)).map(|name| table.child(name))
        })
    };
    let remedy = match near.or_else(elsewhere) {
        Some(meant) => format!("did you mean {meant}?"),
        None => format!("remove it, or choose one of {}", Vec::from_iter(beside.into_keys()).join(", ")),
    };
    let is_section = key.depth() == 1 && (table || given.depth() > 1);
    Problem::new(key.to_string(), if is_section { "unknown section" } else { "unknown setting" }, remedy)
}

/// What a value of this setting looks like.
fn example(schema: &Schema, key: &Key) -> String {
    const EXAMPLES: [(&str, &str); 3] = [
        ("proxy.trusted", "write an address, or a network such as 10.0.0.0/8"),
        ("cookie.secure", "write true, false or \"auto\""),
        ("session.touch_interval", "write \"auto\", seconds (90) or a text such as \"90s\""),
    ];
    let name = key.to_string();
    if let Some((_, example)) = EXAMPLES.iter().find(|(setting, _)| name.starts_with(setting)) {
        return (*example).to_owned();
    }
    match schema.default_of(key) {
        Some(Value::String(_, text)) if !text.is_empty() => format!("write a value such as {text:?}"),
        _ => "write a value as its comment in config/coatroom.toml describes it".to_owned(),
    }
}

/// The type of a value, never the value: it may be a secret in the wrong place.
fn named(actual: &Actual) -> &'static str {
    match actual {
        Actual::Bool(_) => "true or false",
        Actual::Signed(number) if *number < 0 => "negative",
        Actual::Unsigned(_) | Actual::Signed(_) => "a number",
        Actual::Float(_) => "a number with a fraction",
        Actual::Str(_) | Actual::Char(_) => "text",
        Actual::Seq => "a list",
        Actual::Map => "a table",
        Actual::Other(text) if text.contains("integer") => "too large a number",
        _ => "something else",
    }
}

/// What serde expected, for people.
fn words(expected: &str) -> Option<String> {
    let words = match expected {
        "usize" | "u64" => "a whole number, 0 or more",
        "a boolean" => "true or false",
        "a string" | "string" => "text in quotes",
        "a sequence" => "a list in brackets",
        text if text.starts_with("enum") || text.starts_with("variant") => {
            "one of the names that its comment in config/coatroom.toml lists"
        }
        text if text.starts_with("struct") => "a table in braces",
        text if text.starts_with("a length of time") => text,
        _ => return None,
    };
    Some(words.to_owned())
}
