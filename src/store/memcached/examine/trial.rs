//! The engine itself, tried on a key of each server that nobody else has.

use std::time::Duration;

use aws_lc_rs::rand;
use bytes::Bytes;
use prometheus::IntCounter;
use tokio::time::timeout;

use super::{TALK, URL};
use crate::session::{Key, Revision};
use crate::store::engine::{Engine as _, Stored, Swap, Worth};
use crate::store::memcached::Memcached;
use crate::store::{Config, Error, Finding, Kind};
use crate::time::Clock;

/// How long what we put there stays if we can't remove it.
const LIFE: Duration = Duration::from_secs(60);

/// Does on each server what the engine does, and removes what that left.
pub(super) async fn run(config: &Config) -> Vec<Finding> {
    let opened = IntCounter::new("opened", "Connections of a trial.").expect("it is a name");
    let engine = match Memcached::new(config, opened) {
        Ok(engine) => engine,
        Err((key, what)) => {
            return vec![Finding::problem(key, what, "see its comment in config/coatroom.toml")];
        }
    };
    let mut problems = Vec::new();
    for (n, server) in engine.servers.all.iter().enumerate() {
        let Some(key) = (0..).map(key).find(|key| engine.place(key).n == n) else { continue };
        let tried = timeout(TALK, steps(&engine, &key)).await;
        let (what, remedy) = match tried.unwrap_or(Err(Trouble::Late)) {
            Ok(()) => continue,
            Err(Trouble::Ill(Error { kind: Kind::OutOfMemory, .. })) => {
                (format!("{server} has no room"), "give it more memory (-m)")
            }
            Err(Trouble::Ill(error)) => {
                (error.detail, "see whether it is a memcached of 1.6.12 or newer, and no proxy")
            }
            Err(Trouble::Odd(step)) => (
                format!("{server} did not do as a memcached does ({step})"),
                "see whether it is a memcached of 1.6.12 or newer, and no proxy",
            ),
            Err(Trouble::Late) => (
                format!("{server} did not do within three seconds what it was asked"),
                "see what keeps it busy",
            ),
        };
        problems.push(Finding::problem(URL, what, remedy));
    }
    problems
}

/// What went wrong.
enum Trouble {
    Ill(Error),
    /// At this step something came of it that should not.
    Odd(&'static str),
    Late,
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Ill(error)
    }
}

async fn steps(engine: &Memcached, key: &Key) -> Result<(), Trouble> {
    let until = Clock::system().now().plus(LIFE);
    let of = |revision, value| Stored { value: Bytes::from_static(value), revision, until };
    let (Some(one), Some(two)) = (Revision::from_bits(1), Revision::from_bits(2)) else { return Ok(()) };
    let expect = |good: bool, step| if good { Ok(()) } else { Err(Trouble::Odd(step)) };
    expect(engine.add(key, of(one, b"one"), Worth::Anonymous).await?, "add")?;
    let rest = async {
        expect(engine.get(key).await? == Some(of(one, b"one")), "get")?;
        expect(!engine.add(key, of(two, b"two"), Worth::Anonymous).await?, "add to what is taken")?;
        let replaced = engine.replace(key, two, of(two, b"two"), Worth::Anonymous).await?;
        expect(replaced == Swap::Changed, "replace what is not there")?;
        let replaced = engine.replace(key, one, of(two, b"two"), Worth::Anonymous).await?;
        expect(replaced == Swap::Done, "replace")?;
        expect(engine.touch(key, two, until.plus(LIFE)).await? == Swap::Done, "touch")?;
        expect(engine.remove(key, two).await? == Swap::Done, "remove")?;
        expect(engine.get(key).await?.is_none(), "get what was removed")
    };
    let ended = rest.await;
    if ended.is_err() {
        // Whatever lies there goes; if this fails too, it goes within a minute or two.
        for seen in [one, two] {
            drop(engine.remove(key, seen).await);
        }
    }
    ended
}

/// One of many keys that no token leads to.
fn key(n: u64) -> Key {
    let mut bits = [0; 20];
    // Without random numbers it is the same one each time.
    let _ = rand::fill(&mut bits[8..]);
    bits[..8].copy_from_slice(&n.to_be_bytes());
    Key::from_bytes(bits)
}
