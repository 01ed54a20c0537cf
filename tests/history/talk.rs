//! Whose answer is it? Sessions that name themselves, replies that come late, clients that hang up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::fleet::{Fleet, Medium};
use super::judge::Seen;
use super::relay::Harm;
use super::wire::Client;
use super::workload::read;
use crate::support::{Memcached, Redis};

const CLIENTS: usize = 64;
const REQUESTS: u64 = 100_000;

#[derive(Default)]
struct Counts {
    sent: AtomicU64,
    own: AtomicU64,
    refused: AtomicU64,
    left: AtomicU64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_reads_an_answer_to_somebody_else() {
    talk(Redis::start(), REQUESTS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_reads_an_answer_of_memcacheds_to_somebody_else() {
    talk(Memcached::start(), REQUESTS / 4).await;
}

async fn talk(medium: impl Medium, requests: u64) {
    // All on one worker, so that all share one connection; its budget is shorter than what replies are delayed by.
    let settings = [("COATROOM__STORE__TIMEOUT", "20ms"), ("COATROOM__PROXY__WORKERS", "1")];
    let fleet = Fleet::start(medium, &settings).await;
    let mut clients: Vec<_> = (0..CLIENTS).map(|n| Client::new(fleet.addresses()[n % 2])).collect();
    let mut tokens = Vec::new();
    for (n, client) in clients.iter_mut().enumerate() {
        let wanted = [("X-Session-Set", format!("{{\"life\":\"{n}\"}}"))];
        let reply = client.ask(None, &wanted).await.expect("it is answered");
        tokens.push(reply.cookie.expect("it is created"));
    }
    fleet.relay().set(Harm::Delay { every: 50, length: Duration::from_millis(25) });
    let counts = Arc::new(Counts::default());
    let mut tasks = JoinSet::new();
    for (n, (mut client, token)) in clients.into_iter().zip(tokens).enumerate() {
        let (counts, mut random) = (Arc::clone(&counts), SmallRng::seed_from_u64(n as u64));
        tasks.spawn(async move {
            while counts.sent.fetch_add(1, Relaxed) < requests {
                let name = n.to_string();
                let wanted: &[(&str, String)] = match random.random_range(0..4) {
                    0 => &[("X-Session-Increment", "{\"c0\":1}".to_owned())],
                    _ => &[],
                };
                let ask = client.ask(Some(&token), wanted);
                let patience =
                    if random.random_range(0..20) == 0 { random.random_range(0..3000) } else { 5_000_000 };
                match timeout(Duration::from_micros(patience), ask).await {
                    Err(_) => {
                        client.hang_up();
                        counts.left.fetch_add(1, Relaxed);
                    }
                    Ok(Ok(reply)) if reply.status == 200 => {
                        match read(&reply.body).0 {
                            Seen::Session { life, .. } => assert_eq!(life, name),
                            other => panic!("{name} was logged out: {other:?}"),
                        }
                        assert!(reply.cookie.is_none_or(|cookie| cookie == token));
                        counts.own.fetch_add(1, Relaxed);
                    }
                    Ok(Ok(reply)) => {
                        assert_eq!((reply.status, reply.cookie), (503, None));
                        counts.refused.fetch_add(1, Relaxed);
                    }
                    Ok(Err(error)) => panic!("every request is answered: {error}"),
                }
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.expect("no client reads somebody else's session");
    }
    let [own, refused, left] = [&counts.own, &counts.refused, &counts.left].map(|count| count.load(Relaxed));
    assert!(
        own > requests / 2 && refused > requests / 1000 && left > requests / 1000,
        "own {own}, refused {refused}, left {left}"
    );
}
