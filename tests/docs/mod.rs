//! What the README says is what the repository holds.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::{Backend, Memcached, Redis, Sidecar};

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

/// What a change is worth and what it costs is said of every store, in the README's table and where its engine is
/// written.
#[test]
fn each_store_has_its_row_and_its_engine_says_what_it_promises() {
    let table = stores();
    for scheme in coatroom::store::SCHEMES {
        let named = [format!("`{scheme}`"), format!("`{scheme}//")];
        let row = table.iter().find(|row| named.iter().any(|name| row[0].contains(name)));
        let row = row.unwrap_or_else(|| panic!("{scheme} has no row"));
        assert!(row.len() == 5 && row.iter().all(|cell| !cell.is_empty()), "{row:?}");
    }
    for engine in [
        "memory.rs",
        "cookie/mod.rs",
        "file/mod.rs",
        "sql/mod.rs",
        "redis/mod.rs",
        "memcached/mod.rs",
        "cached/mod.rs",
    ] {
        let source = read(&format!("src/store/{engine}"));
        let lines = source.lines().take_while(|line| line.starts_with("//!"));
        let doc = lines.map(|line| line[3..].trim()).collect::<Vec<_>>().join(" ").to_lowercase();
        for promise in ["durable", "atomic", "round trip", "evict"] {
            assert!(doc.contains(promise), "{engine} does not say: {promise}");
        }
    }
}

/// The rows of the README's table of stores, and their cells.
fn stores() -> Vec<Vec<String>> {
    let readme = read("README.md");
    let (_, table) = readme.split_once("\n| `store.url` | durable |").expect("the table of stores");
    let table = table.split("\n\n").next().expect("it ends");
    let cells = |row: &str| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    table.lines().skip(2).map(cells).collect()
}

/// What that table says of load, save and create in the row that has this in its first cell.
pub fn round_trips(store: &str) -> [u64; 3] {
    let table = stores();
    let row = table.iter().find(|row| row[0].contains(store)).unwrap_or_else(|| panic!("{store} has no row"));
    let numbers = row[4].split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok());
    numbers.take(3).collect::<Vec<_>>().try_into().expect("three numbers")
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

/// What stands in the README from a line that begins so to the end of its block.
pub fn block(beginning: &str) -> String {
    let readme = read("README.md");
    let at = readme.find(&format!("\n{beginning}")).unwrap_or_else(|| panic!("no line {beginning}"));
    readme[at + 1..].split("\n```").next().expect("the block ends").to_owned()
}

#[test]
fn a_session_is_looked_up_in_redis_as_the_readme_says() {
    let (backend, server) = (Backend::obedient(), Redis::start());
    let sidecar = Sidecar::on(&server, backend.address, |_| {});
    let mut browser = sidecar.browser();
    let look_up = block("id=3f786850e387550fdab836ed7e6dc881de23001b\nprintf");
    let (_, command) = look_up.split_once('\n').expect("the id, and the command");
    let command = command.replace("redis-cli", &format!("redis-cli -p {}", server.address.port()));
    // Whatever bytes an id has.
    for n in 0..20 {
        browser.ask(&[("X-Session-Flush", "true"), ("X-Session-Set", &format!("{{\"n\":\"visitor {n}\"}}"))]);
        browser.get("/");
        let id = backend.last().header("x-session-id").expect("a session").to_owned();
        let found =
            Command::new("sh").args(["-c", &format!("id={id}\n{command}")]).output().expect("sh runs");
        let found = String::from_utf8_lossy(&found.stdout).into_owned();
        assert!(found.contains(&format!("{{\\\"n\\\":\\\"visitor {n}\\\"}}")), "{id}: {found}");
    }
}

#[test]
fn a_session_is_looked_up_in_memcached_as_the_readme_says() {
    let (backend, server) = (Backend::obedient(), Memcached::start());
    let sidecar = Sidecar::keeping(&server.url(), backend.address, |_| {});
    let mut browser = sidecar.browser();
    browser.ask(&[("X-Session-Set", "{\"n\":\"visitor\"}")]);
    browser.get("/");
    let id = backend.last().header("x-session-id").expect("a session").to_owned();
    let command = block("printf 'mg coat").replace("localhost:11211", &server.address.to_string());
    let found = Command::new("sh").args(["-c", &format!("id={id}\n{command}")]).output().expect("sh runs");
    let found = String::from_utf8_lossy(&found.stdout).into_owned();
    assert!(found.contains("{\"n\":\"visitor\"}"), "{id}: {found}");
}
