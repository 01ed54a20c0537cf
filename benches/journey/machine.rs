//! Where it was measured, and what.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The binary that is measured: `COATROOM_BINARY`, or one of this profile that is built now; and was it built?
pub fn binary(profile: &str) -> (PathBuf, bool) {
    if let Some(binary) = env::var_os("COATROOM_BINARY") {
        return (PathBuf::from(binary), false);
    }
    // Not the one that cargo has built beside this bench: that has features that only tests need.
    let built = Command::new(env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()))
        .args(["build", "--locked", "--profile", profile, "--bin", "coatroom", "--message-format", "json"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo runs");
    assert!(built.status.success(), "cargo could not build the binary");
    let messages = String::from_utf8_lossy(&built.stdout).into_owned();
    let message = |line: &str| serde_json::from_str::<serde_json::Value>(line).ok();
    let built = messages.lines().filter_map(message).find_map(|message| {
        let program = message["executable"].as_str().map(PathBuf::from);
        program.filter(|_| message["target"]["name"] == "coatroom")
    });
    (built.expect("cargo says where the binary is"), true)
}

/// Which machine and which programs it was, as a line of Markdown. `built`: our own was built of what is here.
pub fn line(binary: &Path, built: bool, programs: &[(&str, &[&str])]) -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, model)| model);
    let cores = cpu.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut parts = vec![format!("{model}, {cores} cores"), format!("Linux {}", kernel.trim())];
    let here = || said("git", &["describe", "--always", "--dirty"]);
    let commit = if built { here() } else { "COATROOM_BINARY".to_owned() };
    parts.push(format!("{} ({commit})", said(&binary.display().to_string(), &["--version"])));
    parts.extend(programs.iter().map(|(program, words)| said(program, words)));
    parts.join(" · ")
}

/// The first line that a program says of itself, without its build.
fn said(program: &str, words: &[&str]) -> String {
    let path = env::var("PATH").unwrap_or_default() + ":/usr/sbin";
    let Ok(output) = Command::new(program).args(words).env("PATH", path).output() else {
        return format!("no {program}");
    };
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    let line = text.lines().next().unwrap_or_default();
    let line = line.trim_start_matches("nginx version: ").trim_start_matches("Server version: ");
    line.split(" - https:").next().unwrap_or(line).split(" sha=").next().unwrap_or(line).to_owned()
}
