//! Coatroom beside other proxies: what a request costs them, and how long it takes. Prints one table.
//!
//! `cargo bench --bench journey` builds the binary that users get (profile `dist`) and lets it take turns with nginx,
//! HAProxy and Apache's mod_session in front of the same backend. `benches/README.md` says what the figures mean.
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

#[path = "journey/contestant.rs"]
mod contestant;
#[path = "journey/cpu.rs"]
mod cpu;
#[path = "journey/load.rs"]
mod load;
#[path = "journey/machine.rs"]
mod machine;
#[path = "journey/origin.rs"]
mod origin;
#[path = "journey/scenario.rs"]
mod scenario;
#[allow(dead_code, unused_imports, clippy::cast_possible_truncation, reason = "the tests need more of it")]
#[path = "../tests/support/mod.rs"]
mod support;
#[path = "journey/table.rs"]
mod table;

use std::env;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::Parser;

use self::contestant::{ALL, Contestant, Place};
use self::load::{Load, Measured};
use self::origin::Origin;
use self::scenario::Scenario;
use self::support::{Browser, Redis};

/// Set for the run that has been given its core.
const PLACED: &str = "COATROOM_JOURNEY_CORE";
/// Set for that run where our own binary was built of what is here.
const BUILT: &str = "COATROOM_JOURNEY_BUILT";
/// Whose versions stand above the table, and how they tell.
const PROGRAMS: &[(&str, &[&str])] = &[
    ("rustc", &["--version"]),
    ("nginx", &["-v"]),
    ("haproxy", &["-v"]),
    ("apache2", &["-v"]),
    ("redis-server", &["--version"]),
];
/// Sessions that S1 and S2 take turns through.
const SESSIONS: usize = 1000;

/// Coatroom beside other proxies: CPU time a request, latency and rate.
#[derive(Parser)]
struct Options {
    /// Rounds; each goes through all contestants and scenarios.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds that are measured of each.
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Seconds before that.
    #[arg(long, default_value_t = 1.0)]
    warm: f64,
    /// Connections that clients keep.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Workers of each proxy; with more than one nobody is kept to a core.
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// Only these contestants.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Only these scenarios.
    #[arg(long, value_delimiter = ',')]
    scenarios: Vec<Scenario>,
    /// Cargo says so.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What one contestant did of one scenario in one round. Microseconds a request, but for the rate.
struct Row {
    round: usize,
    name: &'static str,
    scenario: Scenario,
    /// CPU time of the proxy's processes; none where there is no proxy.
    proxy: Option<f64>,
    client: f64,
    origin: f64,
    p50: f64,
    p99: f64,
    rate: f64,
}

fn main() -> ExitCode {
    let options = Options::parse();
    for name in &options.only {
        assert!(ALL.iter().any(|contestant| contestant.name == name), "nobody is called {name}");
    }
    let (binary, built) = machine::binary("dist");
    let built = built || env::var_os(BUILT).is_some();
    let cores = cpu::cores();
    let split = options.workers == 1 && cores.len() > 1;
    if split && env::var_os(PLACED).is_none() {
        return again(cores[1], &binary, built);
    }
    let proxies = env::var(PLACED).ok().and_then(|core| core.parse().ok());

    let (origin, redis) = (Origin::start(), Redis::start());
    let folder = tempfile::tempdir().expect("a folder");
    let place = Place {
        binary,
        origin: origin.address,
        redis: redis.url(),
        folder: folder.path().to_owned(),
        workers: options.workers,
        core: proxies,
    };
    let chosen: Vec<(&Contestant, Scenario)> = ALL
        .iter()
        .filter(|contestant| {
            options.only.is_empty() || options.only.iter().any(|name| name == contestant.name)
        })
        .flat_map(|contestant| contestant.scenarios.iter().map(move |scenario| (contestant, *scenario)))
        .filter(|(_, scenario)| options.scenarios.is_empty() || options.scenarios.contains(scenario))
        .collect();

    let (mut rows, mut wrong) = (Vec::new(), Vec::new());
    for round in 0..options.rounds {
        // Nobody always comes after the same one.
        let turns = chosen.iter().cycle().skip(round * 3 % chosen.len().max(1)).take(chosen.len());
        for (contestant, scenario) in turns {
            if contestant.has_redis() {
                redis.ask::<()>(&["FLUSHALL"]);
            }
            let name = contestant.name;
            match measure(&options, &place, &origin, contestant, *scenario, round) {
                Ok(row) => {
                    let cpu = row.proxy.map_or("–".to_owned(), |cpu| format!("{cpu:.1}"));
                    eprintln!("round {} {scenario:?} {name}: {cpu} µs, {:.0}/s", round + 1, row.rate);
                    rows.push(row);
                }
                Err(fault) => {
                    eprintln!("round {} {scenario:?} {name}: WRONG: {fault}", round + 1);
                    wrong.push(format!("- round {}, {scenario:?}, {name}: {fault}", round + 1));
                }
            }
        }
    }

    println!("{}\n", machine::line(&place.binary, built, PROGRAMS));
    println!("{}\n\n{}", arrangement(&options, proxies), table::table(&rows));
    if wrong.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("Not counted, for it was wrong:\n{}", wrong.join("\n"));
    ExitCode::FAILURE
}

/// Runs this once more, on a core of its own, and everything that it starts, but the proxies.
fn again(core: usize, binary: &std::path::Path, built: bool) -> ExitCode {
    let others = cpu::cores().into_iter().find(|other| *other != core).unwrap_or(core);
    let ended = Command::new("taskset")
        .args(["-c", &core.to_string()])
        .arg(env::current_exe().expect("a path"))
        .args(env::args().skip(1))
        .env(PLACED, others.to_string())
        .env("COATROOM_BINARY", binary)
        .envs(built.then_some((BUILT, "1")))
        .status()
        .expect("taskset is there (util-linux)");
    if ended.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn arrangement(options: &Options, proxies: Option<usize>) -> String {
    let Options { rounds, seconds, connections, workers, .. } = options;
    let kept = match proxies {
        Some(core) => format!("the proxy alone on core {core}, everything else on another one"),
        None => "nobody kept to a core".to_owned(),
    };
    format!(
        "{rounds} interleaved rounds of {seconds} s each, {connections} connections, {workers} worker(s); {kept}; medians."
    )
}

fn measure(
    options: &Options,
    place: &Place,
    origin: &Origin,
    contestant: &Contestant,
    scenario: Scenario,
    round: usize,
) -> Result<Row, String> {
    let running = contestant.start(place)?;
    let dialect = contestant.dialect;
    scenario.check(running.address, dialect)?;
    let keeps = scenario == Scenario::S3;
    let sessions = match scenario {
        Scenario::S0 | Scenario::S0L => 0,
        Scenario::S1 | Scenario::S2 => SESSIONS,
        Scenario::S3 => options.connections,
    };
    let cookies = (0..sessions).map(|_| {
        let mut client = Browser::new(running.address);
        client.get(dialect.login());
        let pair = client.jar.into_iter().next().ok_or("a login sets no cookie")?;
        Ok(format!("{}={}", pair.0, pair.1))
    });
    let load = Load {
        address: running.address,
        path: scenario.path(dialect),
        connections: options.connections,
        cookies: cookies.collect::<Result<_, String>>()?,
        keeps,
        warm: Duration::from_secs_f64(options.warm),
        length: Duration::from_secs_f64(options.seconds),
    };
    let processes = running.processes();
    let client = PathBuf::from("/proc/thread-self");
    let mut samples = Vec::new();
    let before = origin.seen();
    let measured = load::put(load, || {
        samples.push([
            cpu::of_processes(&processes),
            cpu::of_thread(&client),
            cpu::of_thread(&origin.thread),
        ]);
    });
    let after = origin.seen();
    scenario.judge(running.address, &measured, (after.0 - before.0, after.1 - before.1))?;
    let [begin, end] = samples[..] else { return Err("there are not two samples".to_owned()) };
    let each = |at: usize| (end[at] - begin[at]) as f64 / 1000.0 / measured.requests as f64;
    Ok(Row {
        round,
        name: contestant.name,
        scenario,
        proxy: (!processes.is_empty()).then(|| each(0)),
        client: each(1),
        origin: each(2),
        p50: micros(&measured, 0.5),
        p99: micros(&measured, 0.99),
        rate: measured.requests as f64 / measured.elapsed.as_secs_f64(),
    })
}

fn micros(measured: &Measured, part: f64) -> f64 {
    measured.quantile(part) as f64 / 1000.0
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}
