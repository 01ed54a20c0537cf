//! Section 3 of the contract: what the backend may answer, and what that does.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Map, Value, json};

use crate::support::{Backend, Browser, Sidecar};

/// What every case begins with.
const START: &str = r#"{"a":1,"s":"x","l":[1],"o":{"x":1,"y":{"z":2}},"f":1.5,"n":null}"#;
const REST: &str = r#""s":"x","l":[1],"o":{"x":1,"y":{"z":2}},"f":1.5,"n":null"#;

fn keyed(backend: &Backend) -> Sidecar {
    Sidecar::with(backend.address, |config| {
        config.headers.keys = vec!["member_no".to_owned(), "a".to_owned()];
    })
}

fn started(sidecar: &Sidecar) -> Browser {
    let mut visitor = sidecar.browser();
    assert_eq!(visitor.mirror(&[("X-Session-Set", START)]).row(), "create");
    visitor
}

/// The row that was taken, and the data that the next request reads.
fn after(backend: &Backend, visitor: &mut Browser, wanted: &[(&str, &str)]) -> (String, String) {
    let reply = visitor.mirror(wanted);
    assert_eq!(reply.status, 200, "{wanted:?}: {}", reply.text());
    visitor.mirror(&[]);
    (reply.row().to_owned(), backend.last().data().to_owned())
}

#[test]
#[rustfmt::skip] // a table: one case a line
fn each_directive_does_what_the_table_says() {
    let backend = Backend::mirror();
    let sidecar = keyed(&backend);
    let all = |first: &str| format!("{{{first}{REST}}}");
    let plus = |last: &str| START.strip_suffix('}').map(|start| format!("{start},{last}}}")).expect("an object");
    let unchanged = || START.to_owned();
    for (wanted, row, expected) in [
        (vec![("Set", r#"{"a":null}"#)], "save", all(r#""a":null,"#)), // null is stored
        (vec![("Set", r#"{"b":[{"c":1.10}],"a":"é"}"#)], "save", format!(r#"{{"a":"\u00e9",{REST},"b":[{{"c":1.10}}]}}"#)),
        (vec![("Set", "{}")], "save", unchanged()), // as update({}) does
        (vec![("Set", "\t{ \"a\" :\t2 } ")], "save", all(r#""a":2,"#)),
        (vec![("Set", r#"{"":0}"#)], "save", plus(r#""":0"#)),
        (vec![("Set-Default", r#"{"a":9,"d":1,"n":9}"#)], "save", plus(r#""d":1"#)), // null is there
        (vec![("Set-Default", r#"{"a":9}"#)], "nothing", unchanged()),
        (vec![("Set-Default", "{}")], "nothing", unchanged()),
        (vec![("Set-Key-Member-No", "50%25%20%C3%A9")], "save", plus(r#""member_no":"50% \u00e9""#)),
        (vec![("set-KEY-member-no", "bare")], "save", plus(r#""member_no":"bare""#)),
        (vec![("Set-Key-Member-No", "")], "save", plus(r#""member_no":"""#)),
        (vec![("Set-Key-Member-No", "7")], "save", plus(r#""member_no":"7""#)), // always a string
        (vec![("Merge", r#"{"o":{"x":null,"w":3,"y":{"z":4}}}"#)], "save", START.replace(r#"{"x":1,"y":{"z":2}}"#, r#"{"y":{"z":4},"w":3}"#)),
        (vec![("Merge", r#"{"a":null,"zz":null}"#)], "save", all("")),
        (vec![("Merge", r#"{"s":{"k":null,"j":1}}"#)], "save", START.replace(r#""x","l""#, r#"{"j":1},"l""#)),
        (vec![("Merge", r#"{"l":[2]}"#)], "save", START.replace("[1]", "[2]")), // arrays are replaced
        (vec![("Merge", r#"{"e":{"k":null}}"#)], "save", plus(r#""e":{}"#)),
        (vec![("Merge", r#"{"a":1,"o":{"y":{"z":2}},"zz":null}"#)], "nothing", unchanged()),
        (vec![("Merge", "{}")], "nothing", unchanged()),
        (vec![("Increment", r#"{"a":2,"new":-3}"#)], "save", START.replace(r#""a":1"#, r#""a":3"#).replace("null}", r#"null,"new":-3}"#)),
        (vec![("Increment", r#"{"f":1}"#)], "save", START.replace("1.5", "2.5")),
        (vec![("Increment", r#"{"a":0}"#)], "save", unchanged()),
        (vec![("Increment", "{}")], "save", unchanged()),
        (vec![("Delete", r#"["a","zz"]"#)], "save", all("")),
        (vec![("Delete", "a, s ,,\tf")], "save", r#"{"l":[1],"o":{"x":1,"y":{"z":2}},"n":null}"#.to_owned()),
        (vec![("Delete", r#"["zz"]"#)], "nothing", unchanged()), // an absent key is no error
        (vec![("Delete", "zz")], "nothing", unchanged()),
        (vec![("Delete", "[]")], "nothing", unchanged()),
        (vec![("Delete", "n")], "save", START.replace(r#","n":null"#, "")),
        (vec![("Clear", "true")], "save", "{}".to_owned()),
        (vec![("Clear", "false")], "nothing", unchanged()),
        (vec![("Flush", "true")], "flush", "{}".to_owned()),
        (vec![("Flush", "false")], "nothing", unchanged()),
        (vec![("Cycle-Key", "true")], "cycle-key", unchanged()),
        (vec![("Cycle-Key", "false")], "nothing", unchanged()),
        (vec![("Test-Cookie", "set")], "save", plus(r#""testcookie":"worked""#)),
        (vec![("Test-Cookie", "delete")], "nothing", unchanged()),
        (vec![("Save", "true")], "save", unchanged()),
        (vec![("Save", "false")], "nothing", unchanged()),
        // repeated, on lines and joined by commas: they count in order
        (vec![("Set", r#"{"a":2}"#), ("Set", r#"{"a":3}"#)], "save", all(r#""a":3,"#)),
        (vec![("Set", r#"{"a":3},{"a":2} , {"b":"},{"}"#)], "save", format!(r#"{{"a":2,{REST},"b":"}},{{"}}"#)),
        (vec![("Set-Default", r#"{"d":1}"#), ("Set-Default", r#"{"d":2},{"e":3}"#)], "save", plus(r#""d":1,"e":3"#)),
        (vec![("Merge", r#"{"a":null},{"a":5}"#)], "save", format!(r#"{{{REST},"a":5}}"#)),
        (vec![("Increment", r#"{"a":1}, {"a":1}"#), ("Increment", r#"{"a":1}"#)], "save", all(r#""a":4,"#)),
        (vec![("Delete", r#"["a"] , ["s"]"#), ("Delete", "l")], "save", r#"{"o":{"x":1,"y":{"z":2}},"f":1.5,"n":null}"#.to_owned()),
        // equal repetitions of the others count once
        (vec![("Clear", "true"), ("Clear", "true")], "save", "{}".to_owned()),
        (vec![("Expiry", "300"), ("Expiry", "300")], "save", unchanged()),
        (vec![("Set-Key-Member-No", "x"), ("Set-Key-Member-No", "x")], "save", plus(r#""member_no":"x""#)),
        (vec![("Test-Cookie", "set"), ("Test-Cookie", "set")], "save", plus(r#""testcookie":"worked""#)),
    ] {
        let wanted: Vec<(String, &str)> = wanted.into_iter().map(|(name, value)| (format!("X-Session-{name}"), value)).collect();
        let wanted: Vec<(&str, &str)> = wanted.iter().map(|(name, value)| (&**name, *value)).collect();
        let mut visitor = started(&sidecar);
        assert_eq!(after(&backend, &mut visitor, &wanted), (row.to_owned(), expected), "{wanted:?}");
    }
}

#[test]
fn flush_gives_a_new_key_only_if_there_is_new_data() {
    let backend = Backend::mirror();
    let sidecar = Sidecar::before(backend.address);
    let mut visitor = started(&sidecar);
    let first = visitor.token().map(str::to_owned);
    let set = [("X-Session-Set", r#"{"b":2}"#), ("X-Session-Flush", "true")];
    assert_eq!(after(&backend, &mut visitor, &set), ("flush-with-data".to_owned(), r#"{"b":2}"#.to_owned()));
    assert!(visitor.token().is_some() && visitor.token() != first.as_deref());
    assert_eq!(visitor.mirror(&[("X-Session-Flush", "true")]).row(), "flush");
    assert_eq!(visitor.token(), None);
}

#[test]
fn the_order_is_the_contracts_whatever_the_order_on_the_wire() {
    let backend = Backend::mirror();
    let sidecar = keyed(&backend);
    let all = [
        ("X-Session-Clear", "true"),
        ("X-Session-Delete", r#"["kept","a"]"#),
        ("X-Session-Set", r#"{"a":1,"kept":1,"member_no":"set"}"#),
        ("X-Session-Set-Key-Member-No", "key"),
        ("X-Session-Set-Default", r#"{"a":7,"d":10}"#),
        ("X-Session-Merge", r#"{"kept":null,"d":20,"testcookie":"merged"}"#),
        ("X-Session-Increment", r#"{"d":1,"a":1}"#),
        ("X-Session-Test-Cookie", "set"),
        ("X-Session-Expiry", "300"),
    ];
    let expected = json!({"a": 2, "member_no": "key", "d": 21, "testcookie": "worked"});
    let mut runner = TestRunner::new(Config { cases: 60, failure_persistence: None, ..Config::default() });
    runner
        .run(&Just(all.to_vec()).prop_shuffle(), |wanted| {
            for first in [None, Some(("X-Session-Cycle-Key", "true")), Some(("X-Session-Flush", "true"))] {
                let mut visitor = started(&sidecar);
                let mut wanted = wanted.clone();
                wanted.extend(first);
                let turned = usize::from(wanted[0].0.len() % 2 == 0);
                wanted.rotate_right(turned);
                let (_, data) = after(&backend, &mut visitor, &wanted);
                let data: Map<String, Value> = serde_json::from_str(&data).expect("JSON");
                prop_assert_eq!(&Value::from(data), &expected, "{:?}", wanted);
                let seen = backend.last();
                prop_assert_eq!(seen.header("x-session-expiry-age"), Some("300"));
            }
            Ok(())
        })
        .expect("one order");
}

#[test]
fn clear_resets_a_custom_expiry_and_keeps_the_token() {
    let backend = Backend::mirror();
    let sidecar = Sidecar::before(backend.address);
    let mut visitor = started(&sidecar);
    visitor.mirror(&[("X-Session-Expiry", "300")]);
    let token = visitor.token().map(str::to_owned);
    visitor.mirror(&[("X-Session-Clear", "true")]);
    visitor.mirror(&[]);
    let seen = backend.last();
    assert_eq!(
        (seen.header("x-session-expiry-age"), seen.header("x-session-state")),
        (Some("1209600"), Some("active"))
    );
    assert_eq!(visitor.token(), token.as_deref());
    visitor.mirror(&[("X-Session-Clear", "true"), ("X-Session-Expiry", "60")]);
    visitor.mirror(&[]);
    assert_eq!(backend.last().header("x-session-expiry-age"), Some("60"), "expiry comes last");
}

#[test]
fn section_2_names_in_a_response_are_stripped_and_counted_and_nothing_more() {
    let backend = Backend::mirror();
    let sidecar = keyed(&backend);
    let names = [
        "Data",
        "State",
        "Id",
        "Version",
        "Expiry-Age",
        "Expiry-Date",
        "Expires-At",
        "Expire-At-Browser-Close",
        "Nonce",
        "Omitted",
        "Signature",
        "Key-Member-No",
        "Key-Unlisted",
    ];
    let mut wanted: Vec<(String, &str)> =
        names.iter().map(|name| (format!("X-Session-{name}"), "{not even JSON")).collect();
    wanted.push(("X-Session-Increment".to_owned(), r#"{"a":1}"#));
    let wanted: Vec<(&str, &str)> = wanted.iter().map(|(name, value)| (&**name, *value)).collect();
    let mut visitor = started(&sidecar);
    let (row, data) = after(&backend, &mut visitor, &wanted);
    assert_eq!((&*row, data), ("save", START.replace(r#""a":1"#, r#""a":2"#)));
    assert_eq!(sidecar.metric("coatroom_headers_stripped_total{side=\"backend\"}"), names.len() as u64);
}

#[test]
fn the_reserved_beginning_is_reserved_for_entries_only() {
    let backend = Backend::mirror();
    let sidecar = Sidecar::before(backend.address);
    let mut visitor = sidecar.browser();
    let set = [("X-Session-Set", r#"{"a":{"_b":1},"c_":2}"#), ("X-Session-Merge", r#"{"a":{"_d":3}}"#)];
    let (_, data) = after(&backend, &mut visitor, &set);
    assert_eq!(data, r#"{"a":{"_b":1,"_d":3},"c_":2}"#);
}

#[test]
fn what_looks_like_a_number_inside_the_parser_breaks_no_session() {
    let backend = Backend::mirror();
    let sidecar = Sidecar::before(backend.address);
    let private = "$serde_json::private::Number";
    let mut visitor = started(&sidecar);
    for (name, value) in [
        ("X-Session-Set", format!(r#"{{"o":{{"x":1,"{private}":"boom"}}}}"#)),
        ("X-Session-Merge", format!(r#"{{"o":{{"{private}":"boom"}}}}"#)),
        ("X-Session-Merge", r#"{"o":{"x":null,"y":null}}"#.to_owned()),
        ("X-Session-Set", format!(r#"{{"{private}":"boom"}}"#)),
        ("X-Session-Set", format!(r#"{{"z":1,"{private}":"boom"}}"#)),
        ("X-Session-Delete", r#"["z","a","s","l","f","n"]"#.to_owned()),
        ("X-Session-Increment", format!(r#"{{"{private}":1}}"#)),
        ("X-Session-Save", "true".to_owned()),
    ] {
        let status = visitor.mirror(&[(name, &value)]).status;
        assert!(status == 200 || status == 502, "{name} {value}: {status}");
        let reply = visitor.mirror(&[("X-Session-Increment", r#"{"alive":1}"#)]);
        assert_eq!((reply.status, reply.row()), (200, "save"), "after {name} {value}");
        visitor.mirror(&[]);
        serde_json::from_str::<Map<String, Value>>(backend.last().data()).expect("JSON");
    }
    assert!(backend.last().data().ends_with(r#""alive":8}"#), "{}", backend.last().data());
}
