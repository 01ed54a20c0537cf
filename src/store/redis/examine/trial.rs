//! The engine's own commands, tried on a key that nobody else has.

use aws_lc_rs::rand;
use data_encoding::HEXLOWER;
use redis::Value;

use super::rights::{self, COMMANDS, grant};
use super::{Asked, Part, URL, illness};
use crate::store::redis::answer::Said;
use crate::store::redis::goal::WAIT;
use crate::store::redis::script;
use crate::store::redis::slot;
use crate::store::redis::target::Target;
use crate::store::{Config, Finding, Kind};

/// How long what we put there stays if we can't remove it: milliseconds.
const LIFE: &[u8] = b"60000";
/// Keys that are made up to find one that lies on a server.
const TRIES: usize = 10_000;
/// How long replicas may take for what is tried: milliseconds.
const PATIENCE: &[u8] = b"500";
/// The setting that says what our keys begin with.
const PREFIX: &str = "store.key_prefix";

/// Does what the engine does, and removes what that left.
///
/// # Errors
/// Says that the connection was lost.
pub(super) async fn run(
    asked: &mut Asked,
    target: &Target,
    config: &Config,
    part: Part<'_>,
) -> Result<Vec<Finding>, String> {
    let prefix = &*config.key_prefix;
    let (key, other) = match part {
        Part::Alone | Part::Master => (key(prefix), key(prefix)),
        // A script has its keys in one slot; this one has the same one twice.
        Part::Node(map, server) => {
            let is_there = |key: &Vec<u8>| map.owner(slot::of(key)) == Some(server);
            match (0..TRIES).map(|_| key(prefix)).find(is_there) {
                Some(key) => (key.clone(), key),
                // Our prefix leads to other servers, or it serves too few slots to meet one.
                None => return Ok(Vec::new()),
            }
        }
    };
    let (seen, end) = (&b"revision"[..], &[0; 6][..]);
    let value = [seen, end].concat();
    let (cycle, touch) = (&script::CYCLE, &script::TOUCH);
    // A cycle from what is not there writes nothing, as no text at the end of nothing does.
    let unseen = [cycle.name.as_bytes(), b"2", &key, &other, &[0; 8], &value, LIFE, &value, LIFE];
    let evalsha = [&[&b"EVALSHA"[..]][..], &unseen].concat();
    let trials: [(&str, &[&[u8]]); COMMANDS.len()] = [
        ("set", &[b"SET", &key, &value, b"NX", b"PX", LIFE]),
        ("get", &[b"GET", &key]),
        ("getrange", &[b"GETRANGE", &key, b"0", b"7"]),
        ("setrange", &[b"SETRANGE", &key, b"8", b""]),
        ("pexpire", &[b"PEXPIRE", &key, LIFE]),
        ("eval", &[b"EVAL", touch.text.as_bytes(), b"1", &key, seen, end, LIFE]),
        ("script|load", &[b"SCRIPT", b"LOAD", cycle.text.as_bytes()]),
        ("evalsha", &evalsha),
        ("ping", &[b"PING"]),
        ("del", &[b"DEL", &key]),
    ];
    let wanted = config.wait_replicas.to_string();
    let more = target.more.iter().map(|right| match *right {
        WAIT => (WAIT, vec![&b"WAIT"[..], wanted.as_bytes(), PATIENCE]),
        "cluster|slots" => (*right, vec![&b"CLUSTER"[..], b"SLOTS"]),
        right => (right, vec![right.as_bytes()]),
    });
    let more: Vec<_> = more.collect();
    let more = more.iter().map(|(right, words)| (*right, &words[..]));
    let (mut denied, mut keys, mut ill) = (Vec::new(), false, None);
    for (right, words) in trials.into_iter().chain(more) {
        // Whatever went wrong, what lies there is removed.
        if ill.is_some() && right != "del" {
            continue;
        }
        let answer = asked.ask(words).await?;
        if let (WAIT, Value::Int(reached)) = (right, &answer)
            && usize::try_from(*reached).is_ok_and(|reached| reached < config.wait_replicas)
        {
            ill = ill.or_else(|| Some(illness::alone(&target.place, *reached, config.wait_replicas)));
        }
        match Said::of(&answer) {
            Some(said) if said.code == "NOPERM" && said.detail.contains("to run the") => denied.push(right),
            Some(said) if said.code == "NOPERM" => keys = true,
            // It could not be loaded, or a command in it is denied: both are known by now.
            Some(said) if said.code == "NOSCRIPT" || said.kind() == Kind::NoPermission => {}
            Some(said) => ill = ill.or_else(|| Some(illness::of(target, right, &said))),
            None => {}
        }
    }
    let grant = || format!("run {}", grant(target, prefix));
    let user = rights::user(target);
    let denied = (!denied.is_empty())
        .then(|| Finding::problem(URL, format!("{user} may not use {}", denied.join(", ")), grant()));
    let keys = keys.then(|| {
        Finding::problem(PREFIX, format!("{user} may not use keys that begin with {prefix:?}"), grant())
    });
    Ok(denied.into_iter().chain(keys).chain(ill).collect())
}

/// A key of the length that sessions have, and that no token leads to. It is text, since servers name it in errors.
fn key(prefix: &str) -> Vec<u8> {
    let mut bits = [0; 10];
    // Without random numbers it is another one of these.
    let _ = rand::fill(&mut bits);
    [prefix.as_bytes(), HEXLOWER.encode(&bits).as_bytes()].concat()
}
