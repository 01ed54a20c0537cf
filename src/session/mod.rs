//! What a session is, and what becomes of it: no I/O, no clock, no HTTP types.
//!
//! [`plan()`] is the heart: the contract's decision table as a function. Whoever keeps records executes what it
//! returns and, where the record changed in the meantime, asks again.

pub mod data;
pub mod directive;
pub mod expiry;
pub mod limits;
pub mod plan;
pub mod policy;
pub mod record;
pub mod refusal;
pub mod token;

use std::time::Duration;

use crate::time::Timestamp;
pub use data::Data;
pub use directive::{Changes, Condition, Cycle, Directive};
pub use expiry::{Expiry, Lifetime, Lifetimes};
pub use limits::{Cookies, Limits};
pub use plan::{Asked, Cookie, Denied, Old, Plan, Row, plan};
pub use policy::{Config, Mode, Policy};
pub use record::{History, How, Record, Revision, Scope};
pub use refusal::{Reason, Refusal};
pub use token::{Id, Key, Token};

/// A session as the store has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Live {
    /// What it is filed under.
    pub key: Key,
    /// What it holds.
    pub record: Record,
    /// The state that was read, for compare-and-swap.
    pub revision: Revision,
    /// When it ends if nothing changes; a touch moves this and nothing else.
    pub until: Timestamp,
    /// The revisions before this one.
    pub history: History,
    /// `cookie.age` as it was when the cookie was made that this lies in; zero in a store, where an end can be moved.
    pub age: Duration,
}

/// A token that was ended, but is still remembered.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// What it is filed under.
    pub key: Key,
    /// The record that goes on, where it was ended by cycle-key.
    pub successor: Option<Key>,
    /// What requests in flight still read: the session as it was before, with its old version.
    pub reads: Option<Live>,
}

/// What the store says of a token.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// A session.
    Live(Box<Live>),
    /// A token that was ended.
    Ended(Box<Ended>),
    /// Loaded live, but no more when it was to be written: flushed, cycled (then `Some`) or expired.
    Gone(Option<Box<Ended>>),
    /// Nothing: absent, expired, forged.
    No,
    /// Several sessions at once: somebody may be tossing cookies.
    Ambiguous,
    /// The store could not say.
    Unknown,
}

impl Found {
    /// What the backend reads: `None` is an empty session.
    pub fn reads(&self) -> Option<&Live> {
        match self {
            Self::Live(live) => Some(live),
            Self::Ended(ended) => ended.reads.as_ref(),
            Self::Gone(_) | Self::No | Self::Ambiguous | Self::Unknown => None,
        }
    }
}

/// What a client showed under our cookie's names.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    first: Option<Token>,
    others: Vec<Token>,
    /// Any cookie of our name, be it malformed.
    pub any: bool,
    /// More than can be honest.
    pub crowd: bool,
    /// Values outside the grammar.
    pub malformed: u32,
    /// Tokens whose tag fails.
    pub forged: u32,
    /// Previous scopes whose cookie's name was shown, which the response is to remove.
    pub stale: Vec<Scope>,
    /// Which further cookies were shown that hold chunks of tokens: a bit for each number.
    pub chunks: u16,
}

impl Shown {
    /// Adds a token; equal ones count once.
    pub fn add(&mut self, token: Token) {
        match &self.first {
            None => self.first = Some(token),
            Some(first) if *first == token || self.others.contains(&token) => {}
            Some(_) => self.others.push(token),
        }
    }

    /// The tokens, in the order in which they were shown.
    pub fn tokens(&self) -> impl Iterator<Item = &Token> {
        self.first.iter().chain(&self.others)
    }

    /// How many different tokens were shown.
    pub fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.others.len()
    }

    /// Was no token shown?
    pub const fn is_empty(&self) -> bool {
        self.first.is_none()
    }
}
