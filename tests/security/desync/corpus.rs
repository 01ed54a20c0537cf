//! The cases, and what is sent behind each.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::support::strict::text;

/// How the corpus classes a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub enum Tier {
    /// As the standards have it.
    Compliant,
    /// Not quite, but read in one way by everybody.
    Acceptable,
    /// May be read in two ways; to be passed on only over a connection that is closed then.
    Ambiguous,
    /// To be refused.
    Severe,
}

/// The head of a request, and what the corpus says of it.
#[derive(Debug, Deserialize)]
pub struct Case {
    /// The file of the corpus that it stands in.
    pub file: String,
    /// What it is called there.
    pub name: String,
    /// How it is classed.
    pub tier: Tier,
    /// Why.
    pub reason: String,
    /// The head; a byte a character.
    head: String,
}

/// Bytes to be sent on a connection.
pub struct Payload {
    /// Which case it is, and in which form.
    pub name: String,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// What they mean to us: the same length twice is one.
    pub meant: Vec<u8>,
}

/// A request that is meant to be taken for one where it is none.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
/// A request that is one.
const BEHIND: &str = "GET /behind HTTP/1.1\r\nHost: a\r\n\r\n";

/// All cases, in the order of the corpus.
pub fn cases() -> Vec<Case> {
    let lines = include_str!("cases.jsonl").lines();
    lines.map(|line| serde_json::from_str(line).expect("a case")).collect()
}

impl Case {
    /// The case as it stands, with the Host that most of the corpus leaves out, and with lines that end in LF alone; with
    /// each body that a reader could expect, and requests in it and behind it.
    pub fn payloads(&self) -> Vec<Payload> {
        let hosted = self.head.replacen("\r\n", "\r\nHost: shop.test\r\n", 1);
        let last = format!("{}Host: shop.test\r\n\r\n", &self.head[..self.head.len() - 2]);
        let forms = [
            ("as it stands", self.head.clone()),
            ("with a Host", hosted.clone()),
            ("with a Host at its end", last),
            ("in lines of LF", hosted.replace("\r\n", "\n")),
        ];
        let lengths: BTreeSet<usize> =
            self.numbers().into_iter().filter(|number| *number < 100_000).collect();
        let inside =
            |length: usize| format!("{SMUGGLED}{}", "(".repeat(length))[..length].to_owned() + BEHIND;
        let mut tails = vec![
            ("nothing", String::new()),
            ("a request", SMUGGLED.to_owned()),
            ("the last chunk and a request", format!("0\r\n\r\n{BEHIND}")),
            (
                "a chunk with a request, and another",
                format!("{:04x}\r\n{SMUGGLED}\r\n0\r\n\r\n{BEHIND}", SMUGGLED.len()),
            ),
        ];
        tails.extend(lengths.into_iter().map(|length| ("as much as it says", inside(length))));
        let name = |form: &str, tail: &str| format!("{}/{} {form} + {tail}", self.file, self.name);
        forms
            .iter()
            .flat_map(|(form, head)| tails.iter().map(move |(tail, rest)| (form, head, tail, rest)))
            .map(|(form, head, tail, rest)| {
                let all = |head: &str| -> Vec<u8> {
                    head.chars().chain(rest.chars()).map(|c| u8::try_from(c).expect("a byte")).collect()
                };
                Payload { name: name(form, tail), bytes: all(head), meant: all(&once(head)) }
            })
            .collect()
    }

    /// The numbers that could be lengths.
    fn numbers(&self) -> Vec<usize> {
        let lines = self.head.split("\r\n").filter(|line| line.to_ascii_lowercase().contains("length"));
        lines
            .flat_map(|line| line.split(|c: char| !c.is_ascii_digit()))
            .filter_map(|digits| digits.parse().ok())
            .collect()
    }
}

impl Tier {
    /// Would the corpus let it pass?
    pub const fn is_safe(self) -> bool {
        matches!(self, Self::Compliant | Self::Acceptable)
    }
}

/// The head without a length that repeats the line before it.
fn once(head: &str) -> String {
    let mut lines: Vec<&str> = head.split_inclusive('\n').collect();
    lines.dedup_by(|line, before| line == before && line.starts_with("Content-Length: "));
    lines.concat()
}

#[test]
fn the_corpus_is_whole() {
    let cases = cases();
    let of = |tier| cases.iter().filter(|case| case.tier == tier).count();
    let tiers = [Tier::Compliant, Tier::Acceptable, Tier::Ambiguous, Tier::Severe].map(of);
    assert_eq!((cases.len(), tiers), (159, [28, 15, 58, 58]));
    assert!(cases.iter().all(|case| !case.reason.is_empty()));
    assert_eq!(text(b"\xff"), "\u{ff}", "a byte a character");
}
