//! The `coatroom` program: a reverse-proxy sidecar that gives any HTTP application server-side sessions.

fn main() -> std::process::ExitCode {
    coatroom::cli::run()
}
