//! What a client may write in place of a name that is not its own.

use std::sync::LazyLock;

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::security::{JOINTS, OURS};

/// What the sidecar sets, replaces or interprets.
pub static RESERVED: LazyLock<Vec<&str>> = LazyLock::new(|| OURS.iter().chain(&OTHERS).copied().collect());

/// What it sets, replaces or interprets besides what it says of sessions.
const OTHERS: [&str; 16] = [
    "X-Session-Set",
    "X-Session-Flush",
    "X-Forwarded-For",
    "X-Forwarded-Proto",
    "X-Forwarded-Host",
    "X-Forwarded-Port",
    "X-Forwarded-Prefix",
    "X-Forwarded-Server",
    "Forwarded",
    "X-Request-Id",
    "Content-Length",
    "Transfer-Encoding",
    "Via",
    "Host",
    "Cookie",
    "Connection",
];

/// Names that a client may use for itself: spelled so, they are no variant but in trailers and in `Connection`.
const ITS_OWN: [&str; 6] = ["content-length", "transfer-encoding", "via", "host", "cookie", "connection"];

/// Where a variant stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Header,
    Trailer,
    /// Named in `Connection`.
    Option,
}

/// A name, in a place.
#[derive(Clone, Debug)]
pub struct Variant {
    pub name: String,
    pub place: Place,
}

/// All variants, from the first on.
pub struct Variants(SmallRng);

impl Variants {
    /// From a seed that is always the same.
    pub fn new() -> Self {
        Self(SmallRng::seed_from_u64(9110))
    }

    /// As many as one request takes: hyper reads at most 100 headers, and as many trailers.
    pub fn batch(&mut self, with_trailers: bool) -> Vec<Variant> {
        let (headers, options, trailers) = if with_trailers { (60, 20, 60) } else { (80, 20, 0) };
        let mut batch = Vec::new();
        self.fill(&mut batch, headers, Place::Header);
        self.fill(&mut batch, options, Place::Option);
        self.fill(&mut batch, trailers, Place::Trailer);
        batch
    }

    /// So many of one place; one in eight is there twice.
    fn fill(&mut self, batch: &mut Vec<Variant>, count: usize, place: Place) {
        let end = batch.len() + count;
        while batch.len() < end {
            let name = self.name(place);
            let times = if self.one_in(8) { 2 } else { 1 };
            batch.extend((0..times).map(|_| Variant { name: name.clone(), place }));
        }
        batch.truncate(end);
    }

    fn name(&mut self, place: Place) -> String {
        loop {
            let reserved = RESERVED[self.0.random_range(0..RESERVED.len())];
            let name = self.spell(reserved);
            let own = place == Place::Header && ITS_OWN.contains(&&*name.to_ascii_lowercase());
            if !own {
                return name;
            }
        }
    }

    /// Another spelling, or the same: other joints and other letters, and something more at some place or other.
    fn spell(&mut self, name: &str) -> String {
        let mut bytes = name.as_bytes().to_vec();
        let mut joints: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] == b'-').collect();
        match self.0.random_range(0..4) {
            // All in one way, each in its own way, only one of them, none.
            0 => {
                let joint = self.joint();
                joints.iter().for_each(|at| bytes[*at] = joint);
            }
            1 => joints.iter().for_each(|at| bytes[*at] = self.joint()),
            2 if !joints.is_empty() => {
                let at = joints.swap_remove(self.0.random_range(0..joints.len()));
                bytes[at] = self.joint();
            }
            _ => {}
        }
        match self.0.random_range(0..4) {
            0 => bytes.make_ascii_lowercase(),
            1 => bytes.make_ascii_uppercase(),
            2 => bytes.iter_mut().for_each(|byte| {
                if self.0.random_range(0..2) == 0 {
                    *byte = if byte.is_ascii_lowercase() {
                        byte.to_ascii_uppercase()
                    } else {
                        byte.to_ascii_lowercase()
                    };
                }
            }),
            _ => {}
        }
        match self.0.random_range(0..12) {
            0 => bytes.insert(0, self.joint()),
            1 => bytes.push(self.joint()),
            2 => bytes.insert(self.0.random_range(0..bytes.len()), self.joint()),
            3 => {
                let at = self.0.random_range(0..bytes.len());
                bytes.insert(at, bytes[at]);
            }
            4 => drop(bytes.splice(0..0, *b"HTTP_")),
            _ => {}
        }
        String::from_utf8(bytes).expect("ASCII")
    }

    fn joint(&mut self) -> u8 {
        JOINTS.as_bytes()[self.0.random_range(0..JOINTS.len())]
    }

    fn one_in(&mut self, count: u32) -> bool {
        self.0.random_range(0..count) == 0
    }
}

#[test]
fn variants_are_tokens_and_the_same_in_every_run() {
    let names = || -> Vec<String> {
        let mut variants = Variants::new();
        let batches = (0..100).flat_map(move |turn| variants.batch(turn % 2 == 1));
        batches.map(|variant| variant.name).collect()
    };
    let (one, other) = (names(), names());
    assert_eq!((one.len(), &one), (12_000, &other));
    let token = |name: &str| {
        name.bytes().all(|byte| byte.is_ascii_alphanumeric() || JOINTS.as_bytes().contains(&byte))
    };
    assert!(one.iter().all(|name| token(name)));
    let mut distinct = one;
    distinct.sort();
    distinct.dedup();
    assert!(distinct.len() > 6_000, "{}", distinct.len());
}
