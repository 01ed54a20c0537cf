//! What befalls a Redis.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::task::block_in_place;
use tokio::time::sleep;

use super::faults::{self, Effect, Pace, rounds};
use super::fleet::{Fleet, Medium};
use super::workload::Round;
use crate::support::Redis;

impl Medium for Redis {
    fn address(&self) -> Option<SocketAddr> {
        Some(self.address)
    }

    fn url(&self, address: Option<SocketAddr>) -> String {
        format!("redis://{}", address.unwrap_or(self.address))
    }
}

/// What happens to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    Killed,
    Frozen,
    Reset,
    Full,
    Replica,
    Paused,
    Forgetful,
}

impl faults::Fault for Fault {
    type Medium = Redis;

    fn medium() -> Redis {
        Redis::durable()
    }

    fn name(self) -> String {
        let what = match self {
            Self::None => "none",
            Self::Killed => "kill -9, restarted 2 s later",
            Self::Frozen => "SIGSTOP for 5 s",
            Self::Reset => "a reset at each of 400 offsets of replies",
            Self::Full => "OOM (maxmemory)",
            Self::Replica => "READONLY (a replica)",
            Self::Paused => "CLIENT PAUSE, writes and all",
            Self::Forgetful => "SCRIPT FLUSH, ten times",
        };
        format!("Redis: {what}")
    }

    fn effect(self) -> Effect {
        match self {
            Self::None | Self::Forgetful => Effect::None,
            Self::Reset => Effect::Perhaps,
            _ => Effect::Some,
        }
    }

    async fn hurt(self, pace: Pace, fleet: &mut Fleet<Redis>, round: &Round) {
        let ask = |redis: &Redis, words: &[&str]| block_in_place(|| redis.ask::<()>(words));
        match self {
            Self::None => {}
            Self::Killed => {
                block_in_place(|| fleet.medium.kill());
                faults::suffer(pace.calm, round).await;
                block_in_place(|| {
                    fleet.medium.restart();
                    crate::support::child::until(|| fleet.medium.pings().then_some(()));
                });
            }
            Self::Frozen => faults::freeze(pace, |name| fleet.medium.signal(name)).await,
            Self::Reset => faults::reset(pace, fleet, round).await,
            Self::Full => {
                ask(&fleet.medium, &["CONFIG", "SET", "maxmemory", "1"]);
                faults::suffer(2 * pace.calm, round).await;
                ask(&fleet.medium, &["CONFIG", "SET", "maxmemory", "0"]);
            }
            Self::Replica => {
                // Of nobody: it keeps what it has.
                ask(&fleet.medium, &["REPLICAOF", "127.0.0.1", "1"]);
                faults::suffer(2 * pace.calm, round).await;
                ask(&fleet.medium, &["REPLICAOF", "NO", "ONE"]);
            }
            Self::Paused => {
                let before = round.tally().hurt();
                for what in std::iter::once("WRITE").chain(std::iter::repeat_n("ALL", 40)) {
                    ask(&fleet.medium, &["CLIENT", "PAUSE", "400", what]);
                    sleep(Duration::from_millis(450)).await;
                    // It ends by itself, and may have met nobody.
                    if what == "ALL" && round.tally().hurt() > before {
                        break;
                    }
                }
            }
            Self::Forgetful => {
                for _ in 0..10 {
                    ask(&fleet.medium, &["SCRIPT", "FLUSH"]);
                    sleep(pace.calm / 5).await;
                }
            }
        }
    }
}

rounds! {
    nothing_is_lost_where_nothing_happens Fault::None,
    nothing_is_lost_when_the_server_is_killed_and_comes_back Fault::Killed,
    nothing_is_lost_when_the_server_freezes Fault::Frozen,
    nothing_is_lost_when_connections_break_in_the_middle_of_a_reply Fault::Reset,
    nothing_is_lost_when_the_server_has_no_room Fault::Full,
    nothing_is_lost_when_the_server_becomes_a_replica Fault::Replica,
    nothing_is_lost_when_the_server_pauses Fault::Paused,
    nothing_is_lost_when_the_server_forgets_its_scripts Fault::Forgetful,
}
