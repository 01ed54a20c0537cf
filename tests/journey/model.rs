//! Sections 3 and 4 of the contract against an independent model: lists of pairs and the words of the tables.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Map, Value, json};

use crate::support::{Backend, Sidecar};

/// Entries in their order.
type Entries = Vec<(String, Value)>;

/// One directive on the wire.
#[derive(Clone, Debug)]
enum Step {
    Object(&'static str, Entries),
    Delete(Vec<String>),
    Flag(&'static str),
    TestCookie(&'static str),
}

impl Step {
    fn line(&self) -> (String, String) {
        match self {
            Self::Object(name, entries) => {
                let map: Map<String, Value> = entries.iter().cloned().collect();
                ((*name).to_owned(), Value::from(map).to_string())
            }
            Self::Delete(keys) => ("X-Session-Delete".to_owned(), json!(keys).to_string()),
            Self::Flag(name) => ((*name).to_owned(), "true".to_owned()),
            Self::TestCookie(what) => ("X-Session-Test-Cookie".to_owned(), (*what).to_owned()),
        }
    }
}

fn get<'a>(data: &'a Entries, key: &str) -> Option<&'a Value> {
    data.iter().find(|(other, _)| other == key).map(|(_, value)| value)
}

fn put(data: &mut Entries, key: &str, value: Value) {
    match data.iter_mut().find(|(other, _)| other == key) {
        Some((_, old)) => *old = value,
        None => data.push((key.to_owned(), value)),
    }
}

fn remove(data: &mut Entries, key: &str) -> bool {
    let before = data.len();
    data.retain(|(other, _)| other != key);
    data.len() < before
}

/// RFC 7396 as its pseudo code has it: a new value, made of the old one.
fn merged(target: Option<&Value>, patch: &Value) -> Value {
    let Value::Object(patch) = patch else { return patch.clone() };
    let mut target = target.and_then(Value::as_object).cloned().unwrap_or_default();
    for (key, value) in patch {
        if value.is_null() {
            target.shift_remove(key);
        } else {
            let value = merged(target.get(key), value);
            target.insert(key.clone(), value);
        }
    }
    target.into()
}

/// What the steps make of a session (`None`: there is none), and the row that is taken.
fn model(before: Option<&Entries>, steps: &[Step]) -> (&'static str, Option<Entries>) {
    let has = |name: &str| steps.iter().any(|step| matches!(step, Step::Flag(flag) if *flag == name));
    let objects = |name: &'static str| {
        steps.iter().filter_map(move |step| match step {
            Step::Object(other, entries) if *other == name => Some(entries),
            _ => None,
        })
    };
    let mut data = before.cloned().unwrap_or_default();
    let mut changed = has("X-Session-Clear") || has("X-Session-Cycle-Key") || has("X-Session-Flush");
    if has("X-Session-Flush") || has("X-Session-Clear") {
        data.clear();
    }
    for step in steps {
        if let Step::Delete(keys) = step {
            keys.iter().for_each(|key| changed |= remove(&mut data, key));
        }
    }
    for entries in objects("X-Session-Set") {
        changed = true;
        entries.iter().for_each(|(key, value)| put(&mut data, key, value.clone()));
    }
    for (key, value) in objects("X-Session-Set-Default").flatten() {
        if get(&data, key).is_none() {
            changed = true;
            put(&mut data, key, value.clone());
        }
    }
    for (key, value) in objects("X-Session-Merge").flatten() {
        if value.is_null() {
            changed |= remove(&mut data, key);
        } else {
            let new = merged(get(&data, key), value);
            changed |= get(&data, key) != Some(&new);
            put(&mut data, key, new);
        }
    }
    for entries in objects("X-Session-Increment") {
        changed = true;
        for (key, step) in entries {
            let old = get(&data, key).map_or(Some(0), Value::as_i64).expect("counters count");
            put(&mut data, key, (old + step.as_i64().expect("an integer")).into());
        }
    }
    for step in steps {
        match step {
            Step::TestCookie("set") => {
                changed = true;
                put(&mut data, "testcookie", "worked".into());
            }
            Step::TestCookie(_) => changed |= remove(&mut data, "testcookie"),
            _ => {}
        }
    }
    match before {
        None if changed && !data.is_empty() => ("create", Some(data)),
        None => ("nothing-to-keep", None),
        Some(_) if has("X-Session-Flush") && data.is_empty() => ("flush", None),
        Some(_) if has("X-Session-Flush") => ("flush-with-data", Some(data)),
        Some(_) if has("X-Session-Cycle-Key") => ("cycle-key", Some(data)),
        Some(_) if changed || has("X-Session-Save") => ("save", Some(data)),
        Some(before) => ("nothing", Some(before.clone())),
    }
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<i32>().prop_map(Value::from),
        "[a-c\u{e9}]{0,3}".prop_map(Value::from),
        Just(Value::Null)
    ];
    leaf.prop_recursive(3, 10, 3, |inner| {
        prop_oneof![
            vec(("[x-z]", inner.clone()), 0..3).prop_map(|all| all.into_iter().collect::<Map<_, _>>().into()),
            vec(inner, 0..3).prop_map(Value::from),
        ]
    })
}

/// Entries by few names, so that steps meet; `n…` are counters.
fn entries(name: &'static str) -> impl Strategy<Value = Step> {
    let unique = |all: Vec<(String, Value)>| all.into_iter().collect::<Map<_, _>>().into_iter().collect();
    vec(("[a-e]", value()), 0..3).prop_map(move |all| Step::Object(name, unique(all)))
}

fn step() -> impl Strategy<Value = Step> {
    let counters = vec(("n[12]", any::<i16>().prop_map(Value::from)), 1..3);
    prop_oneof![
        3 => entries("X-Session-Set"),
        2 => entries("X-Session-Set-Default"),
        3 => entries("X-Session-Merge"),
        2 => counters.prop_map(|all| {
            let all: Map<_, _> = all.into_iter().collect();
            Step::Object("X-Session-Increment", all.into_iter().collect())
        }),
        2 => vec("[a-e]|n1|testcookie", 0..3).prop_map(Step::Delete),
        1 => Just(Step::Flag("X-Session-Clear")),
        1 => Just(Step::Flag("X-Session-Flush")),
        1 => Just(Step::Flag("X-Session-Cycle-Key")),
        1 => Just(Step::Flag("X-Session-Save")),
        1 => prop_oneof![Just("set"), Just("delete")].prop_map(Step::TestCookie),
    ]
}

/// Of directives that may not have several values only the first is kept.
fn single(steps: Vec<Step>) -> Vec<Step> {
    let mut seen = false;
    let keeps = |step: &Step| !matches!(step, Step::TestCookie(_)) || !std::mem::replace(&mut seen, true);
    let mut steps = steps;
    steps.retain(keeps);
    steps
}

#[test]
fn whatever_is_asked_the_rows_and_the_data_are_the_models() {
    let backend = Backend::mirror();
    let sidecar = Sidecar::with(backend.address, |config| config.session.cycle_on = Vec::new());
    let responses = vec(vec(step(), 0..5).prop_map(single), 1..6);
    let mut runner = TestRunner::new(Config { cases: 250, failure_persistence: None, ..Config::default() });
    runner
        .run(&responses, |responses| {
            let (mut visitor, mut expected) = (sidecar.browser(), None);
            for steps in responses {
                let lines: Vec<(String, String)> = steps.iter().map(Step::line).collect();
                let lines: Vec<(&str, &str)> =
                    lines.iter().map(|(name, value)| (&**name, &**value)).collect();
                let before = visitor.token().map(str::to_owned);
                let reply = visitor.mirror(&lines);
                let read: Map<String, Value> = serde_json::from_str(backend.last().data()).expect("JSON");
                prop_assert_eq!(read.into_iter().collect::<Entries>(), expected.clone().unwrap_or_default());
                let (row, data) = model(expected.as_ref(), &steps);
                prop_assert_eq!(reply.row(), row, "{:?}", steps);
                let new = matches!(row, "create" | "flush-with-data" | "cycle-key");
                let same = visitor.token().map(str::to_owned) == before;
                prop_assert!(visitor.token().is_some() == data.is_some() && same != (new || row == "flush"));
                expected = data;
            }
            Ok(())
        })
        .expect("the sidecar is the model's");
}
