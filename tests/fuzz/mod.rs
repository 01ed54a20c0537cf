//! The corpus of `fuzz/` once more, without the fuzzer: what it has found stays true.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

#[path = "../../fuzz/src/lib.rs"]
mod targets;

/// Has a target check each input of its corpus.
fn replay(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut inputs = 0;
    for entry in fs::read_dir(&folder).expect("a corpus") {
        let path = entry.expect("an input").path();
        let input = fs::read(&path).expect("bytes");
        let checked = catch_unwind(AssertUnwindSafe(|| check(&input)));
        assert!(checked.is_ok(), "cargo +nightly fuzz run -s none {target} {}", path.display());
        inputs += 1;
    }
    assert!(inputs > 20, "{target} has a corpus of {inputs}");
}

#[test]
fn cookies_that_are_not_ours_pass_and_ours_are_all_taken() {
    replay("cookie", targets::cookie::check);
}

#[test]
fn directives_are_refused_whole_or_come_back_as_they_were_said() {
    replay("directives", targets::directives::check);
}

#[test]
fn names_are_folded_as_cgi_folds_them() {
    replay("names", targets::names::check);
}

#[test]
fn records_come_back_and_what_is_none_is_no_session() {
    replay("codec", targets::codec::check);
}

#[test]
fn routes_are_those_of_a_slow_model() {
    replay("routes", targets::routes::check);
}

#[test]
fn responses_are_read_as_a_slow_reader_reads_them() {
    replay("response", targets::response::check);
}

#[test]
fn nobody_sees_what_is_not_theirs_in_an_exchange() {
    replay("exchange", targets::exchange::check);
}
