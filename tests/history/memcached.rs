//! What befalls a memcached, or one of three. What it had is lost with it, so a session may be absent from then on;
//! none that was lost or ended comes back, and no read is older than a change that was acknowledged.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::task::block_in_place;
use tokio::time::sleep;

use super::faults::{self, Effect, Pace, rounds};
use super::fleet::{Fleet, Medium};
use super::tally::Tally;
use super::workload::Round;
use crate::support::Memcached;

/// Acknowledged requests that others get through while a server is dead.
const UNHARMED: u64 = 100;

impl Medium for Memcached {
    fn address(&self) -> Option<SocketAddr> {
        Some(self.address)
    }

    fn url(&self, address: Option<SocketAddr>) -> String {
        format!("memcache://{}", address.unwrap_or(self.address))
    }
}

/// What happens to the only server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    Killed,
    Frozen,
    Reset,
    Flushed,
}

impl faults::Fault for Fault {
    type Medium = Memcached;

    fn medium() -> Memcached {
        Memcached::start()
    }

    fn name(self) -> String {
        let what = match self {
            Self::None => "none",
            Self::Killed => "kill -9, restarted 2 s later, empty",
            Self::Frozen => "SIGSTOP for 5 s",
            Self::Reset => "a reset at each of 400 offsets of replies",
            Self::Flushed => "flush_all, ten times",
        };
        format!("memcached: {what}")
    }

    fn effect(self) -> Effect {
        match self {
            Self::None | Self::Flushed => Effect::None,
            Self::Reset => Effect::Perhaps,
            Self::Killed | Self::Frozen => Effect::Some,
        }
    }

    async fn hurt(self, pace: Pace, fleet: &mut Fleet<Memcached>, round: &Round) {
        match self {
            Self::None => {}
            Self::Killed => {
                round.forgets(true);
                block_in_place(|| fleet.medium.kill());
                round.forgot();
                faults::suffer(pace.calm, round).await;
                block_in_place(|| fleet.medium.restart());
            }
            Self::Frozen => faults::freeze(pace, |name| fleet.medium.signal(name)).await,
            Self::Reset => faults::reset(pace, fleet, round).await,
            Self::Flushed => {
                for _ in 0..10 {
                    round.forgets(true);
                    block_in_place(|| assert_eq!(fleet.medium.ask("flush_all"), ["OK"]));
                    round.forgot();
                    sleep(pace.calm / 5).await;
                }
            }
        }
    }
}

/// Three servers, of which each has a third of the sessions.
struct Three([Memcached; 3]);

impl Medium for Three {
    fn address(&self) -> Option<SocketAddr> {
        None
    }

    fn url(&self, _: Option<SocketAddr>) -> String {
        let [a, b, c] = self.0.each_ref().map(|server| server.address);
        format!("memcache://{a},{b},{c}")
    }
}

/// What happens to one of three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FaultOfOne {
    Killed,
    Frozen,
}

impl faults::Fault for FaultOfOne {
    type Medium = Three;

    fn medium() -> Three {
        Three(std::array::from_fn(|_| Memcached::start()))
    }

    fn name(self) -> String {
        let what = match self {
            Self::Killed => "kill -9, restarted empty when the others had served 100 requests",
            Self::Frozen => "SIGSTOP until the others had served 100 requests",
        };
        format!("memcached, one of three: {what}")
    }

    fn effect(self) -> Effect {
        Effect::Some
    }

    async fn hurt(self, _: Pace, fleet: &mut Fleet<Three>, round: &Round) {
        let [_, dies, _] = &mut fleet.medium.0;
        match self {
            Self::Killed => {
                round.forgets(false);
                block_in_place(|| dies.kill());
            }
            Self::Frozen => dies.signal("STOP"),
        }
        // Whoever is elsewhere goes on, and somebody was refused.
        let Tally { done, refused, .. } = round.tally().clone();
        let unharmed = || {
            let tally = round.tally();
            tally.done >= done + UNHARMED && tally.refused > refused
        };
        while !unharmed() {
            sleep(Duration::from_millis(5)).await;
        }
        match self {
            Self::Killed => {
                round.forgot();
                block_in_place(|| dies.restart());
            }
            Self::Frozen => dies.signal("CONT"),
        }
    }
}

rounds! {
    nothing_is_lost_where_nothing_happens Fault::None,
    nothing_is_lost_but_what_it_had_when_the_server_is_killed Fault::Killed,
    nothing_is_lost_when_the_server_freezes Fault::Frozen,
    nothing_is_lost_when_connections_break_in_the_middle_of_a_reply Fault::Reset,
    nothing_is_lost_but_what_it_had_when_the_server_is_flushed Fault::Flushed,
    nothing_is_lost_but_what_it_had_when_one_of_three_is_killed FaultOfOne::Killed,
    nothing_is_lost_when_one_of_three_freezes FaultOfOne::Frozen,
}
