//! What befalls a MariaDB.

use std::net::SocketAddr;

use tokio::task::block_in_place;

use super::faults::{self, Effect, Pace, rounds};
use super::fleet::{Fleet, Medium};
use super::workload::Round;
use crate::support::database::DATABASE;
use crate::support::{Brand, Database};

/// A server of its own, with a user who may not write where it is read-only.
struct MariaDb(Database);

impl Medium for MariaDb {
    fn address(&self) -> Option<SocketAddr> {
        Some(self.0.address)
    }

    fn url(&self, address: Option<SocketAddr>) -> String {
        self.0.url_at("app", &address.unwrap_or(self.0.address).to_string())
    }
}

/// What happens to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    Killed,
    Frozen,
    Reset,
    ReadOnly,
}

impl faults::Fault for Fault {
    type Medium = MariaDb;

    const CLIENTS: usize = 16;

    fn medium() -> MariaDb {
        let server = Database::start(Brand::MariaDb, &["--skip-name-resolve"]);
        server.ask("CREATE USER app@'127.0.0.1'");
        server.ask(&format!("GRANT ALL ON {DATABASE}.* TO app@'127.0.0.1'"));
        MariaDb(server)
    }

    fn name(self) -> String {
        let what = match self {
            Self::None => "none",
            Self::Killed => "kill -9, restarted 2 s later",
            Self::Frozen => "SIGSTOP for 5 s",
            Self::Reset => "a reset at each of 400 offsets of replies",
            Self::ReadOnly => "read_only",
        };
        format!("MariaDB: {what}")
    }

    fn effect(self) -> Effect {
        match self {
            Self::None => Effect::None,
            Self::Reset => Effect::Perhaps,
            _ => Effect::Some,
        }
    }

    async fn hurt(self, pace: Pace, fleet: &mut Fleet<MariaDb>, round: &Round) {
        let ask = |fleet: &Fleet<MariaDb>, text: &str| drop(block_in_place(|| fleet.medium.0.ask(text)));
        match self {
            Self::None => {}
            Self::Killed => faults::crash(pace, round, &mut fleet.medium.0).await,
            Self::Frozen => faults::freeze(pace, |name| fleet.medium.0.signal(name)).await,
            Self::Reset => faults::reset(pace, fleet, round).await,
            Self::ReadOnly => {
                ask(fleet, "SET GLOBAL read_only = 1");
                faults::suffer(2 * pace.calm, round).await;
                ask(fleet, "SET GLOBAL read_only = 0");
            }
        }
    }
}

rounds! {
    nothing_is_lost_where_nothing_happens Fault::None,
    nothing_is_lost_when_the_server_is_killed_and_comes_back Fault::Killed,
    nothing_is_lost_when_the_server_freezes Fault::Frozen,
    nothing_is_lost_when_connections_break_in_the_middle_of_a_reply Fault::Reset,
    nothing_is_lost_when_the_server_takes_no_writes Fault::ReadOnly,
}
