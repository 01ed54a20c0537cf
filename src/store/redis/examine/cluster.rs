//! A cluster tried out: whom it consists of, whether all slots are served, and each server that serves some.

use tokio::task::JoinSet;

use super::{Part, STEP, URL, illness, login, server_at};
use crate::store::redis::dialogue::Dialogue;
use crate::store::redis::failure::{Failure, Step};
use crate::store::redis::slot;
use crate::store::redis::target::Target;
use crate::store::redis::topology::{Address, Cluster, Map, Mute, ask};
use crate::store::{Config, Finding};

/// Asks those whom the settings name who serves what, and tries each who does.
pub(super) async fn examine(cluster: &Cluster, config: &Config) -> Vec<Finding> {
    let (mut maps, mut silent) = (Vec::new(), Vec::new());
    for (seed, said) in ask_all(&cluster.seeds).await {
        match said {
            Ok(map) => maps.push((seed, map)),
            Err(mute) => silent.push((seed, mute)),
        }
    }
    let Some((seed, map)) = maps.into_iter().next() else { return vec![nobody(config, silent)] };
    let mut findings = Vec::new();
    for (server, mute) in silent {
        let Finding { key, what, remedy, .. } = one(config, &server, mute);
        findings.push(Finding::warning(key, what, remedy));
    }
    findings.extend(uncovered(&seed, &map));
    findings.extend(gathered(config));
    for found in try_all(cluster, config, &map).await {
        // What is said of no server in particular is said once.
        if !findings.contains(&found) {
            findings.push(found);
        }
    }
    findings
}

async fn ask_all(seeds: &[Target]) -> Vec<(Target, Result<Map, Mute>)> {
    let mut tasks = JoinSet::new();
    for (n, seed) in seeds.iter().cloned().enumerate() {
        tasks.spawn(async move {
            let said = match Dialogue::with(&seed, STEP).await {
                Ok(mut dialogue) => ask(&seed, &mut dialogue).await,
                Err(failure) => Err(Mute::Away(failure)),
            };
            (n, (seed, said))
        });
    }
    let mut said = tasks.join_all().await;
    said.sort_by_key(|(n, _)| *n);
    said.into_iter().map(|(_, said)| said).collect()
}

/// Nobody says who serves what: one line, of what is most likely the reason.
fn nobody(config: &Config, silent: Vec<(Target, Mute)>) -> Finding {
    let away =
        |mute: &Mute| matches!(mute, Mute::Away(Failure::Name(_) | Failure::Away(_) | Failure::Late(_)));
    if !silent.iter().all(|(_, mute)| away(mute)) {
        let said = silent.into_iter().find(|(_, mute)| !away(mute));
        return match said {
            Some((server, mute)) => one(config, &server, mute),
            None => Finding::problem(URL, "names no server", "name some"),
        };
    }
    let why = silent.into_iter().map(|(server, mute)| match mute {
        Mute::Away(failure) => failure.at(&server.place).detail,
        Mute::Refused(said) => said.detail,
    });
    let why: Vec<_> = why.collect();
    let what = format!("no server of the cluster can be asked ({})", why.join("; "));
    Finding::problem(URL, what, "start them, or correct the hosts")
}

/// What one that doesn't say who serves what means.
fn one(config: &Config, server: &Target, mute: Mute) -> Finding {
    let place = &server.place;
    match mute {
        Mute::Away(Failure::File((key, what))) => Finding::problem(key, what, "name a file that can be used"),
        Mute::Away(Failure::Refused(command, said)) => {
            login::explain(server, &config.key_prefix, command, &said)
        }
        Mute::Away(failure) => {
            let what = format!("a server of the cluster can't be asked, {}", failure.at(place).detail);
            Finding::problem(URL, what, "start it, or correct the hosts")
        }
        Mute::Refused(said) if said.detail.contains("cluster support disabled") => {
            Finding::problem(URL, format!("{place} is part of no cluster"), "write redis://")
        }
        Mute::Refused(said) if said.code == "NOPERM" => {
            let user = super::rights::user(server);
            let grant = super::rights::grant(server, &config.key_prefix);
            Finding::problem(URL, format!("{user} may not use cluster|slots"), format!("run {grant}"))
        }
        Mute::Refused(said) => illness::of(server, "CLUSTER SLOTS", &said),
    }
}

/// Slots that nobody serves: sessions that are in them have no place.
fn uncovered(seed: &Target, map: &Map) -> Option<Finding> {
    let holes = map.holes();
    let shown: Vec<_> = holes
        .iter()
        .take(3)
        .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") })
        .collect();
    let more = if holes.len() > 3 { ", …" } else { "" };
    (!holes.is_empty()).then(|| {
        let what = format!("nobody serves slots {}{more} of the cluster of {}", shown.join(", "), seed.place);
        let remedy = format!("see redis-cli --cluster check {0}, and --cluster fix {0}", seed.place);
        Finding::problem(URL, what, remedy)
    })
}

/// A prefix that puts all sessions into one slot.
fn gathered(config: &Config) -> Option<Finding> {
    let prefix = config.key_prefix.as_bytes();
    // Behind a prefix with a whole tag, whatever comes next makes no difference.
    (slot::tag(prefix) != prefix).then(|| {
        let what = "holds a hash tag, which puts all sessions into one slot, on one server";
        Finding::warning("store.key_prefix", what, "remove its braces")
    })
}

async fn try_all(cluster: &Cluster, config: &Config, map: &Map) -> Vec<Finding> {
    let mut tasks = JoinSet::new();
    for (n, server) in map.servers().into_iter().enumerate() {
        let (target, config, map) = (cluster.target(&server), config.clone(), map.clone());
        tasks.spawn(async move { (n, try_one(&target, &config, &map, &server).await) });
    }
    let mut found = tasks.join_all().await;
    found.sort_by_key(|(n, _)| *n);
    found.into_iter().flat_map(|(_, found)| found).collect()
}

async fn try_one(target: &Target, config: &Config, map: &Map, server: &Address) -> Vec<Finding> {
    match target.connect(STEP).await {
        Err(failure @ (Failure::Name(_) | Failure::Away(_) | Failure::Late(Step::Reach))) => {
            let error = failure.at(&target.place).detail;
            let what = format!("the cluster names a server that can't be reached from here, {error}");
            let remedy = "start it, see to the network between, or have it announce another address (cluster-announce-ip)";
            vec![Finding::problem(URL, what, remedy)]
        }
        connected => server_at(target, config, connected, Part::Node(map, server)).await,
    }
}
