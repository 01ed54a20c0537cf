//! The backend: its connections, and the requests that go over them.
//!
//! A connection is driven by the exchange that uses it, in that exchange's own task: no task of its own, no channel
//! and no wake-up stand between a request and its response.

mod address;
mod answer;
mod connection;
pub mod decoder;
pub mod head;
mod owner;
mod pool;
mod sending;
mod stream;

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use tokio::time::timeout;

pub use self::address::Address;
pub use self::answer::Answer;
pub use self::connection::Connection;
use self::head::Head;
pub use self::owner::Owner;
use self::owner::{Home, is_claimed, is_offered};
use self::pool::Pool;
use self::sending::{Broken, Sending};
use super::body::{Body, Customs, Cut, Upload};
use super::error::{Error, Kind};
use super::room::{Room, Seat};
use super::timer::{Alarm, Elapsed, Wheel};
use super::{Caller, Client, Rules, check};
use crate::drain::Drain;
use crate::telemetry::metrics::{BackendError, Limit, Metrics};

/// What an exchange with the backend goes by.
#[derive(Clone)]
pub struct Terms {
    /// `proxy.connect_timeout`.
    pub connect_timeout: Duration,
    /// `proxy.head_timeout`.
    pub head_timeout: Duration,
    /// `proxy.backend_idle_timeout`.
    pub idle_timeout: Duration,
    /// `proxy.backend_max_age`; zero where there is no limit.
    pub max_age: Duration,
    /// What trailers must get past.
    pub customs: Customs,
}

/// The backend as one worker sees it.
pub struct Backend {
    address: Address,
    pool: Arc<Pool>,
    metrics: Arc<Metrics>,
    drain: Drain,
}

/// How sending a request ended that got no response.
enum Failed {
    /// The connection ended, and nothing had been answered.
    Unanswered(io::Error),
    /// The connection ended in the head of the response.
    Broken(io::Error),
    /// What came is no response.
    Protocol(&'static str),
    /// The client broke its request off, or its body is too long.
    Client(Cut),
    /// It took too long.
    Late,
}

impl Backend {
    /// A backend without a connection yet.
    pub fn new(address: Address, wheel: Wheel, room: Room, metrics: Arc<Metrics>, drain: Drain) -> Self {
        Self { address, pool: Pool::new(wheel, room), metrics, drain }
    }

    /// What stands in `Host` where a client sends none.
    pub fn host(&self) -> HeaderValue {
        self.address.host()
    }

    /// Closes connections that are kept for nobody.
    pub fn close_idle(&self, terms: &Terms) {
        self.pool.close_idle(terms);
    }

    /// Closes connections that nobody uses, for those who wait to open one, be they other workers.
    pub fn make_room(&self) {
        self.pool.make_room();
    }

    /// Sends `head` and the `upload` behind it, and waits for the head of the response; its body streams on behind that.
    ///
    /// A kept connection may close just when it is used again. A request that nothing was answered to, and whose body
    /// is untouched, is then sent once more, over a new connection: whatever its method if nothing of it was sent, else
    /// if doing it twice does what doing it once does (RFC 9110 §9.2.2).
    ///
    /// A request that asks for another protocol has a connection of its own, and a client that authenticates
    /// connections has one for all of its requests. [`Client::begun`]
    /// is told when there is a connection for the request to go over. The response's headers are put into `spare`, which
    /// is empty and has room.
    ///
    /// # Errors
    /// [`Kind::Backend`], or [`Kind::Body`] and [`Kind::Timeout`] where the client broke its request off.
    pub async fn forward(
        &self,
        head: Vec<u8>,
        method: &Method,
        upload: Option<Box<Upload>>,
        caller: &Caller,
        asked: Option<&HeaderValue>,
        spare: &mut HeaderMap,
    ) -> Result<Response<Body>, Error> {
        let (rules, client) = (&*caller.rules, &*caller.client);
        let terms = &rules.terms;
        let mut sending = Sending::new(head, upload);
        let mut kept = match client.owner.get() {
            Some(owner) => owner.take(terms),
            None if asked.is_none() => self.pool.take(terms),
            None => None,
        };
        loop {
            let fresh = kept.is_none();
            let mut connection = match kept.take() {
                Some(connection) => connection,
                None => Box::pin(self.connect(rules)).await?,
            };
            client.begun.begin();
            let answered = self.ask(&mut connection, &mut sending, method, spare, terms, &client.alarm).await;
            let waits = sending.waits_for_the_client();
            let failed = match answered {
                Ok((head, sent)) => {
                    sending.answered();
                    if is_offered(&head.response) {
                        self.own(client);
                    }
                    let home = match client.owner.get() {
                        Some(owner) => Some(Home::Own(owner.clone())),
                        None if asked.is_none() => Some(Home::Shared(self.pool.clone())),
                        None => None,
                    };
                    return self.answer(connection, head, (!sent).then_some(sending), terms, asked, home);
                }
                Err(failed) => failed,
            };
            let again = !fresh
                && matches!(failed, Failed::Unanswered(_))
                && (method.is_idempotent() || !sending.has_begun())
                && sending.begin_again();
            if !again {
                return Err(self.blame(failed, waits));
            }
        }
    }

    /// Sends a request and waits for the head of its response; says whether all was sent by then.
    async fn ask(
        &self,
        connection: &mut Connection,
        sending: &mut Sending,
        method: &Method,
        spare: &mut HeaderMap,
        terms: &Terms,
        alarm: &Alarm,
    ) -> Result<(Head, bool), Failed> {
        let (mut sent, mut lost, mut answered) = (false, None, false);
        let asked = std::future::poll_fn(|cx| {
            if !sent && lost.is_none() {
                match sending.poll(cx, connection) {
                    Poll::Pending => {}
                    Poll::Ready(Ok(())) => sent = true,
                    Poll::Ready(Err(Broken::Client(error))) => {
                        return Poll::Ready(Err(Failed::Client(error)));
                    }
                    // It may have said why before it closed.
                    Poll::Ready(Err(Broken::Backend(error))) => lost = Some(error),
                }
            }
            self.poll_head(cx, connection, method, spare, &mut answered).map_err(|failed| {
                match (failed, lost.take()) {
                    (Failed::Unanswered(_), Some(error)) => Failed::Unanswered(error),
                    (failed, _) => failed,
                }
            })
        });
        let head = alarm.limit(terms.head_timeout, asked).await.map_err(|Elapsed| Failed::Late)??;
        Ok((head, sent))
    }

    fn poll_head(
        &self,
        cx: &mut Context<'_>,
        connection: &mut Connection,
        method: &Method,
        spare: &mut HeaderMap,
        answered: &mut bool,
    ) -> Poll<Result<Head, Failed>> {
        loop {
            match head::take(&mut connection.inbox, method, spare).map_err(Failed::Protocol)? {
                // hyper's server can't pass them on.
                Some(head) if is_interim(head.response.status()) => {
                    self.metrics.interim_dropped.inc();
                    *answered = true;
                    continue;
                }
                Some(head) => return Poll::Ready(Ok(head)),
                None => {}
            }
            *answered |= !connection.inbox.is_empty();
            let read = std::task::ready!(connection.poll_fill(cx, 0));
            let ended = match read {
                Ok(0) => io::ErrorKind::UnexpectedEof.into(),
                Ok(_) => continue,
                Err(error) => error,
            };
            let failed = if *answered { Failed::Broken(ended) } else { Failed::Unanswered(ended) };
            return Poll::Ready(Err(failed));
        }
    }

    /// Makes a response of a head and what follows it.
    fn answer(
        &self,
        connection: Box<Connection>,
        head: Head,
        sending: Option<Sending>,
        terms: &Terms,
        asked: Option<&HeaderValue>,
        home: Option<Home>,
    ) -> Result<Response<Body>, Error> {
        if head.response.status() == StatusCode::SWITCHING_PROTOCOLS {
            check::switch(&head.response, asked)
                .inspect_err(|_| self.metrics.backend_error(BackendError::Protocol))?;
            return Ok(head.response.map(|()| Body::switched(connection)));
        }
        let home = home.filter(|_| head.kept);
        let sending = sending.map(|sending| (sending, self.drain.guard()));
        let answer = Answer::new(connection, head.decoder, sending, home, terms.head_timeout);
        Ok(head.response.map(|()| Body::streamed(answer, terms.customs.clone())))
    }

    /// Gives a client a connection of its own if it authenticates connections, as these headers of its request say.
    pub fn claim(&self, client: &Client, headers: &HeaderMap) {
        if is_claimed(headers) {
            self.own(client);
        }
    }

    fn own(&self, client: &Client) {
        client.owner.get_or_init(|| Owner::new(&self.pool, self.metrics.private_client()));
    }

    fn blame(&self, failed: Failed, waits_for_the_client: bool) -> Error {
        let backend = |kind| {
            self.metrics.backend_error(kind);
            Error::new(Kind::Backend(kind))
        };
        match failed {
            Failed::Client(Cut::TooLarge) => Error::new(Kind::BodyTooLarge),
            Failed::Client(error) => Error::new(Kind::Body).because(error),
            // The backend is not waited for while the rest of the request is still to come.
            Failed::Late if waits_for_the_client => Error::new(Kind::Timeout),
            Failed::Late => backend(BackendError::HeadTimeout),
            Failed::Protocol(what) => backend(BackendError::Protocol).because(what),
            Failed::Unanswered(error) | Failed::Broken(error) => backend(BackendError::Reset).because(error),
        }
    }

    /// A place for a connection, as soon as there is one.
    async fn place(&self, rules: &Rules) -> Result<Seat, Error> {
        let (room, places) = (&self.pool.room, rules.limits.backend_connections);
        if let Some(seat) = room.enter(places) {
            return Ok(seat);
        }
        self.metrics.limit(Limit::BackendConnections);
        timeout(rules.terms.connect_timeout, room.wait(places)).await.map_err(|_| {
            self.metrics.backend_error(BackendError::Busy);
            Error::new(Kind::Backend(BackendError::Busy))
        })
    }

    async fn connect(&self, rules: &Rules) -> Result<Box<Connection>, Error> {
        let refuse = |kind, source: io::Error| {
            self.metrics.backend_error(kind);
            Error::new(Kind::Backend(kind)).because(source)
        };
        let seat = self.place(rules).await?;
        let stream = match timeout(rules.terms.connect_timeout, stream::dial(&self.address)).await {
            Ok(dialled) => dialled.map_err(|error| refuse(BackendError::Connect, error))?,
            Err(_) => return Err(refuse(BackendError::ConnectTimeout, io::ErrorKind::TimedOut.into())),
        };
        let place = (seat, self.metrics.backend_connection());
        Ok(Box::new(Connection::new(stream, self.pool.now(), place)))
    }
}

fn is_interim(status: StatusCode) -> bool {
    status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS
}
