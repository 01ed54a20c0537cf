//! What is counted in a round.

use std::collections::BTreeMap;

use super::judge::{Instant, Violation};

/// What came of a round.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub lives: u64,
    pub done: u64,
    pub dropped: u64,
    /// By the store; conditions that did not hold are `conflicts`.
    pub refused: u64,
    pub conflicts: u64,
    pub unknown: u64,
    /// Requests that got no answer at all.
    pub broken: u64,
    /// Answers that nothing explains.
    pub odd: Vec<String>,
    pub violations: Vec<(String, Violation)>,
    /// Requests past their budget, in microseconds.
    pub late: Vec<Instant>,
    /// The longest time for which this machine gave us none, in microseconds.
    pub stalled: Instant,
    /// The longest request, in microseconds.
    pub longest: Instant,
    /// For each sidecar: when something was done for the first time after the server was back.
    pub recovered: BTreeMap<usize, Instant>,
}

impl Tally {
    /// Requests that the medium's illness has hurt so far.
    pub const fn hurt(&self) -> u64 {
        self.refused + self.unknown
    }
}
