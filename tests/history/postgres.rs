//! What befalls a PostgreSQL.

use std::net::SocketAddr;

use tokio::task::block_in_place;
use tokio::time::sleep;

use super::faults::{self, Effect, Pace, rounds};
use super::fleet::{Fleet, Medium};
use super::workload::Round;
use crate::support::database::ROOT;
use crate::support::{Brand, Database};

/// A server of its own.
struct Postgres(Database);

impl Medium for Postgres {
    fn address(&self) -> Option<SocketAddr> {
        Some(self.0.address)
    }

    fn url(&self, address: Option<SocketAddr>) -> String {
        self.0.url_at(ROOT, &address.unwrap_or(self.0.address).to_string())
    }
}

/// What happens to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    Killed,
    Frozen,
    Reset,
    Terminated,
    ReadOnly,
}

impl faults::Fault for Fault {
    type Medium = Postgres;

    const CLIENTS: usize = 16;

    fn medium() -> Postgres {
        Postgres(Database::start(Brand::Postgres, &[]))
    }

    fn name(self) -> String {
        let what = match self {
            Self::None => "none",
            Self::Killed => "kill -9, restarted 2 s later",
            Self::Frozen => "SIGSTOP for 5 s",
            Self::Reset => "a reset at each of 400 offsets of replies",
            Self::Terminated => "pg_terminate_backend of all, ten times",
            Self::ReadOnly => "default_transaction_read_only",
        };
        format!("PostgreSQL: {what}")
    }

    fn effect(self) -> Effect {
        match self {
            Self::None => Effect::None,
            Self::Reset | Self::Terminated => Effect::Perhaps,
            _ => Effect::Some,
        }
    }

    async fn hurt(self, pace: Pace, fleet: &mut Fleet<Postgres>, round: &Round) {
        let ask = |fleet: &Fleet<Postgres>, text: &str| drop(block_in_place(|| fleet.medium.0.ask(text)));
        match self {
            Self::None => {}
            Self::Killed => faults::crash(pace, round, &mut fleet.medium.0).await,
            Self::Frozen => faults::freeze(pace, |name| fleet.medium.0.signal(name)).await,
            Self::Reset => faults::reset(pace, fleet, round).await,
            Self::Terminated => {
                for _ in 0..10 {
                    let all = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                               WHERE application_name = 'coatroom'";
                    ask(fleet, all);
                    sleep(pace.calm / 5).await;
                }
            }
            Self::ReadOnly => {
                for value in ["on", "off"] {
                    ask(fleet, &format!("ALTER SYSTEM SET default_transaction_read_only = {value}"));
                    ask(fleet, "SELECT pg_reload_conf()");
                    if value == "on" {
                        faults::suffer(2 * pace.calm, round).await;
                    }
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
    nothing_is_lost_when_backends_are_terminated Fault::Terminated,
    nothing_is_lost_when_the_server_takes_no_writes Fault::ReadOnly,
}
