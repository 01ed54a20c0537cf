//! Requests by method and status, in a table that is filled as they come.

use std::sync::OnceLock;

use http::{Method, StatusCode};
use prometheus::{IntCounter, IntCounterVec};

/// What a client can't make up: any method outside the list and any status outside 100–599.
const OTHER: &str = "other";
const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", OTHER];
const FIRST: u16 = 100;
const LAST: u16 = 599;
/// One column a status, and one for all the others.
const COLUMNS: usize = (LAST - FIRST) as usize + 2;

/// Counts requests by method and status: one index on the hot path, and at most 8 × 501 children, which appear
/// when the first of their kind is counted (4,008 rows of zeros would help nobody).
pub(super) struct Requests {
    family: IntCounterVec,
    cells: Box<[OnceLock<IntCounter>]>,
}

impl Requests {
    /// Makes an empty table over a family with the labels `method` and `code`, in this order.
    pub(super) fn new(family: IntCounterVec) -> Self {
        Self { family, cells: (0..METHODS.len() * COLUMNS).map(|_| OnceLock::new()).collect() }
    }

    /// Counts one request.
    pub(super) fn count(&self, method: &Method, code: StatusCode) {
        let row = METHODS.iter().position(|known| *known == method.as_str()).unwrap_or(METHODS.len() - 1);
        let column = match code.as_u16() {
            code @ FIRST..=LAST => usize::from(code - FIRST),
            _ => COLUMNS - 1,
        };
        if let Some(cell) = self.cells.get(row * COLUMNS + column) {
            cell.get_or_init(|| {
                let code = if column == COLUMNS - 1 { OTHER } else { code.as_str() };
                self.family.with_label_values(&[METHODS[row], code])
            })
            .inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus::Opts;
    use prometheus::core::Collector;

    #[test]
    fn no_client_can_make_up_a_label() {
        let family = IntCounterVec::new(Opts::new("requests", "Requests."), &["method", "code"]).unwrap();
        let requests = Requests::new(family.clone());
        for method in ["GET", "BREW", "get", "TRACE", "other"] {
            for code in [200, 599, 600, 999] {
                requests.count(&method.parse().unwrap(), StatusCode::from_u16(code).unwrap());
            }
        }
        let count = |labels: [&str; 2]| family.with_label_values(&labels).get();
        assert_eq!(count(["GET", "200"]), 1);
        assert_eq!(count(["GET", "599"]), 1);
        assert_eq!(count(["GET", "other"]), 2);
        assert_eq!(count(["other", "200"]), 4);
        assert_eq!(count(["other", "other"]), 8);
        assert_eq!(family.collect()[0].get_metric().len(), 6);
    }
}
