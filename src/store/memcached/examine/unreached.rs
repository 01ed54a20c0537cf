//! A server that there is no connection to: why, and what to do about it.

use std::io::ErrorKind::ConnectionRefused;

use super::URL;
use crate::store::memcached::server::{Failure, Server};
use crate::store::{Finding, Kind};

/// What to do where it may be another program that listens there.
const WHO: &str = "see whether it is a memcached that listens there, and correct the URL";

/// What a failure means.
pub(super) fn explain(server: &Server, failure: Failure) -> Finding {
    let place = &server.0;
    let (what, remedy) = match failure {
        Failure::Name(error) => (
            format!("nobody knows the host of {place} ({error})"),
            "correct the name, or see to the name service",
        ),
        Failure::Away(error) if error.kind() == ConnectionRefused => {
            (format!("{place}: nobody listens there ({error})"), "start the server, or correct the URL")
        }
        Failure::Away(error) => (
            format!("{place}: it can't be reached ({error})"),
            "correct the host, or see to the network between",
        ),
        Failure::Late => (
            format!("{place} did not answer within a second"),
            "see whether host and port are right, and no firewall between",
        ),
        Failure::Silent => (
            format!("{place} was reached, but said nothing within a second"),
            "see whether it is a memcached that is not busy, and has none of -Z, -S and -B binary",
        ),
        Failure::Lost(what) => (format!("{place} was reached, but doesn't serve ({what})"), WHO),
        Failure::Refused(said) if said.kind() == Kind::NoAuth => (
            format!("{place} wants a password, and this store has none ({})", said.text()),
            "start it without -Y, on a network that nobody else has",
        ),
        Failure::Refused(said) if said.text().contains("Too many open connections") => {
            (format!("{place} takes no more connections ({})", said.text()), "raise -c there")
        }
        Failure::Refused(said) => (format!("{place} doesn't serve ({})", said.text()), WHO),
        Failure::Stranger => (format!("{place} is no memcached"), WHO),
        Failure::Old(version) => {
            (format!("{place} is a memcached {version}, which lacks what is needed"), "take 1.6.12 or newer")
        }
        Failure::NoCas => (
            format!("{place} gives out no CAS numbers, so nothing would keep changes apart"),
            "start it without -C",
        ),
    };
    Finding::problem(URL, what, remedy)
}
