//! What holds of a connection that many calls share, whichever server is at its other end.

use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use coatroom::store::Kind;
use coatroom::store::engine::{Engine, Worth};
use prometheus::IntCounter;
use tokio::time::{sleep, timeout};

use super::support::{key, revision, secs, stored};
use crate::support::{Memcached, Pulse, Redis};

/// A server that can be made ill.
pub(super) trait Server {
    /// Does it have what it had when it is started again?
    const KEEPS: bool;

    fn signal(&self, name: &str);
    fn kill(&mut self);
    fn restart(&mut self);
}

macro_rules! servers {
    ($($server:ident keeps $keeps:literal,)+) => {$(
        impl Server for $server {
            const KEEPS: bool = $keeps;

            fn signal(&self, name: &str) {
                $server::signal(self, name);
            }

            fn kill(&mut self) {
                $server::kill(self);
            }

            fn restart(&mut self) {
                $server::restart(self);
            }
        }
    )+};
}

servers! {
    Redis keeps true,
    Memcached keeps false,
}

/// A server, an engine on it, and how many connections that has opened.
pub(super) struct Linked<E, S> {
    pub(super) server: S,
    pub(super) engine: E,
    pub(super) opened: IntCounter,
}

/// A test of each server for each of these.
macro_rules! over_each {
    ($($name:ident)+) => {
        mod redis {
            $(#[tokio::test]
            async fn $name() {
                super::$name(crate::store::redis::linked()).await;
            })+
        }
        mod memcached {
            $(#[tokio::test]
            async fn $name() {
                super::$name(crate::store::memcached::linked()).await;
            })+
        }
    };
}

over_each! {
    a_server_that_is_away_costs_no_time_and_is_found_within_a_second_of_being_back
    a_connection_that_left_a_call_without_an_answer_is_given_up
    a_call_that_is_taken_back_leaves_the_connection_and_the_answers_of_others_alone
}

/// Asks until the answer is good, and says how long that took.
pub(super) async fn until_good(engine: &impl Engine) -> Duration {
    let watch = Pulse::start();
    while engine.get(&key(1)).await.is_err() {
        sleep(Duration::from_millis(2)).await;
    }
    watch.elapsed()
}

async fn add(engine: &impl Engine, n: u64) {
    assert_eq!(engine.add(&key(n), stored(n), Worth::Known).await, Ok(true));
}

async fn a_server_that_is_away_costs_no_time_and_is_found_within_a_second_of_being_back<S: Server>(
    mut linked: Linked<impl Engine, S>,
) {
    let engine = &linked.engine;
    add(engine, 1).await;
    linked.server.kill();
    let ill = async || engine.get(&key(1)).await.expect_err("it is away").kind;
    // The first ones find the connection lost, or wait for the next one that fails.
    while ill().await != Kind::Unreachable {}
    let watch = Pulse::start();
    for _ in 0..100 {
        assert_eq!(ill().await, Kind::Unreachable);
    }
    assert!(watch.elapsed() < secs(1), "{:?}", watch.elapsed());
    linked.server.restart();
    let took = until_good(engine).await;
    assert!(took < secs(1), "{took:?}");
    let there = engine.get(&key(1)).await.unwrap().map(|there| there.revision);
    assert_eq!(there, S::KEEPS.then_some(revision(1)));
}

/// Whoever waits for nothing any longer, and the server has not said a word meanwhile: the next call is not written
/// behind it.
async fn a_connection_that_left_a_call_without_an_answer_is_given_up(
    linked: Linked<impl Engine, impl Server>,
) {
    let Linked { server, engine, opened } = linked;
    add(&engine, 1).await;
    assert_eq!(opened.get(), 1);
    server.signal("STOP");
    let answer = timeout(Duration::from_millis(150), engine.get(&key(1))).await;
    assert!(!matches!(answer, Ok(Ok(_))), "it is frozen");
    server.signal("CONT");
    let took = until_good(&engine).await;
    assert!(took < secs(1), "{took:?}");
    assert_eq!(opened.get(), 2);
}

/// Visitors hang up all the time; a connection that does what it should is kept.
async fn a_call_that_is_taken_back_leaves_the_connection_and_the_answers_of_others_alone(
    linked: Linked<impl Engine, impl Server>,
) {
    let Linked { server: _server, engine, opened } = linked;
    for n in 1..=50 {
        add(&engine, n).await;
    }
    for round in 0..200 {
        for n in 1..=50 {
            // Polled once: some are written and some not, and nobody waits for the answer.
            let key = key(n);
            let mut get = pin!(engine.get(&key));
            if (n + round) % 3 != 0 {
                std::future::poll_fn(|cx| Poll::Ready(get.as_mut().poll(cx).is_ready())).await;
                continue;
            }
            assert_eq!(get.await.unwrap().map(|there| there.revision), Some(revision(n)));
        }
    }
    assert_eq!(opened.get(), 1);
}
