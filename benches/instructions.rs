//! How many instructions the parts of the work on one request are, and whole exchanges; compared with `instructions.toml`.
//!
//! `cargo bench --bench instructions` runs each part under valgrind (gungraun) and fails where one has become more than
//! 5 % longer than the committed figure; `-- --commit` writes the figures down. They depend on the compiler and on what
//! it compiles for: where those differ nothing is compared.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench"
)]

#[path = "parts/case.rs"]
mod case;
#[path = "parts/cases.rs"]
mod cases;
#[path = "instructions/figures.rs"]
mod figures;
#[path = "parts/stage.rs"]
mod stage;

/// Memory comes from where the program has it from.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use std::env;
use std::process::{Command, ExitCode, Stdio};

use self::figures::Figures;

/// Set for the run that hands itself over to gungraun.
const COUNTING: &str = "COATROOM_COUNTING";

/// gungraun runs this binary again and again: once to be told what there is, and once for each case under valgrind.
mod counted {
    use super::case::Work;
    use gungraun::prelude::*;
    use gungraun::{Callgrind, LibraryBenchmarkConfig};

    fn make(name: &str) -> Work {
        let case = super::cases::all().into_iter().find(|case| case.name == name);
        let case = case.unwrap_or_else(|| panic!("no case is called {name}"));
        // What is only ever done once is not the part's.
        let make = case.begin();
        make()();
        make()
    }

    #[library_benchmark(setup = make)]
    #[bench::cookie_absent("cookie/absent")]
    #[bench::cookie_alone("cookie/alone")]
    #[bench::cookie_among_others("cookie/among-others")]
    #[bench::cookie_others_only("cookie/others-only")]
    #[bench::cookie_signed("cookie/signed")]
    #[bench::cookie_set("cookie/set")]
    #[bench::cookie_key("cookie/key")]
    #[bench::names_request("names/request")]
    #[bench::names_request_spoofed("names/request-spoofed")]
    #[bench::names_response("names/response")]
    #[bench::names_hop("names/hop")]
    #[bench::names_write("names/write")]
    #[bench::names_forwarded("names/forwarded")]
    #[bench::inject_empty("inject/empty")]
    #[bench::inject_session("inject/session")]
    #[bench::inject_large("inject/large")]
    #[bench::inject_entries("inject/entries")]
    #[bench::inject_reserved("inject/reserved")]
    #[bench::inject_signed("inject/signed")]
    #[bench::directives_none("directives/none")]
    #[bench::directives_set("directives/set")]
    #[bench::directives_several("directives/several")]
    #[bench::directives_large("directives/large")]
    #[bench::codec_encode("codec/encode")]
    #[bench::codec_decode("codec/decode")]
    #[bench::codec_encode_large("codec/encode-large")]
    #[bench::codec_decode_large("codec/decode-large")]
    #[bench::codec_encode_sealed("codec/encode-sealed")]
    #[bench::codec_decode_sealed("codec/decode-sealed")]
    #[bench::plan_nothing("plan/nothing")]
    #[bench::plan_save("plan/save")]
    #[bench::plan_create("plan/create")]
    #[bench::plan_login("plan/login")]
    #[bench::plan_expiry("plan/expiry")]
    #[bench::routes_none("routes/none")]
    #[bench::routes_twenty("routes/twenty")]
    #[bench::routes_twenty_match("routes/twenty-match")]
    #[bench::routes_twenty_encoded("routes/twenty-encoded")]
    #[bench::exchange_s0("exchange/S0")]
    #[bench::exchange_s0l("exchange/S0L")]
    #[bench::exchange_s1("exchange/S1")]
    #[bench::exchange_s3("exchange/S3")]
    fn count(mut work: Work) -> Work {
        work();
        work
    }

    library_benchmark_group!(name = parts, benchmarks = count);
    // Caches are simulated for estimates of time, which are not asked for.
    main!(
        config = LibraryBenchmarkConfig::default().tool(Callgrind::with_args(["--cache-sim=no"])),
        library_benchmark_groups = parts
    );

    /// Does what gungraun wants.
    pub fn run() {
        main();
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    if words.first().is_some_and(|word| word == "--gungraun-run") || env::var_os(COUNTING).is_some() {
        counted::run();
        return ExitCode::SUCCESS;
    }
    let commits = words.iter().any(|word| word == "--commit");
    let part = words.iter().find(|word| !word.starts_with('-')).map_or("", |word| &**word);
    if commits && !part.is_empty() {
        eprintln!(
            "figures are committed all at once, or they would not be of one program: leave {part} away"
        );
        return ExitCode::FAILURE;
    }
    let counted = Command::new(env::current_exe().expect("a path"))
        .args(["--bench", "--output-format=json", "--parallel=auto"])
        .arg(format!("*::count::*{}*", figures::id(part)))
        .env(COUNTING, "1")
        .stderr(Stdio::inherit())
        .output()
        .expect("this runs");
    if !counted.status.success() {
        eprintln!("{}", String::from_utf8_lossy(&counted.stdout));
        eprintln!("nothing was counted. Are valgrind and gungraun-runner there? tests/run installs both.");
        return ExitCode::FAILURE;
    }
    let names = cases::all().iter().map(|case| case.name).filter(|name| name.contains(part)).collect();
    let now = Figures::counted(&String::from_utf8_lossy(&counted.stdout), names);
    if commits {
        now.commit();
        return ExitCode::SUCCESS;
    }
    now.compare()
}
