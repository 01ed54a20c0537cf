//! What shells and readers are told of the command line.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{coatroom, file, path, stderr, stdout};

/// What bash offers for the last of these words.
fn completed(script: &str, words: &[&str]) -> Vec<String> {
    let (last, before) = words.split_last().expect("a word");
    let complete = format!(
        "source {script} && COMP_WORDS=(coatroom {}) COMP_CWORD={} && _coatroom coatroom '{last}' '{}' && printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" "),
        words.len(),
        before.last().unwrap_or(&"coatroom"),
    );
    let output = Command::new("bash").args(["-c", &complete]).output().expect("bash runs");
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""), "{words:?}");
    stdout(&output).lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_flags_shells_and_files() {
    let script = file(&stdout(&coatroom(&["completions", "bash"], &[])));
    let completed = |words: &[&str]| completed(path(&script), words);
    assert_eq!(completed(&["hea"]), ["healthcheck"]);
    assert_eq!(completed(&["keys", "gen"]), ["generate"]);
    assert_eq!(completed(&["serve", "--telemetry"]), ["--telemetry-listen"]);
    assert_eq!(completed(&["completions", "z"]), ["zsh"]);
    assert_eq!(completed(&["check-config", "--conn"]), ["--connect"]);
    let name = path(&script);
    assert_eq!(completed(&["serve", "--config", &name[..name.len() - 1]]), [name], "files are offered");
}

/// A shell that is not here has nobody who completes with it; bash always is.
#[test]
fn shells_take_their_completions() {
    let checks: [(&str, &[&str]); 3] = [("bash", &["-n"]), ("zsh", &["-n"]), ("fish", &["--no-execute"])];
    for (shell, flags) in checks {
        let script = file(&stdout(&coatroom(&["completions", shell], &[])));
        match Command::new(shell).args(flags).arg(script.path()).output() {
            Ok(output) => assert!(output.status.success() && output.stderr.is_empty(), "{}", stderr(&output)),
            Err(error) => assert_ne!(shell, "bash", "{error}"),
        }
    }
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = coatroom(&["completions", shell], &[]);
        assert_eq!(output.status.code(), Some(0));
        assert!(stdout(&output).contains("telemetry-listen"), "{shell}");
    }
    assert_eq!(coatroom(&["completions", "tcsh"], &[]).status.code(), Some(2));
}

#[test]
fn each_command_has_a_manual_page_that_is_formatted_without_a_warning() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().to_str().expect("UTF-8");
    assert_eq!(coatroom(&["man", "--dir", dir], &[]).status.code(), Some(0));
    let mut pages: Vec<_> =
        fs::read_dir(dir).expect("it is there").map(|page| page.expect("one").path()).collect();
    pages.sort();
    let format = |page: &Path| {
        let output = Command::new("groff").args(["-man", "-ww", "-Tascii", "-P-cbou"]).arg(page).output();
        let output = output.expect("groff runs; tests/run installs it");
        assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""), "{}", page.display());
        stdout(&output)
    };
    let texts: Vec<_> = pages.iter().map(|page| format(page)).collect();
    for (page, text) in pages.iter().zip(&texts) {
        assert!(text.contains("\nNAME\n") && text.contains("\nSYNOPSIS\n"), "{}: {text}", page.display());
        // The pages that it names are there.
        for (at, _) in text.match_indices("(1)") {
            let name = text[..at].rsplit(char::is_whitespace).next().expect("a word");
            assert!(folder.path().join(format!("{name}.1")).exists(), "{}: {name}(1)", page.display());
        }
    }
    let page = |name: &str| {
        let at = pages.iter().position(|page| page.ends_with(name)).unwrap_or_else(|| panic!("{name}"));
        &texts[at]
    };
    let help = stdout(&coatroom(&["--help"], &[]));
    let commands =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    for command in
        commands.filter_map(|line| line.strip_prefix("  ")?.split(' ').next()).filter(|name| !name.is_empty())
    {
        page(&format!("coatroom-{command}.1"));
        assert!(page("coatroom.1").contains(&format!("coatroom-{command}(1)")), "{command}");
    }
    assert!(page("coatroom.1").contains("\nEXIT STATUS\n"));
    assert!(page("coatroom-serve.1").contains("COATROOM__COOKIE__NAME"));
    page("coatroom-keys-generate.1");

    let first = coatroom(&["man"], &[]);
    assert_eq!(stdout(&first), fs::read_to_string(folder.path().join("coatroom.1")).expect("the first page"));
    let nowhere = coatroom(&["man", "--dir", "/nowhere"], &[]);
    assert_eq!(nowhere.status.code(), Some(1));
    let told = stderr(&nowhere);
    assert!(told.starts_with("coatroom: the manual can't be written: /nowhere"), "{told}");
}
