//! What a session may hold.

use super::data::{Data, depth, to_bare};
use super::directive::Directive;
use super::refusal::{Reason, Refusal};

/// What a session may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `session.max_bytes`: bytes of the data as JSON.
    pub max_bytes: usize,
    /// `session.max_keys`: entries.
    pub max_keys: usize,
    /// Levels of arrays and objects in one entry.
    pub max_depth: usize,
    /// `headers.budget`, where a change that would not fit is to be refused.
    pub budget: Option<Budget>,
    /// The room in cookies, where they hold the data itself.
    pub cookies: Option<Cookies>,
}

/// How much data fits into the cookies that a session may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookies {
    /// `store.cookie_chunks`: how many there may be.
    pub most: usize,
    /// Bytes of data, as JSON, that they surely hold.
    pub bytes: usize,
}

/// How much room the request headers have, counted as name + value + 4 bytes each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// `headers.budget`.
    pub bytes: usize,
    /// What all headers take but for the data and the entries of `headers.keys`, at their longest.
    pub fixed: usize,
    /// Each entry of `headers.keys`, and what its header takes without its value.
    pub keys: Vec<(String, usize)>,
    /// `headers.expose`.
    pub expose: Vec<String>,
}

impl Budget {
    /// What the headers of a session with this data take.
    pub fn takes(&self, data: &Data) -> usize {
        let of = |(name, header): &(String, usize)| {
            data.map().get(name).map_or(0, |value| header + to_bare(value).len())
        };
        self.fixed + data.visible(&self.expose).len() + self.keys.iter().map(of).sum::<usize>()
    }
}

impl Limits {
    pub(super) fn check(&self, data: &Data, asked: &[Directive]) -> Result<(), Refusal> {
        // Named is the directive that can have made the data grow; which of several did is anybody's guess. Where there is
        // none, what has grown too large under other settings can still get a new key or lose an entry.
        let Some(grew) = asked.iter().rev().find(|d| (4..=8).contains(&d.rank())) else { return Ok(()) };
        let refuse = |detail| Err(Refusal::new(grew.name(), Reason::TooLarge, detail));
        let (bytes, keys) = (data.text().len(), data.map().len());
        if bytes > self.max_bytes {
            return refuse(format!(
                "the session would hold {bytes} bytes; session.max_bytes is {}",
                self.max_bytes
            ));
        }
        if let Some(Cookies { most, bytes: room }) = self.cookies
            && bytes > room
        {
            return refuse(format!(
                "the session would hold {bytes} bytes, and {room} fit into {most} cookies: keep less in it, or raise \
                 store.cookie_chunks (at most 10)"
            ));
        }
        if keys > self.max_keys {
            return refuse(format!(
                "the session would hold {keys} entries; session.max_keys is {}",
                self.max_keys
            ));
        }
        if data.map().values().any(|value| depth(value) >= self.max_depth) {
            return refuse(format!("an entry would nest deeper than {} levels", self.max_depth));
        }
        match self.budget.as_ref().map(|budget| (budget.takes(data), budget.bytes)) {
            Some((takes, room)) if takes > room => {
                refuse(format!("the request headers would take {takes} bytes; headers.budget is {room}"))
            }
            _ => Ok(()),
        }
    }
}
