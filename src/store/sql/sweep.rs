//! How rows that have ended are cleared beside those that are asked for: a few at a time, and with rests.
//!
//! A statement that deletes keeps others waiting: all that write, where one connection does (SQLite), and whoever needs
//! the processor or the disk elsewhere. So each takes only as many rows as can go within [`LONG`], be the machine what
//! it is, and then nothing is cleared for as long as it took. Large batches would be no quicker: SQLite writes as many
//! pages for 50 rows ten times as for 500 at once, within a few percent.
//!
//! PostgreSQL leaves what it deletes in the index until it is vacuumed. Whoever looks for the oldest row again and again
//! walks over all that went before it, and clearing millions would become slower the more are gone; so the next
//! statement begins where the last one ended. What somebody else had locked, or what came since, lies before that: the
//! next round begins at the beginning, minutes later. Where that takes longer than a statement may, for there was no
//! vacuum yet, it goes on where the last one ended, and the one after it tries again.

use std::time::Duration;

use super::database::Swept;
use crate::time::Timestamp;

/// Rows of a statement at least and at most.
const FEWEST: usize = 5;
const MOST: usize = 500;
/// What a statement is to take at most.
const LONG: Duration = Duration::from_micros(1500);

/// Where clearing is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sweep {
    /// Rows that ended before it are gone, as far as is known. `None` = nothing is.
    gone: Option<Timestamp>,
    /// The next statement looks there all the same.
    looks_back: bool,
    /// Rows of the next statement.
    pub(super) rows: usize,
}

impl Sweep {
    /// The beginning.
    pub(super) const fn new() -> Self {
        Self { gone: None, looks_back: true, rows: FEWEST }
    }

    /// Where the next statement begins. `None` = at the beginning.
    pub(super) fn from(&self) -> Option<Timestamp> {
        self.gone.filter(|_| !self.looks_back)
    }

    /// Hears that a statement took too long; is there another one, without looking back?
    pub(super) const fn goes_on(&mut self) -> bool {
        let goes_on = self.looks_back && self.gone.is_some();
        self.looks_back = false;
        goes_on
    }

    /// Hears what became of a statement that was to take so many rows; is there more to do?
    pub(super) fn hear(&mut self, asked: usize, swept: &Swept, took: Duration) -> bool {
        if took > LONG {
            self.rows = (self.rows / 2).max(FEWEST);
        } else if took < LONG / 2 && asked == self.rows {
            self.rows = (self.rows * 2).min(MOST);
        }
        let more = swept.cleared.removed >= asked;
        self.gone = swept.reached.or(self.gone);
        self.looks_back = !more;
        more
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::engine::Cleared;

    fn swept(removed: usize, reached: Option<i64>) -> Swept {
        let reached = reached.map(Timestamp::from_millis);
        Swept { cleared: Cleared { removed, sessions: removed, more: false }, reached }
    }

    #[test]
    fn a_statement_takes_as_many_rows_as_go_within_its_time() {
        let mut sweep = Sweep::new();
        let mut rows = |took: Duration, asked: Option<usize>| {
            let asked = asked.unwrap_or(sweep.rows);
            sweep.hear(asked, &swept(asked, None), took);
            sweep.rows
        };
        let (quick, fair, slow) = (LONG / 4, LONG * 3 / 4, LONG * 2);
        assert_eq!([rows(quick, None), rows(quick, None), rows(fair, None)], [10, 20, 20]);
        assert_eq!(rows(quick, Some(3)), 20, "so few say nothing");
        assert_eq!([quick; 5].map(|took| rows(took, None)), [40, 80, 160, 320, 500]);
        assert_eq!([slow; 7].map(|took| rows(took, None)), [250, 125, 62, 31, 15, 7, 5]);
    }

    #[test]
    fn it_goes_on_where_it_was_and_the_next_round_looks_back_unless_that_takes_too_long() {
        let mut sweep = Sweep::new();
        let (none, at) = (Duration::ZERO, |millis| Some(Timestamp::from_millis(millis)));
        assert!(!sweep.goes_on(), "there is nowhere to go on");
        assert!(sweep.hear(10, &swept(10, Some(7)), none));
        assert_eq!(sweep.from(), at(7));
        assert!(!sweep.hear(10, &swept(3, Some(9)), none));
        assert_eq!(sweep.from(), None, "somebody may have let go of something by the next round");
        assert!(sweep.goes_on());
        assert_eq!(sweep.from(), at(9));
        assert!(!sweep.goes_on(), "once");
        assert!(!sweep.hear(10, &swept(0, None), none));
        assert_eq!(sweep.from(), None, "and that round's next one tries again");
        assert!(sweep.hear(10, &swept(10, Some(2)), none));
        assert_eq!(sweep.from(), at(2));
    }
}
