//! The Sentinels: whom they call their master, now and after a failover.
//!
//! One task for the whole process holds a connection to one of them and asks it again every tenth of a second or two.
//! It could subscribe to `+switch-master` instead; but then a Sentinel that has lost its network says nothing, as one
//! does that has nothing to say. One that doesn't answer in time is left for the next in the list.
//!
//! While the master can't be reached, or is none, all are asked in turn, and faster: the one that leads a failover
//! knows which replica it promotes (`promoted` among its flags) a second before it names it as the master, or the
//! others do. That is believed at once, for whoever connects makes sure by `ROLE` that it is a master by now.
//!
//! Each failover has an epoch, higher than those before it. One that names its master with a lower epoch than another
//! did has not heard of a failover, and is left for the next, until a whole round of them finds nobody who has, and all
//! have answered, or the master can't be reached: then they were set up anew, and count from the beginning.

use std::collections::BTreeMap;
use std::fmt;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use redis::{Value, from_redis_value_ref};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::answer::Said;
use super::dialogue::Dialogue;
use super::failure::Failure;
use super::lookout::{Lookout, News, Teller};
use super::target::Target;
use crate::store::link::jittered;
use crate::store::{Error, Kind};
use crate::time::Stopwatch;

/// What a connection to a Sentinel, and an answer of it, may take. The others are waiting to be asked.
const PATIENCE: Duration = Duration::from_millis(300);
/// How often one is asked at least.
const INTERVAL: Duration = Duration::from_millis(200);
/// How often one or the other is asked while what they say is doubted.
const HURRY: Duration = Duration::from_millis(40);
/// For how long after the last doubt.
const DOUBT: Duration = Duration::from_secs(2);
/// How long a replica that is being promoted is believed to become the master.
const PROMOTION: Duration = Duration::from_secs(5);

/// The host and port of a server.
type Address = (String, u16);

/// Sentinels, and the master that they watch.
pub(super) struct Sentinels {
    pub(super) watchers: Arc<Watchers>,
    lookout: Lookout<Target>,
}

/// Who they are.
pub(super) struct Watchers {
    /// In the order in which they are asked.
    pub(super) sentinels: Vec<Target>,
    /// What they call their master.
    pub(super) name: String,
    /// How to get there, but for the place.
    pub(super) master: Target,
}

impl Sentinels {
    /// Sentinels that nobody has asked yet.
    pub(super) fn new(watchers: Watchers) -> Self {
        Self { watchers: Arc::new(watchers), lookout: Lookout::new() }
    }

    fn news(&self) -> tokio::sync::watch::Receiver<News<Target>> {
        let watchers = Arc::clone(&self.watchers);
        self.lookout.news(|tell, doubt| Watch::new(watchers, tell, doubt).run())
    }

    /// The master, as far as is known.
    ///
    /// # Errors
    /// What each of them says instead.
    pub(super) async fn master(&self) -> Result<Arc<Target>, Error> {
        Lookout::found(&mut self.news()).await
    }

    /// The master that they have named last.
    pub(super) fn known(&self) -> Option<Arc<Target>> {
        match &*self.news().borrow() {
            News::Found(master) => Some(Arc::clone(master)),
            News::None | News::Not(_) => None,
        }
    }

    /// Returns when the master is another one than `known`.
    pub(super) async fn moved(&self, known: Option<&Arc<Target>>) {
        loop {
            let mut news = self.news();
            loop {
                if let News::Found(master) = &*news.borrow_and_update()
                    && known.is_none_or(|known| !Arc::ptr_eq(known, master))
                {
                    return;
                }
                if news.changed().await.is_err() {
                    break;
                }
            }
        }
    }

    /// The master could not be reached, or was none: what they say is to be asked again.
    pub(super) fn doubt(&self) {
        self.lookout.doubt();
    }
}

/// What a Sentinel said that helps nobody.
pub(super) enum Mute {
    /// There is no connection, or no answer.
    Away(Failure),
    /// It won't say.
    Refused(Said),
    /// It watches no master of that name.
    Unknown,
}

impl Mute {
    fn at(self, watchers: &Watchers, sentinel: &Target) -> String {
        let place = &sentinel.place;
        match self {
            Self::Away(failure) => failure.at(place).detail,
            Self::Refused(said) => format!("{place}: {} {}", said.code, said.detail),
            Self::Unknown => format!("{place}: it knows no master {:?}", watchers.name),
        }
    }
}

impl Watchers {
    /// Where a Sentinel says that the master is.
    ///
    /// # Errors
    /// What it says instead.
    pub(super) async fn ask(&self, sentinel: &mut Dialogue) -> Result<Address, Mute> {
        let answer =
            sentinel.ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", &self.name]).await.map_err(Mute::Away)?;
        if let Some(said) = Said::of(&answer) {
            return Err(Mute::Refused(said));
        }
        match from_redis_value_ref::<Option<Address>>(&answer) {
            Ok(Some(address)) => Ok(address),
            Ok(None) => Err(Mute::Unknown),
            Err(_) => Err(Mute::Away(Failure::Lost("its answer is none of a Sentinel".to_owned()))),
        }
    }

    /// The epoch of the failover that made the master what it is, as far as a Sentinel knows; 0 if it won't tell.
    ///
    /// It is asked after the address: a failover between the two makes the older address pass for a new one, until the
    /// next answer, and not the new one for an older.
    async fn epoch(&self, sentinel: &mut Dialogue) -> Result<u64, Mute> {
        let answer = sentinel.ask(&["SENTINEL", "MASTER", &self.name]).await.map_err(Mute::Away)?;
        // Its address there is the old one's for as long as a failover lasts.
        let told: BTreeMap<String, String> = from_redis_value_ref(&answer).unwrap_or_default();
        Ok(told.get("config-epoch").and_then(|epoch| epoch.parse().ok()).unwrap_or(0))
    }

    /// The replica that a Sentinel is making the master.
    async fn promoted(&self, sentinel: &mut Dialogue) -> Result<Option<Address>, Mute> {
        let answer = sentinel.ask(&["SENTINEL", "REPLICAS", &self.name]).await.map_err(Mute::Away)?;
        // What it won't tell, or only in other words, is told later.
        let replicas: Vec<BTreeMap<String, String>> = from_redis_value_ref(&answer).unwrap_or_default();
        let promoted = replicas.into_iter().find(|replica| {
            replica.get("flags").is_some_and(|flags| flags.split(',').any(|flag| flag == "promoted"))
        });
        Ok(promoted
            .and_then(|replica| Some((replica.get("ip")?.clone(), replica.get("port")?.parse().ok()?))))
    }
}

/// The task that asks.
struct Watch {
    watchers: Arc<Watchers>,
    tell: Teller<Target>,
    doubt: Arc<Notify>,
    /// When what they say was doubted last.
    doubted: Option<Stopwatch>,
    /// The master that was named when a replica was being promoted, that one, and when.
    promotion: Option<(Address, Address, Stopwatch)>,
    /// The epoch that a master must be named with to be believed: the highest so far.
    epoch: u64,
    outdated: Outdated,
}

/// Sentinels, one after another, none of which has named a master that is to be believed.
#[derive(Default)]
struct Outdated {
    /// So many.
    asked: usize,
    /// The highest epoch that one of them knows.
    epoch: Option<u64>,
    /// One of them has said nothing.
    silent: bool,
    /// Somebody has doubted what is known meanwhile.
    doubted: bool,
}

impl Watch {
    fn new(watchers: Arc<Watchers>, tell: Teller<Target>, doubt: Arc<Notify>) -> Self {
        let outdated = Outdated::default();
        Self { watchers, tell, doubt, doubted: None, promotion: None, epoch: 0, outdated }
    }

    fn is_doubted(&self) -> bool {
        self.doubted.as_ref().is_some_and(|since| since.elapsed() < DOUBT)
    }

    /// Waits before somebody is asked again; says whether there was a doubt meanwhile.
    async fn pause(&mut self, hurried: bool) -> bool {
        let rest = if hurried {
            sleep(jittered(HURRY)).await;
            Duration::ZERO
        } else {
            jittered(INTERVAL)
        };
        let doubted = timeout(rest, self.doubt.notified()).await.is_ok();
        if doubted {
            self.doubted = Some(Stopwatch::start());
        }
        doubted
    }

    /// What one Sentinel says now; `None` if it is not to be believed.
    async fn ask(&mut self, sentinel: &mut Dialogue) -> Result<Option<Address>, Mute> {
        let named = self.watchers.ask(sentinel).await?;
        let epoch = self.watchers.epoch(sentinel).await?;
        if epoch < self.epoch {
            self.outdated.epoch = self.outdated.epoch.max(Some(epoch));
            return Ok(None);
        }
        (self.epoch, self.outdated) = (epoch, Outdated::default());
        self.promotion.take_if(|(before, _, since)| *before != named || since.elapsed() > PROMOTION);
        if self.promotion.is_none()
            && self.is_doubted()
            && let Some(promoted) = self.watchers.promoted(sentinel).await?
            && promoted != named
        {
            self.promotion = Some((named.clone(), promoted, Stopwatch::start()));
        }
        Ok(Some(self.promotion.as_ref().map_or(named, |(_, promoted, _)| promoted.clone())))
    }

    /// Goes by what one Sentinel says for as long as it says something that is to be believed, and nobody doubts it;
    /// says whether it was to be believed.
    ///
    /// # Errors
    /// Why it says nothing.
    async fn follow(&mut self, sentinel: &mut Dialogue) -> Result<bool, Mute> {
        loop {
            let Some((host, port)) = self.ask(sentinel).await? else {
                let doubted = self.pause(self.is_doubted()).await;
                self.outdated.doubted |= doubted;
                return Ok(false);
            };
            let same = |before: &Target, _: &Target| before.is_at(&host, port);
            let told = self.tell.found(self.watchers.master.at(&host, port), same);
            if told {
                info!(master = %format_args!("{host}:{port}"), "the Sentinels have named their master");
            }
            let hurried = !told && self.is_doubted();
            if self.pause(hurried).await || hurried {
                return Ok(true);
            }
        }
    }

    /// Leaves a Sentinel that has named no master that is to be believed, or none at all. After a round of such the best
    /// that is named is.
    fn pass_over(&mut self, silent: bool) {
        self.outdated.asked += 1;
        self.outdated.silent |= silent;
        if self.outdated.asked < self.watchers.sentinels.len() {
            return;
        }
        let Outdated { epoch, silent, doubted, .. } = mem::take(&mut self.outdated);
        if let Some(epoch) = epoch
            && (doubted || !silent)
        {
            warn!(known = self.epoch, named = epoch, "no Sentinel knows of the last failover any longer");
            self.epoch = epoch;
        }
    }

    /// Asks one after another for ever.
    async fn run(mut self) {
        let watchers = Arc::clone(&self.watchers);
        let mut open: Vec<Option<Dialogue>> = watchers.sentinels.iter().map(|_| None).collect();
        let (mut failures, mut away) = (Vec::new(), false);
        for (n, sentinel) in watchers.sentinels.iter().enumerate().cycle() {
            let dialogue = match open[n].take() {
                Some(dialogue) => Ok(dialogue),
                None => Dialogue::with(sentinel, PATIENCE).await.map_err(Mute::Away),
            };
            let followed = match dialogue {
                Ok(mut dialogue) => self.follow(&mut dialogue).await.inspect(|_| open[n] = Some(dialogue)),
                Err(mute) => Err(mute),
            };
            if !matches!(followed, Ok(true)) {
                self.pass_over(followed.is_err());
            }
            match followed {
                Ok(_) => {
                    failures.clear();
                    away = false;
                }
                Err(mute) => failures.push(mute.at(&watchers, sentinel)),
            }
            if failures.len() == watchers.sentinels.len() {
                let what = format!("no Sentinel says where {:?} is: {}", watchers.name, failures.join("; "));
                if !away {
                    warn!("{what}; go on asking");
                }
                away = true;
                self.tell.not(Error::new(Kind::Unreachable, what));
                failures.clear();
                sleep(jittered(INTERVAL)).await;
            }
        }
    }
}

/// Makes sure that a server is a master: a Sentinel may be slow to learn that it is not.
///
/// # Errors
/// What it is instead.
pub(super) fn is_master(place: &dyn fmt::Display, answer: &Value) -> Result<(), Error> {
    if let Some(said) = Said::of(answer) {
        return Err(said.into());
    }
    match role(answer).as_deref() {
        Some("master") => Ok(()),
        _ => Err(Error::new(Kind::ReadOnly, format!("{place}, which the Sentinels name, is no master"))),
    }
}

/// What `ROLE` says first.
pub(super) fn role(answer: &Value) -> Option<String> {
    match answer {
        Value::Array(parts) => parts.first().and_then(|role| from_redis_value_ref(role).ok()),
        _ => None,
    }
}
