//! The program as an operator meets it: arguments, environment, output, exit codes.

mod clear;
mod clusters;
mod connect;
mod copy;
mod database;
mod folder;
mod healthcheck;
mod manual;
mod memcached;
mod sentinels;

use std::env;
use std::fs;
use std::process::{Command, Output};

use tempfile::NamedTempFile;

/// Runs the program with none of our variables but these.
fn coatroom(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coatroom"));
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("COATROOM")) {
        command.env_remove(name);
    }
    command.args(arguments).envs(variables.iter().copied()).output().expect("the program starts")
}

fn file(text: &str) -> NamedTempFile {
    let file = NamedTempFile::new().expect("a temporary file can be made");
    fs::write(file.path(), text).expect("and written");
    file
}

fn path(file: &NamedTempFile) -> &str {
    file.path().to_str().expect("its path is UTF-8")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn good_settings_are_ok_and_warnings_go_to_standard_error() {
    let output = coatroom(&["check-config"], &[]);
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(0), "ok\n"));
    assert!(stderr(&output).starts_with("warning: store.url is memory:"), "{}", stderr(&output));
}

#[test]
fn bad_settings_are_all_told_and_exit_with_78() {
    let file = file("[cookie]\nnaem = \"x\"\nname = \"a b\"\n[store]\nurl = \"memry:\"\n");
    let variables = [("COATROOM__PROXY__WORKERS", "many"), ("COATROOM__COOKIE__PATH", "x")];
    for command in ["check-config", "print-config", "serve"] {
        let output = coatroom(&[command, "--config", path(&file), "--listen", "8080"], &variables);
        let name = path(&file);
        let expected = [
            format!("cookie.naem ({name}, line 2): unknown setting: did you mean cookie.name?"),
            "proxy.workers (COATROOM__PROXY__WORKERS): is text: write a whole number, 0 or more".to_owned(),
            "proxy.listen (--listen): invalid socket address syntax: write a value such as \"127.0.0.1:8080\""
                .to_owned(),
            format!(
                "cookie.name ({name}, line 3): \"a b\" is no token: use letters, digits and !#$%&'*+-.^_`|~ only"
            ),
            "cookie.path (COATROOM__COOKIE__PATH): doesn't begin with /: \
             write a path such as /, other characters percent-encoded"
                .to_owned(),
            format!("store.url ({name}, line 5): there is no store \"memry:\": did you mean memory:?"),
        ];
        assert_eq!(output.status.code(), Some(78), "{command}");
        assert_eq!(stdout(&output), "", "{command}");
        assert_eq!(stderr(&output).lines().collect::<Vec<_>>(), expected, "{command}");
    }
}

#[test]
fn flags_override_the_environment_which_overrides_the_file() {
    let file = file("[proxy]\nlisten = '127.0.0.1:1001'\nworkers = 1\n[cookie]\nname = 'file'\n");
    let variables =
        [("COATROOM__PROXY__LISTEN", "127.0.0.1:1002"), ("COATROOM__COOKIE__NAME", "environment")];
    let flags = [
        ("--listen", "127.0.0.1:1003"),
        ("--backend", "http://127.0.0.1:2003"),
        ("--store", "memory:"),
        ("--telemetry-listen", "127.0.0.1:3003"),
    ];
    let mut arguments = vec!["print-config", "--config", path(&file)];
    arguments.extend(flags.iter().flat_map(|(flag, value)| [*flag, *value]));
    let output = coatroom(&arguments, &variables);
    let text = stdout(&output);
    let lines: Vec<_> = text.lines().collect();
    for line in [
        "listen = \"127.0.0.1:1003\"",
        "backend = \"http://127.0.0.1:2003\"",
        "listen = \"127.0.0.1:3003\"",
        "workers = 1",
        "name = \"environment\"",
        "via = \"coatroom\"",
    ] {
        assert!(lines.contains(&line), "{line} in {text}");
    }
}

#[test]
fn links_of_a_kubernetes_service_are_not_settings() {
    let variables = [
        ("COATROOM_PORT", "tcp://10.0.0.1:80"),
        ("COATROOM_SERVICE_HOST", "10.0.0.1"),
        ("COATROOM_PORT_80_TCP_ADDR", "10.0.0.1"),
        ("COATROOM_CONFIG", "/nowhere"),
    ];
    assert_eq!(coatroom(&["check-config"], &variables).status.code(), Some(0));
}

#[test]
fn free_text_may_look_like_a_number_or_a_truth() {
    for realm in ["12345", "true", "2 weeks"] {
        let output = coatroom(&["print-config"], &[("COATROOM__SESSION__REALM", realm)]);
        assert!(stdout(&output).contains(&format!("realm = \"{realm}\"")), "{}", stderr(&output));
    }
}

#[test]
fn what_is_printed_can_be_read_again() {
    let routes =
        "[{path = '/static', session = 'off'}, {path = '/poll', methods = ['GET'], session = 'no-touch'}]";
    let first =
        coatroom(&["print-config"], &[("COATROOM__ROUTES", routes), ("COATROOM__COOKIE__AGE", "2 hours")]);
    let file = file(&stdout(&first));
    let again = coatroom(&["print-config", "--config", path(&file)], &[]);
    assert_eq!(again.status.code(), Some(0), "{}", stderr(&again));
    assert_eq!(stdout(&again), stdout(&first));
    assert!(stdout(&again).contains("age = 7200"));
}

#[test]
fn a_secret_is_never_printed() {
    let secret = "hunter2-hunter2-hunter2";
    let file = file(secret);
    let key = stdout(&coatroom(&["keys", "generate"], &[]));
    let url = format!("redis://:{secret}@store");
    let good = [
        ("COATROOM__HEADERS__SECRET", secret),
        ("COATROOM__COOKIE__KEYS", key.trim()),
        ("COATROOM__STORE__URL", &url),
    ];
    let printed = coatroom(&["print-config"], &good);
    assert_eq!(printed.status.code(), Some(0), "{}", stderr(&printed));
    assert!(stdout(&printed).contains("secret = \"(hidden)\"") && !stdout(&printed).contains(key.trim()));

    let from_file = coatroom(&["print-config"], &[("COATROOM__HEADERS__SECRET_FILE", path(&file))]);
    let bad = coatroom(
        &["check-config"],
        &[
            ("COATROOM__HEADERS__SECRET", secret),
            ("COATROOM__HEADERS__SECRET_FILE", path(&file)),
            ("COATROOM__HEADERS__SECRT", secret),
            ("COATROOM__COOKIE__KEYS", secret),
            ("COATROOM__STORE__URL", &format!("redys://:{secret}@store")),
        ],
    );
    assert_eq!(bad.status.code(), Some(78));
    assert_eq!(stderr(&bad).lines().count(), 4, "{}", stderr(&bad));
    for output in [printed, from_file, bad] {
        assert!(!stdout(&output).contains(secret) && !stderr(&output).contains(secret));
    }
}

#[test]
fn a_secret_comes_from_one_place() {
    let file = file("hunter2\n");
    for (here, twin, value) in [
        ("COATROOM__HEADERS__SECRET", "COATROOM__HEADERS__SECRET_FILE", "x"),
        (
            "COATROOM__COOKIE__KEYS",
            "COATROOM__COOKIE__KEYS_FILE",
            "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
        ),
    ] {
        let output = coatroom(&["check-config"], &[(here, value), (twin, path(&file))]);
        assert_eq!(output.status.code(), Some(78));
        assert!(stderr(&output).ends_with("is set too: remove one of them\n"), "{}", stderr(&output));
        let output = coatroom(&["check-config"], &[(twin, "/nowhere")]);
        assert!(stderr(&output).contains("can't be read (/nowhere: "), "{}", stderr(&output));
    }
    let output = coatroom(&["check-config"], &[("COATROOM__HEADERS__SECRET_FILE", path(&file))]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn a_file_is_read_only_when_named_and_then_must_be_there() {
    let output = coatroom(&["check-config", "--config", "/nowhere/coatroom.toml"], &[]);
    assert_eq!(output.status.code(), Some(78));
    assert!(stderr(&output).starts_with("/nowhere/coatroom.toml: can't be read ("), "{}", stderr(&output));
}

#[test]
fn new_keys_are_random_and_good_for_signing() {
    let (one, other) =
        (stdout(&coatroom(&["keys", "generate"], &[])), stdout(&coatroom(&["keys", "generate"], &[])));
    assert_ne!(one, other);
    let output = coatroom(&["check-config"], &[("COATROOM__COOKIE__KEYS", &format!("{one},{other}"))]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn the_version_and_the_settings_behind_the_flags_are_told() {
    let output = coatroom(&["--version"], &[]);
    assert_eq!(stdout(&output), format!("coatroom {}\n", env!("CARGO_PKG_VERSION")));
    for command in ["serve", "check-config", "print-config"] {
        let help = stdout(&coatroom(&[command, "--help"], &[]));
        let words = help.split_whitespace().collect::<Vec<_>>().join(" ");
        for setting in ["proxy.listen", "proxy.backend", "store.url", "proxy.workers", "telemetry.listen"] {
            assert!(words.contains(&format!("Overrides {setting}")), "{command}: {help}");
        }
    }
    assert_eq!(coatroom(&["serve", "--lissten", "x"], &[]).status.code(), Some(2));
    assert_eq!(coatroom(&[], &[]).status.code(), Some(2));
}

#[cfg(target_os = "linux")]
#[test]
fn output_that_can_not_be_written_is_a_failure() {
    let full = fs::File::options().write(true).open("/dev/full").expect("Linux has it");
    let mut command = Command::new(env!("CARGO_BIN_EXE_coatroom"));
    let status = command.args(["keys", "generate"]).stdout(full).stderr(std::process::Stdio::null()).status();
    assert_eq!(status.expect("the program starts").code(), Some(1));
}
