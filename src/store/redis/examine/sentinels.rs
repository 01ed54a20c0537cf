//! Sentinels tried out, and the master that they name.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::{Part, STEP, URL, illness, login, server_at};
use crate::store::redis::dialogue::Dialogue;
use crate::store::redis::failure::{Failure, Step};
use crate::store::redis::sentinel::{Mute, Watchers};
use crate::store::redis::target::Target;
use crate::store::{Config, Finding};

/// What one of them says.
enum Word {
    /// Where the master is.
    Master(String, u16),
    /// It watches others.
    Others(Vec<String>),
    /// Nothing that helps.
    Mute(Mute),
}

/// Asks all of them, and tries the master.
pub(super) async fn examine(watchers: &Arc<Watchers>, config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut named: Vec<(String, u16)> = Vec::new();
    let mut silent = Vec::new();
    for (sentinel, word) in ask_all(watchers).await {
        match word {
            Word::Master(host, port) => named.push((host, port)),
            other => silent.push((sentinel, other)),
        }
    }
    let Some((host, port)) = named.first() else { return vec![nobody(watchers, silent)] };
    for (sentinel, word) in silent {
        let Finding { key, what, remedy, .. } = one(watchers, &sentinel, word);
        findings.push(Finding::warning(key, what, remedy));
    }
    if let Some((other, at)) = named.iter().find(|other| **other != named[0]) {
        let what = format!("some Sentinels name {host}:{port} as the master, and some {other}:{at}");
        findings.push(Finding::warning(URL, what, "wait until a failover is over, and try again"));
    }
    let master = watchers.master.at(host, *port);
    match master.connect(STEP).await {
        Err(failure @ (Failure::Name(_) | Failure::Away(_) | Failure::Late(Step::Reach))) => {
            let error = failure.at(&master.place).detail;
            let what = format!("the Sentinels name a master that can't be reached from here, {error}");
            let remedy = "start it, see to the network between, or have it announce another address (replica-announce-ip)";
            findings.push(Finding::problem(URL, what, remedy));
        }
        connected => findings.extend(server_at(&master, config, connected, Part::Master).await),
    }
    findings
}

async fn ask_all(watchers: &Arc<Watchers>) -> Vec<(Target, Word)> {
    let mut tasks = JoinSet::new();
    for (n, sentinel) in watchers.sentinels.iter().cloned().enumerate() {
        let watchers = Arc::clone(watchers);
        tasks.spawn(async move {
            let word = ask(&watchers, &sentinel).await.unwrap_or_else(Word::Mute);
            (n, (sentinel, word))
        });
    }
    let mut words = tasks.join_all().await;
    words.sort_by_key(|(n, _)| *n);
    words.into_iter().map(|(_, word)| word).collect()
}

async fn ask(watchers: &Watchers, sentinel: &Target) -> Result<Word, Mute> {
    let mut dialogue = Dialogue::with(sentinel, STEP).await.map_err(Mute::Away)?;
    match watchers.ask(&mut dialogue).await {
        Ok((host, port)) => Ok(Word::Master(host, port)),
        Err(Mute::Unknown) => {
            let masters = dialogue.ask(&["SENTINEL", "MASTERS"]).await.map_err(Mute::Away)?;
            let masters: Vec<std::collections::BTreeMap<String, String>> =
                redis::from_redis_value_ref(&masters).unwrap_or_default();
            Ok(Word::Others(masters.into_iter().filter_map(|mut master| master.remove("name")).collect()))
        }
        Err(mute) => Err(mute),
    }
}

/// Nobody names a master: one line, of what is most likely the reason.
fn nobody(watchers: &Watchers, silent: Vec<(Target, Word)>) -> Finding {
    let away = |word: &Word| matches!(word, Word::Mute(Mute::Away(failure)) if !matches!(failure, Failure::Refused(..) | Failure::File(_) | Failure::Tls(_)));
    if !silent.iter().all(|(_, word)| away(word)) {
        let said = silent.into_iter().find(|(_, word)| !away(word));
        if let Some((sentinel, word)) = said {
            return one(watchers, &sentinel, word);
        }
        return Finding::problem(URL, "names no Sentinel", "name some");
    }
    let why: Vec<_> = silent
        .into_iter()
        .map(|(sentinel, word)| match word {
            Word::Mute(Mute::Away(failure)) => failure.at(&sentinel.place).detail,
            _ => sentinel.place.to_string(),
        })
        .collect();
    let what = format!("no Sentinel can be asked ({})", why.join("; "));
    Finding::problem(URL, what, "start them, or correct the hosts (their port is 26379 as a rule)")
}

/// What one that names no master means.
fn one(watchers: &Watchers, sentinel: &Target, word: Word) -> Finding {
    let (place, name) = (&sentinel.place, &watchers.name);
    let mute = match word {
        Word::Others(others) => {
            let others = if others.is_empty() { "nothing".to_owned() } else { others.join(", ") };
            let what = format!("Sentinel {place} knows no master {name:?}; it watches {others}");
            return Finding::problem(URL, what, "correct the name behind the hosts");
        }
        Word::Mute(mute) => mute,
        Word::Master(..) => return Finding::problem(URL, "names no Sentinel", "name some"),
    };
    match mute {
        Mute::Away(Failure::File((key, what))) => Finding::problem(key, what, "name a file that can be used"),
        Mute::Away(Failure::Refused(command, said)) => login::explain(sentinel, "", command, &said),
        Mute::Away(failure) => {
            let what = format!("a Sentinel can't be asked, {}", failure.at(place).detail);
            Finding::problem(URL, what, "start it, or correct the hosts (their port is 26379 as a rule)")
        }
        Mute::Refused(said) if said.detail.contains("unknown command") => {
            let what = format!("{place} is no Sentinel");
            Finding::problem(URL, what, "name Sentinels (their port is 26379 as a rule), or write redis://")
        }
        Mute::Refused(said) => illness::of(sentinel, "SENTINEL", &said),
        Mute::Unknown => Finding::problem(URL, format!("{place} knows no master {name:?}"), "correct it"),
    }
}
