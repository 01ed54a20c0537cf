//! What befalls a cache and the database behind it.

use std::net::SocketAddr;

use tokio::task::block_in_place;
use tokio::time::sleep;

use super::faults::{self, Effect, Pace, rounds};
use super::fleet::{Fleet, Medium};
use super::relay::Harm;
use super::workload::Round;
use crate::support::child::until;
use crate::support::{Brand, Database, Redis};

/// A PostgreSQL that keeps what it acknowledges, and a Redis before it, which has what it had when it comes back. The
/// first sidecar reaches the Redis by the relay; the other one does not notice what happens there.
struct Cached {
    database: Database,
    cache: Redis,
}

impl Medium for Cached {
    fn address(&self) -> Option<SocketAddr> {
        Some(self.cache.address)
    }

    fn url(&self, _: Option<SocketAddr>) -> String {
        self.database.url()
    }

    fn settings(&self, sidecar: usize, address: Option<SocketAddr>) -> Vec<(&'static str, String)> {
        let address = address.filter(|_| sidecar == 0).unwrap_or(self.cache.address);
        vec![
            ("COATROOM__STORE__CACHE", format!("redis://{address}")),
            // A save that has to wait for it is within `store.commit_timeout`.
            ("COATROOM__STORE__CACHE_LEASE", "400ms".to_owned()),
        ]
    }
}

/// What happens to one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    Killed,
    Frozen,
    Emptied,
    Full,
    Cut,
    Reset,
    DatabaseKilled,
    DatabaseFrozen,
}

impl faults::Fault for Fault {
    type Medium = Cached;

    const CLIENTS: usize = 16;

    fn medium() -> Cached {
        Cached { database: Database::start(Brand::Postgres, &[]), cache: Redis::durable() }
    }

    fn name(self) -> String {
        let what = match self {
            Self::None => "none",
            Self::Killed => "kill -9 of the cache, restarted 2 s later with what it had",
            Self::Frozen => "SIGSTOP of the cache for 5 s",
            Self::Emptied => "FLUSHALL of the cache, ten times",
            Self::Full => "OOM of the cache (maxmemory)",
            Self::Cut => "one of the sidecars is cut off from the cache for 4 s",
            Self::Reset => "a reset at each of 400 offsets of the cache's replies to one of the sidecars",
            Self::DatabaseKilled => "kill -9 of the database, restarted 2 s later",
            Self::DatabaseFrozen => "SIGSTOP of the database for 5 s",
        };
        format!("PostgreSQL behind a Redis: {what}")
    }

    fn effect(self) -> Effect {
        match self {
            Self::None => Effect::None,
            Self::DatabaseKilled | Self::DatabaseFrozen => Effect::Some,
            _ => Effect::Perhaps,
        }
    }

    async fn hurt(self, pace: Pace, fleet: &mut Fleet<Cached>, round: &Round) {
        let ask =
            |fleet: &Fleet<Cached>, words: &[&str]| block_in_place(|| fleet.medium.cache.ask::<()>(words));
        match self {
            Self::None => {}
            Self::Killed => block_in_place(|| {
                fleet.medium.cache.kill();
                std::thread::sleep(pace.calm);
                fleet.medium.cache.restart();
                until(|| fleet.medium.cache.pings().then_some(()));
            }),
            Self::Frozen => faults::freeze(pace, |name| fleet.medium.cache.signal(name)).await,
            Self::Emptied => {
                for _ in 0..10 {
                    ask(fleet, &["FLUSHALL"]);
                    sleep(pace.calm / 5).await;
                }
            }
            Self::Full => {
                ask(fleet, &["CONFIG", "SET", "maxmemory", "1"]);
                sleep(2 * pace.calm).await;
                ask(fleet, &["CONFIG", "SET", "maxmemory", "0"]);
            }
            Self::Cut => {
                fleet.relay().set(Harm::Cut);
                sleep(2 * pace.calm).await;
                fleet.relay().set(Harm::None);
            }
            Self::Reset => faults::reset(pace, fleet, round).await,
            Self::DatabaseKilled => faults::crash(pace, round, &mut fleet.medium.database).await,
            Self::DatabaseFrozen => faults::freeze(pace, |name| fleet.medium.database.signal(name)).await,
        }
    }
}

rounds! {
    nothing_is_lost_where_nothing_happens Fault::None,
    nothing_is_lost_when_the_cache_is_killed_and_comes_back Fault::Killed,
    nothing_is_lost_when_the_cache_freezes Fault::Frozen,
    nothing_is_lost_when_the_cache_is_emptied Fault::Emptied,
    nothing_is_lost_when_the_cache_has_no_room Fault::Full,
    nothing_is_lost_when_one_sidecar_is_cut_off_from_the_cache Fault::Cut,
    nothing_is_lost_when_connections_to_the_cache_break_in_the_middle_of_a_reply Fault::Reset,
    nothing_is_lost_when_the_database_is_killed_and_comes_back Fault::DatabaseKilled,
    nothing_is_lost_when_the_database_freezes Fault::DatabaseFrozen,
}
