//! The `coatroom` program: a reverse-proxy sidecar that gives any HTTP application server-side sessions.

/// A request takes and gives back a few dozen pieces of memory, some of them larger than the system's allocator keeps at
/// hand: `benches/README.md` has what this saves.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    coatroom::cli::run()
}
