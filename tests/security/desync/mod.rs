//! The cases of http_desync_guardian, each with all that can be smuggled behind it, to real backends.
//!
//! `strict` says what a client has sent. What a backend sees is that, or less; it is never more, and never anything else.

mod corpus;
mod crowd;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use self::corpus::{Case, Payload};
use self::crowd::{Capture, Client, Witness};
use crate::support::Program;
use crate::support::strict::{self, Message};

/// Cases that pass although the corpus calls them ambiguous, and why that is as it should be.
const PASSES: &[(&str, &[&str])] = &[
    (
        "The same length twice is one (RFC 9112 §6.3), and goes on once.",
        &["Duplicate Content-Length", "Two Identical Fields - CL"],
    ),
    (
        "GET and HEAD may have a body (RFC 9110 §9.3.1), framed like any other; it goes on as the body that it is.",
        &[
            "Get with a body and Content-Length",
            "Get with a body and Transfer-Encoding",
            "Has a CL in GET",
            "Has a TE in GET",
            "Head with a body and Content-Length",
            "Head with a body and Transfer-Encoding",
        ],
    ),
    (
        "A backend that folds names would read it as what frames the body, so it doesn't go on; the rest does.",
        &["Content_Length with underscore.", "Transfer_Encoding with underscore."],
    ),
    (
        "No backend folds these into the name that they resemble.",
        &["Transfer-Encoding with multiple delimiters", "Transfer-Encoding with multiple hyphens"],
    ),
];

/// Cases that don't pass although the corpus would let them, and why that is as it should be.
const REFUSED: &[(&str, &[&str])] = &[
    (
        "Another coding than chunks would lose its name on the way: it belongs to one connection only.",
        &[
            "Correct TE OK",
            "Different Transfer-Encoding headers",
            "Different Transfer-Encoding headers combined",
            "Multiple transfer encoding headers in a single request OK",
            "TE with custom parameters OK",
            "Transfer-Encoding with a param: chunked;custom_param",
            "Transfer-Encoding: identity and chunked OK",
        ],
    ),
    (
        "Neither a space nor a control character stands in a name, nor a control character in a value.",
        &[
            "A non-essential header with a non-printable character (x01)",
            "CL and some others are non-compliant",
            "No TE/CL headers, some others are non-compliant",
            "Some-Header: \\x01value",
            "Some-Header: value\\x01",
            "Some-Header\\x01",
            "TE and some others are non-compliant",
            "\\x01Some-Header",
        ],
    ),
    (
        "The only versions are HTTP/1.0 and HTTP/1.1.",
        &[
            "Empty version, which means HTTP/0.9",
            "Extra spaces in version",
            "Non-RFC, but OK HTTP/0.9",
            "Unknown but OK HTTP/1.2",
        ],
    ),
    (
        "A target has no spaces, no fragment, and is not empty.",
        &["[space] in URI", "Compliant URL", "Empty URI"],
    ),
];

/// What a backend sees of a request: method, target, length of the body.
type Sight = (String, String, usize);

/// The target as it goes on: without the authority of an absolute one.
fn path(target: &str) -> String {
    let rest = target.strip_prefix("http://").or_else(|| target.strip_prefix("https://"));
    rest.map_or(target.to_owned(), |rest| rest.find('/').map_or("/".to_owned(), |at| rest[at..].to_owned()))
}

fn sight(message: &Message) -> Sight {
    (message.method.clone(), path(&message.target), message.body.len())
}

/// Sends all payloads to a sidecar before a backend. `saw` compares what that has got of one with what was meant, and with
/// how many requests were served.
fn send_all(backend: SocketAddr, mut saw: impl FnMut(&Case, &Payload, &[Sight], &mut Vec<String>)) {
    let sidecar = Program::sidecar(backend, &[], &[]);
    let client = Client::of(sidecar.address);
    let mut faults = Vec::new();
    for case in corpus::cases() {
        for payload in case.payloads() {
            let (meant, end) = strict::all(&payload.meant);
            let got = client.converse(&payload.bytes, &meant, end.as_ref());
            faults.extend(got.wrong.iter().map(|wrong| format!("{}: {wrong}", payload.name)));
            let answered = meant.iter().zip(&got.statuses);
            let served: Vec<Sight> =
                answered.filter(|(_, status)| **status == 200).map(|(one, _)| sight(one)).collect();
            if got.statuses.iter().filter(|status| **status == 200).count() > served.len() {
                faults.push(format!("{}: {:?} for {meant:?}", payload.name, got.statuses));
            }
            saw(&case, &payload, &served, &mut faults);
        }
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults[..faults.len().min(50)].join("\n"));
}

#[test]
fn no_case_of_the_corpus_reaches_a_backend_in_two_ways() {
    let capture = Capture::start();
    let mut passed = BTreeMap::new();
    send_all(capture.address(), |case, payload, served, faults| {
        let saw = capture.take();
        faults.extend(saw.faults.iter().map(|fault| format!("{}: what goes on is {fault}", payload.name)));
        let seen: Vec<Sight> = saw.whole.iter().map(sight).collect();
        if seen != served {
            faults.push(format!(
                "{}: {seen:?} reach the backend, {served:?} were meant and served",
                payload.name
            ));
        }
        *passed.entry((case.tier, case.name.clone())).or_insert(false) |= !saw.whole.is_empty() || saw.broken;
    });
    let differs = |passes: bool| -> BTreeSet<String> {
        let cases =
            passed.iter().filter(|((tier, _), passed)| **passed == passes && tier.is_safe() != passes);
        cases.map(|((_, name), _)| name.clone()).collect()
    };
    let listed = |list: &[(&str, &[&str])]| -> BTreeSet<String> {
        list.iter().flat_map(|(_, names)| names.iter().map(|name| (*name).to_owned())).collect()
    };
    assert_eq!((differs(true), differs(false)), (listed(PASSES), listed(REFUSED)));
}

/// What a real server has seen of all payloads is what was meant, and what was served. The server itself `refuses` some,
/// in good order.
fn is_seen_by(witness: Program, refuses: &[&str]) {
    let witness = Witness::of(witness);
    let mut meant = Vec::new();
    send_all(witness.address(), |case, _, served, faults| {
        if refuses.contains(&&*case.name) {
            faults.retain(|fault| !(fault.contains(&case.name) && fault.contains("the backend refuses")));
        }
        meant.extend_from_slice(served);
    });
    meant.sort();
    let mut seen = witness.all(meant.len());
    let unseen: Vec<_> = meant
        .into_iter()
        .filter(|sight| seen.iter().position(|other| other == sight).map(|at| seen.swap_remove(at)).is_none())
        .collect();
    assert_eq!((seen, unseen), (vec![], vec![]), "seen and not meant, meant and not seen");
}

#[test]
fn nginx_sees_what_was_meant() {
    is_seen_by(Program::nginx_witness(), &[]);
}

#[test]
fn node_sees_what_was_meant() {
    is_seen_by(Program::node_witness(), &["International in URI"]);
}

#[test]
fn gunicorn_sees_what_was_meant() {
    is_seen_by(Program::gunicorn_witness(), &["International in URI"]);
}
