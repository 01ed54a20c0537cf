//! A server tried out, before anybody's session depends on it.

mod cluster;
mod illness;
mod login;
mod rights;
mod sentinels;
mod server;
mod trial;
mod unreached;

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{RedisResult, Value};
use tokio::time::timeout;

use self::server::Server;
use super::answer;
use super::failure::Failure;
use super::goal::Goal;
use super::target::Target;
use super::topology::{Address, Map};
use crate::store::link::Driver;
use crate::store::{Config, Finding};

/// What each step of connecting may take: what a worker gives all of them.
const STEP: Duration = Duration::from_secs(1);
/// What all that is asked of a server may take.
const TALK: Duration = Duration::from_secs(3);
/// The setting that says which server it is.
const URL: &str = "store.url";

/// Connects as a worker does, asks the server what it is, and has it do all that the engine asks of it.
pub(in crate::store) async fn examine(config: &Config) -> Vec<Finding> {
    match Goal::new(config) {
        Ok(Goal::Server(target)) => server_at(&target, config, target.connect(STEP).await, Part::Alone).await,
        Ok(Goal::Sentinels(sentinels)) => sentinels::examine(&sentinels.watchers, config).await,
        Ok(Goal::Cluster(cluster)) => cluster::examine(&cluster, config).await,
        Err((key, what)) => vec![Finding::problem(key, what, "see its comment in config/coatroom.toml")],
    }
}

/// What a server is to be, as far as others have said it.
#[derive(Clone, Copy)]
enum Part<'a> {
    /// One that has all keys.
    Alone,
    /// The same, as Sentinels say.
    Master,
    /// One that has those keys of a cluster that it has here.
    Node(&'a Map, &'a Address),
}

/// Tries one server, which was connected to.
async fn server_at(
    target: &Target,
    config: &Config,
    connected: Result<(MultiplexedConnection, Driver), Failure>,
    part: Part<'_>,
) -> Vec<Finding> {
    let (connection, driver) = match connected {
        Ok(connected) => connected,
        Err(failure) => return vec![unreached::explain(target, &config.key_prefix, failure).await],
    };
    let mut findings = Vec::new();
    let talk = timeout(TALK, talk(connection, target, config, part, &mut findings));
    let ended = tokio::select! {
        biased;
        said = talk => said.unwrap_or_else(|_| Err("did not answer all of our questions within three seconds".to_owned())),
        () = driver => Err("hung up while it was asked".to_owned()),
    };
    if let Err(what) = ended {
        let what = format!("{} {what}", target.place);
        findings.push(Finding::problem(URL, what, "see what keeps it from answering (SLOWLOG, its log)"));
    }
    findings
}

async fn talk(
    connection: MultiplexedConnection,
    target: &Target,
    config: &Config,
    part: Part<'_>,
    findings: &mut Vec<Finding>,
) -> Result<(), String> {
    let mut asked = Asked(connection);
    let server = Server::ask(&mut asked).await?;
    if let Some(illness) = server.illness(&target.place, part) {
        findings.push(illness);
        return Ok(());
    }
    findings.extend(trial::run(&mut asked, target, config, part).await?);
    let serves = findings.is_empty();
    findings.extend(server.durability());
    findings.extend(server.laxity());
    findings.extend(server.room());
    findings.extend(server.unseen(target).filter(|_| serves));
    Ok(())
}

/// A connection, for questions one at a time.
struct Asked(MultiplexedConnection);

impl Asked {
    /// The answer, be it one that the server won't.
    async fn ask(&mut self, words: &[&[u8]]) -> Result<Value, String> {
        let mut command = redis::Cmd::new();
        for word in words {
            command.arg(*word);
        }
        let answer: RedisResult<Value> = self.0.send_packed_command(&command).await;
        answer.map_err(|error| format!("hung up while it was asked ({})", answer::lost(&error)))
    }
}
