//! A steady load: so many requests a second, some of which save, however long each takes.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use coatroom::time::Stopwatch;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::load::Line;
use super::origin::Dialect;
use super::support::Browser;

/// Of so many requests one saves.
const SAVES: usize = 4;
/// How often it is asked whether it is over.
const LOOK: Duration = Duration::from_millis(20);

/// Sessions, and how they are asked for.
pub struct Pace {
    address: SocketAddr,
    cookies: Vec<String>,
    connections: usize,
    /// Between two requests of one connection.
    pause: Duration,
}

/// What requests took, in nanoseconds, in order.
#[derive(Default)]
pub struct Measured {
    /// Those that only load.
    loads: Vec<u64>,
    /// Those that save.
    pub saves: Vec<u64>,
    /// Why others got no answer, or another one than they should.
    pub faults: Vec<String>,
    /// How long it went on.
    pub elapsed: Duration,
}

impl Measured {
    /// All of them, in order.
    pub fn all(&self) -> Vec<u64> {
        let mut all = [&self.loads[..], &self.saves].concat();
        all.sort_unstable();
        all
    }
}

/// A quantile of what is in order, in milliseconds.
pub fn quantile(nanos: &[u64], percent: usize) -> f64 {
    let at = (nanos.len() * percent / 100).min(nanos.len().saturating_sub(1));
    nanos.get(at).map_or(f64::NAN, |nanos| *nanos as f64 / 1e6)
}

impl Pace {
    /// Begins a session for each of these connections, which ask so often a second together.
    pub fn new(address: SocketAddr, connections: usize, rate: f64) -> Self {
        let cookies = (0..connections).map(|_| {
            let mut browser = Browser::new(address);
            let reply = browser.get(Dialect::Coatroom.login());
            let Some((name, value)) = browser.jar.into_iter().next() else {
                panic!("a login sets a cookie: {reply:?}")
            };
            format!("{name}={value}")
        });
        let pause = Duration::from_secs_f64(connections as f64 / rate);
        Self { address, cookies: cookies.collect(), connections, pause }
    }

    /// Asks until `over`.
    pub fn keep(&self, mut over: impl FnMut() -> bool) -> Measured {
        let (measured, ended) = (Rc::new(RefCell::new(Measured::default())), Rc::new(Cell::new(false)));
        let watch = Stopwatch::start();
        super::runtime().block_on(LocalSet::new().run_until(async {
            let visits: Vec<_> = (0..self.connections)
                .map(|number| {
                    let (measured, ended) = (Rc::clone(&measured), Rc::clone(&ended));
                    let (address, cookie, pause) = (self.address, self.cookies[number].clone(), self.pause);
                    let first = Instant::now() + pause.mul_f64(number as f64 / self.connections as f64);
                    tokio::task::spawn_local(visit(address, cookie, (first, pause, number), measured, ended))
                })
                .collect();
            while !over() {
                sleep(LOOK).await;
            }
            ended.set(true);
            for visit in visits {
                visit.await.expect("it does not panic");
            }
        }));
        let mut measured = measured.take();
        measured.elapsed = watch.elapsed();
        measured.loads.sort_unstable();
        measured.saves.sort_unstable();
        measured
    }
}

/// One connection. A request whose turn it was before the one before it was answered counts from its turn on: waiting
/// for those who are slow is part of being slow.
async fn visit(
    address: SocketAddr,
    cookie: String,
    (first, pause, number): (Instant, Duration, usize),
    measured: Rc<RefCell<Measured>>,
    ended: Rc<Cell<bool>>,
) {
    let (mut line, mut due) = (None, first);
    for turn in number.. {
        if ended.get() {
            return;
        }
        if Instant::now() < due {
            sleep_until(due).await;
            due = Instant::now();
        }
        let saves = turn % SAVES == 0;
        let path = if saves { Dialect::Coatroom.write() } else { "/small" };
        let asked = async {
            let mut open = match line.take() {
                Some(open) => open,
                None => Line::to(address).await?,
            };
            open.ask(path, Some(&cookie)).await?;
            line = Some(open);
            Ok::<_, String>(())
        };
        match asked.await {
            Ok(()) => {
                let took = u64::try_from(due.elapsed().as_nanos()).unwrap_or(u64::MAX);
                let mut measured = measured.borrow_mut();
                if saves { measured.saves.push(took) } else { measured.loads.push(took) }
            }
            Err(fault) => measured.borrow_mut().faults.push(fault),
        }
        due += pause;
    }
}
