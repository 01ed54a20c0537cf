//! Millions of expired sessions are cleared while others are served: what it costs these, and how much memory it takes.
//! Prints one table.
//!
//! `cargo bench --bench clearing -- 10000000 sqlite postgres` makes tables of so many rows, of which 99 in 100 have
//! ended, and puts a sidecar (profile `release`, with the default batches and pauses) before each. At first the sidecar
//! is told to keep what has ended, so that it serves a steady load and clears nothing; then it is told otherwise, and
//! clears while the load goes on. `benches/README.md` says what the figures mean.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::cast_precision_loss,
    reason = "a bench"
)]

#[allow(dead_code, reason = "the journey needs more of it")]
#[path = "journey/load.rs"]
mod load;
#[path = "journey/machine.rs"]
mod machine;
#[allow(dead_code, reason = "the journey needs more of it")]
#[path = "journey/origin.rs"]
mod origin;
#[path = "clearing/pace.rs"]
mod pace;
#[path = "clearing/rows.rs"]
mod rows;
#[allow(
    dead_code,
    unused_imports,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the tests need more of it"
)]
#[path = "../tests/support/mod.rs"]
mod support;

use std::fs;
use std::path::Path;
use std::time::Duration;

use clap::Parser;
use coatroom::time::Stopwatch;

use self::origin::Origin;
use self::pace::{Measured, Pace, quantile};
use self::rows::{LIVE, Shelf};
use self::support::Child;

/// Whose versions stand above the table, and how they tell.
const PROGRAMS: &[(&str, &[&str])] = &[("rustc", &["--version"]), ("psql", &["--version"])];
/// What the sidecar says when it has cleared all there was.
const CLEARED: &str = "expired sessions were cleared";

/// Rows that are not those of the table's maker, at most.
const SPARE: u64 = 100;

/// Clearing expired sessions while others are served: latency, rate and memory.
#[derive(Parser)]
struct Options {
    /// Rows of each table, 99 in 100 of them expired.
    #[arg(default_value_t = 10_000_000)]
    rows: u64,
    /// Which stores.
    #[arg(default_values = ["sqlite", "postgres"])]
    stores: Vec<String>,
    /// Seconds of serving before anything is cleared.
    #[arg(long, default_value_t = 30.0)]
    seconds: f64,
    /// Requests a second; every fourth saves.
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    /// Connections that they come by.
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Cargo says so.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let options = Options::parse();
    let (binary, built) = machine::binary("release");
    let origin = Origin::start();
    let rows: Vec<String> =
        options.stores.iter().map(|store| measure(&options, &binary, &origin, store)).collect();
    println!("{}\n", machine::line(&binary, built, PROGRAMS));
    println!(
        "{} connections, {} requests a second, every fourth of which saves, for {} s before and for as long as it took.\n",
        options.connections, options.rate, options.seconds
    );
    println!(
        "| store | rows | expired | rows/s cleared | p50 before, ms | during | p99 before, ms | during | ratio | \
         p99 of saves before, ms | during | ratio | not 200 | MiB before | MiB at most |"
    );
    println!("|{}", " --- |".repeat(15));
    rows.iter().for_each(|row| println!("{row}"));
}

/// One store, and its row of the table.
fn measure(options: &Options, binary: &Path, origin: &Origin, store: &str) -> String {
    eprintln!("{store}: {} rows are made", options.rows);
    let shelf = Shelf::new(store, options.rows);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("coatroom.toml");
    write(&file, &shelf.url(), "[session]\nkeep_expired = \"3650 days\"\n", "1 h");
    let flags = ["--config", file.to_str().expect("a path")];
    let sidecar = Child::of(binary, &format!("http://{}", origin.address), &flags);
    let pace = Pace::new(sidecar.address, options.connections, options.rate);

    eprintln!("{store}: requests without clearing");
    for_a_while(&pace, Duration::from_secs(2));
    let before = for_a_while(&pace, Duration::from_secs_f64(options.seconds));
    let memory = sidecar.resident() / 1024;
    assert!(!sidecar.log().contains(CLEARED), "nothing was to be cleared yet: {}", sidecar.log());

    eprintln!("{store}: requests while it clears");
    // It clears every so often, and so at once; batches and pauses are those that everybody has.
    write(&file, &shelf.url(), "", "1 s");
    sidecar.signal("HUP");
    let during = pace.keep(|| sidecar.log().contains(CLEARED));
    let most = sidecar.memory();
    let (left, live) = (shelf.count(), options.rows / LIVE);
    // A lease, what the store was tried out with, and sessions of ours come and go.
    let most_rows = live + SPARE + options.connections as u64;
    assert!((live..=most_rows).contains(&left), "{left} rows are left of {live}: {}", sidecar.log());
    for (measured, when) in [(&before, "before"), (&during, "during")] {
        measured.faults.iter().take(3).for_each(|fault| eprintln!("{store}: {when}: {fault}"));
    }
    let row = row(store, options.rows, [&before, &during], [memory, most]);
    // The other one may take an hour.
    eprintln!("{row}");
    row
}

fn row(store: &str, rows: u64, measured: [&Measured; 2], memory: [u64; 2]) -> String {
    let of = |nanos: [&[u64]; 2], percent| {
        let [before, during] = nanos.map(|nanos| quantile(nanos, percent));
        (format!("{before:.2} | {during:.2}"), during / before)
    };
    let all = measured.map(Measured::all);
    let all = [&all[0][..], &all[1][..]];
    let saves = measured.map(|measured| &measured.saves[..]);
    let (half, (most, ratio), (saves, of_saves)) = (of(all, 50).0, of(all, 99), of(saves, 99));
    let expired = rows - rows / LIVE;
    let rate = expired as f64 / measured[1].elapsed.as_secs_f64();
    let [faults, more] = measured.map(|measured| measured.faults.len());
    let [before, at_most] = memory;
    format!(
        "| {store} | {rows} | {expired} | {rate:.0} | {half} | {most} | {ratio:.2} | {saves} | {of_saves:.2} | \
         {faults} + {more} | {before} | {at_most} |"
    )
}

fn for_a_while(pace: &Pace, length: Duration) -> Measured {
    let watch = Stopwatch::start();
    pace.keep(|| watch.elapsed() >= length)
}

/// Writes the settings. All of them but for when it clears are the defaults.
fn write(file: &Path, url: &str, more: &str, every: &str) {
    let text = format!("{more}[store]\nurl = \"{url}\"\nclear_interval = \"{every}\"\n");
    fs::write(file, text).expect("written");
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}
