//! A task that finds out where the servers are, and goes on looking for as long as somebody may want to know.
//!
//! It is one for all workers: what it says moves them all at once, and servers are asked once, not once a worker.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::store::{Error, Kind};

/// What has been found out.
pub(super) enum News<T> {
    /// Nothing so far: it is looked for the first time.
    None,
    /// This, the last time that anybody answered.
    Found(Arc<T>),
    /// Why nothing ever was.
    Not(Error),
}

impl<T> Clone for News<T> {
    fn clone(&self) -> Self {
        match self {
            Self::None => Self::None,
            Self::Found(found) => Self::Found(Arc::clone(found)),
            Self::Not(error) => Self::Not(error.clone()),
        }
    }
}

/// Where a task tells what it finds.
pub(super) struct Teller<T>(watch::Sender<News<T>>);

impl<T> Teller<T> {
    /// Tells what was found, where it differs from what was found before by `same`; says whether it does.
    pub(super) fn found(&self, found: T, same: impl Fn(&T, &T) -> bool) -> bool {
        self.0.send_if_modified(|news| {
            let known = matches!(news, News::Found(before) if same(before, &found));
            if !known {
                *news = News::Found(Arc::new(found));
            }
            !known
        })
    }

    /// What was found last.
    pub(super) fn known(&self) -> Option<Arc<T>> {
        match &*self.0.borrow() {
            News::Found(known) => Some(Arc::clone(known)),
            News::None | News::Not(_) => None,
        }
    }

    /// Tells that nothing was found. What was found earlier stays: servers are where they are, whoever is away.
    pub(super) fn not(&self, error: Error) {
        self.0.send_if_modified(|news| {
            let known = matches!(news, News::Found(_));
            if !known {
                *news = News::Not(error);
            }
            !known
        });
    }
}

/// The task, and what it says.
pub(super) struct Lookout<T> {
    doubt: Arc<Notify>,
    task: Mutex<Option<Task<T>>>,
}

/// The task, and where it tells.
type Task<T> = (watch::Receiver<News<T>>, JoinHandle<()>);

impl<T: Send + Sync + 'static> Lookout<T> {
    pub(super) fn new() -> Self {
        Self { doubt: Arc::new(Notify::new()), task: Mutex::new(None) }
    }

    /// What the task says. It is begun when it is first asked, and anew when its runtime has taken it along.
    pub(super) fn news<F>(&self, look: impl FnOnce(Teller<T>, Arc<Notify>) -> F) -> watch::Receiver<News<T>>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        match &*task {
            Some((news, running)) if !running.is_finished() => news.clone(),
            before => {
                // What was known before is no worse than nothing.
                let known = before.as_ref().map_or(News::None, |(news, _)| news.borrow().clone());
                let (tell, news) = watch::channel(known);
                let running = tokio::spawn(look(Teller(tell), Arc::clone(&self.doubt)));
                *task = Some((news.clone(), running));
                news
            }
        }
    }

    /// What was found last, or will be found first.
    ///
    /// # Errors
    /// Why nothing was.
    pub(super) async fn found(news: &mut watch::Receiver<News<T>>) -> Result<Arc<T>, Error> {
        loop {
            match &*news.borrow_and_update() {
                News::Found(found) => return Ok(Arc::clone(found)),
                News::Not(error) => return Err(error.clone()),
                News::None => {}
            }
            if news.changed().await.is_err() {
                return Err(Error::new(Kind::Unreachable, "the connection to Redis is being closed"));
            }
        }
    }

    /// What it says does not seem to be so: it is to look again, at once.
    pub(super) fn doubt(&self) {
        self.doubt.notify_one();
    }
}

impl<T> Drop for Lookout<T> {
    fn drop(&mut self) {
        let task = self.task.get_mut().unwrap_or_else(PoisonError::into_inner);
        task.iter().for_each(|(_, running)| running.abort());
    }
}
