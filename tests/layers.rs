//! Who may import whom. Cargo can't hold layers inside one crate, so this reads the sources.
//!
//! ```text
//! main > cli > app > { proxy, admin } > manager > store > session > time
//!                      proxy > wire > session
//!        config composes the settings of every module; secret, telemetry, drain, time are leaves
//! ```
#![allow(clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Each module, and the modules that it may name. Leaves stand with what they need themselves.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("main", &["cli"]),
    ("cli", &["app", "config", "session", "telemetry", "time", "secret"]),
    (
        "app",
        &["config", "proxy", "manager", "store", "session", "wire", "telemetry", "drain", "secret", "time"],
    ),
    ("config", &["proxy", "store", "session", "wire", "telemetry", "secret", "time"]),
    ("proxy", &["manager", "store", "session", "wire", "telemetry", "drain", "time"]),
    ("manager", &["store", "session", "telemetry", "time"]),
    ("store", &["session", "secret", "time"]),
    ("wire", &["session", "secret", "time"]),
    ("session", &["time"]),
    ("telemetry", &["time"]),
    ("drain", &[]),
    ("secret", &[]),
    ("time", &[]),
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// The modules that a source names behind `root`, tests left out.
fn imports(source: &str, root: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (n, line) in source.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        if code.trim_start().starts_with("#[cfg(test)]") {
            break;
        }
        for (at, root) in code.match_indices(root) {
            let name = code[at + root.len()..].split(|c: char| !c.is_alphanumeric() && c != '_').next();
            let before = code[..at].chars().next_back();
            if before.is_none_or(|c| !c.is_alphanumeric() && c != '_') {
                found.push((n + 1, name.unwrap_or_default().to_owned()));
            }
        }
    }
    found
}

#[test]
fn no_arrow_points_upwards() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let rules: BTreeMap<_, _> = MAY_IMPORT.iter().copied().collect();
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut wrong = Vec::new();
    for file in files {
        let inside = file.strip_prefix(&root).expect("below src");
        let first = inside.components().next().expect("a name").as_os_str().to_string_lossy();
        let module = first.trim_end_matches(".rs").to_owned();
        if module == "lib" {
            continue;
        }
        let allowed =
            rules.get(&*module).unwrap_or_else(|| panic!("no layer is known for {module}: add it here"));
        let root = if module == "main" { "coatroom::" } else { "crate::" };
        for (line, name) in imports(&fs::read_to_string(&file).expect("a source"), root) {
            if name != module && rules.contains_key(&*name) && !allowed.contains(&&*name) {
                wrong.push(format!("{}:{line}: {module} may not name {name}", inside.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_reader_sees_an_arrow_where_there_is_one() {
    let source =
        "use crate::proxy::X;\n// crate::cli\nfn f() { crate::store::g() }\n#[cfg(test)]\nuse crate::app;";
    assert_eq!(imports(source, "crate::"), [(1, "proxy".to_owned()), (3, "store".to_owned())]);
}
