//! Public test-suites: what they say of a server they say of the sidecar before it, but for what is listed; and
//! Django beside it.

mod cache;
mod django;
mod websocket;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

/// What a suite says of a server, by the case.
type Verdicts = BTreeMap<String, String>;

/// A file of a package that `tests/run` has installed.
fn installed(package: &str, file: &str) -> PathBuf {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/suites")).join(file);
    assert!(path.exists(), "{package} is missing: tests/run installs it ({} is not there)", path.display());
    path
}

/// A file of ours that a suite runs with.
fn ours(file: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/suites")).join(file)
}

/// A program that is to end within `seconds`.
fn within(seconds: u32, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("timeout");
    command.arg(seconds.to_string()).arg(program);
    command
}

/// Runs a program to its end, and reads the JSON that it writes.
fn json(command: &mut Command) -> serde_json::Value {
    let done = command.output().expect("timeout runs");
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{command:?}: {}\n{out}\n{err}", done.status);
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{command:?}: {error}\n{out}\n{err}"))
}

/// Fails with every case whose verdict is neither that of the server alone nor the one that is listed.
fn same(name: &str, alone: &Verdicts, through: &Verdicts, listed: &[(&str, &str)]) {
    let cases = |verdicts: &Verdicts| verdicts.keys().cloned().collect::<Vec<_>>();
    assert_eq!(cases(alone), cases(through), "{name}: not the same cases");
    for (case, _) in listed {
        assert!(alone.contains_key(*case), "{name}: there is no case {case}");
    }
    let expected = |case: &str| match listed.iter().find(|(listed, _)| *listed == case) {
        Some((_, verdict)) => (*verdict).to_owned(),
        None => alone[case].clone(),
    };
    let others: Vec<String> = through
        .iter()
        .filter(|(case, verdict)| **verdict != expected(case))
        .map(|(case, verdict)| {
            format!("{case}\n  alone    {}\n  through  {verdict}\n  expected {}", alone[case], expected(case))
        })
        .collect();
    assert!(others.is_empty(), "{name}: {} cases differ\n{}", others.len(), others.join("\n"));
}
