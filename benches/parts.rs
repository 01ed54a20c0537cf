//! How long the parts of the work on one request take, and a whole exchange in one thread.
//!
//! `cargo bench --bench parts` (criterion). How many instructions they are counts `benches/instructions.rs`.
#![allow(missing_docs, unreachable_pub, clippy::expect_used, clippy::unwrap_used, reason = "a bench")]

#[path = "parts/case.rs"]
mod case;
#[path = "parts/cases.rs"]
mod cases;
#[path = "parts/stage.rs"]
mod stage;

/// Memory comes from where the program has it from.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};

fn parts(criterion: &mut Criterion) {
    for case in cases::all() {
        criterion.bench_function(case.name, |bencher| {
            bencher.iter_batched_ref(case.begin(), |work| work(), BatchSize::SmallInput);
        });
    }
}

criterion_group!(benches, parts);
criterion_main!(benches);
