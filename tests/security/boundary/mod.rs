//! A million ways to say something in the sidecar's name, and what applications of five kinds get to see of them.
//!
//! The variants come from a seed, so that every run sends the same. An ordinary one sends the first 100,000 to each
//! backend, `tests/run --long` (`COATROOM_LONG`) all million.

mod sight;
mod variants;

use std::env;

use self::sight::{Sight, Visit};
use self::variants::Variants;
use crate::support::Program;

/// How many variants are sent to each backend.
fn count() -> usize {
    if env::var_os("COATROOM_LONG").is_some() { 1_000_000 } else { 100_000 }
}

/// No variant is seen under a name that is reserved; what stands there is what stands there without any.
fn is_kept(mirror: &Program) {
    let sidecar = Program::sidecar(mirror.address, &[], &[]);
    let mut visits = Visit::both(sidecar.address);
    let plain: Vec<[Sight; 2]> =
        visits.iter_mut().map(|visit| [visit.sends(&[], false), visit.sends(&[], true)]).collect();
    for (visit, [sight, chunked]) in visits.iter().zip(&plain) {
        sight.is_complete(visit.is_known());
        chunked.is_complete(visit.is_known());
    }
    let mut variants = Variants::new();
    let (mut sent, mut passed, mut turn) = (0, 0, 0);
    while sent < count() {
        // The trailers of every other request, and every other pair of them with a session.
        let (chunked, who) = (turn % 2 == 1, turn / 2 % 2);
        let batch = variants.batch(chunked);
        let saw = visits[who].sends(&batch, chunked);
        saw.is_like(&plain[who][usize::from(chunked)], &batch);
        (sent, passed, turn) = (sent + batch.len(), passed + saw.strange(), turn + 1);
    }
    // A mirror that showed nothing would let everything pass.
    assert!(passed > sent / 100, "{passed} of {sent} variants that are not reserved were seen");
}

#[test]
fn php_sees_nothing_that_we_did_not_say() {
    is_kept(&Program::php_mirror());
}

#[test]
fn wsgi_sees_nothing_that_we_did_not_say() {
    is_kept(&Program::gunicorn("mirror", "mirror:wsgi"));
}

#[test]
fn asgi_sees_nothing_that_we_did_not_say() {
    is_kept(&Program::uvicorn_mirror());
}

#[test]
fn node_sees_nothing_that_we_did_not_say() {
    is_kept(&Program::node_mirror());
}

#[test]
fn cgi_sees_nothing_that_we_did_not_say() {
    is_kept(&Program::lighttpd("mirror"));
}
