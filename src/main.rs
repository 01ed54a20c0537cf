//! The `coatroom` program.
fn main() {
    let mut config = coatroom::config::Config::default();
    let args: Vec<String> = std::env::args().collect();
    let of = |n: &str| args.iter().position(|a| a == n).and_then(|i| args.get(i + 1).cloned());
    if let Some(l) = of("--listen") {
        config.proxy.listen = l.parse().unwrap();
    }
    if let Some(l) = of("--backend") {
        config.proxy.backend = l;
    }
    if let Some(l) = of("--workers") {
        config.proxy.workers = l.parse().unwrap();
    }
    if let Some(l) = of("--telemetry-listen") {
        config.telemetry.listen = l.parse().unwrap();
    }
    config.headers.explain = std::env::var("EXPLAIN").is_ok();
    let _ = coatroom::telemetry::logging::init(&config.log);
    if args.get(1).is_some_and(|a| a == "demo") {
        coatroom::cli::demo::run().unwrap();
        return;
    }
    coatroom::app::run(&config).unwrap();
}
