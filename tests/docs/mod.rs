//! What the README says is what the repository holds.

use std::fs;
use std::path::Path;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path))
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A program stands in the README behind a comment that names its file.
#[test]
fn the_readme_shows_each_program_whole() {
    let readme = read("README.md");
    let mut shown = 0;
    for (at, _) in readme.match_indices("\n<!-- ") {
        let rest = &readme[at + "\n<!-- ".len()..];
        let (path, rest) = rest.split_once(" -->\n```").expect("a comment, and a program behind it");
        let (_, program) = rest.split_once('\n').expect("the kind of program");
        assert!(program.starts_with(&format!("{}```\n", read(path))), "{path} is not what the README shows");
        shown += 1;
    }
    assert!(shown >= 5, "the programs are found at all");
}

#[test]
fn the_readme_links_to_what_exists() {
    let readme = read("README.md");
    for (at, _) in readme.match_indices("](") {
        let target = readme[at + 2..].split(')').next().expect("the link ends");
        if !target.contains("://") {
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(target);
            assert!(file.exists(), "{target} does not exist");
        }
    }
}
