//! A connection: calls behind one another, and an answer to each in that order.
//!
//! Each call has a number, which its answer repeats: one that is out of order ends the connection and reaches nobody.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{mpsc, oneshot};

use super::answer::{self, Answer, Reply};
use super::numbers::Numbers;
use crate::store::link::Driver;

/// Calls that may wait to be written; more wait for a place among them.
const PIPELINE: usize = 1024;
/// Calls that are written at once.
const BATCH: usize = 64;
/// Bytes that are kept to write into; what a large record took is given back.
const KEPT: usize = 64 * 1024;
/// Bytes that are read at once at least, where so many are there.
const PIECE: usize = 4096;
/// Bytes around a value in an answer at most.
const AROUND: usize = 1024;

/// What calls are made by; clones are the same one.
#[derive(Clone)]
pub(super) struct Connection(Arc<Inner>);

struct Inner {
    calls: mpsc::Sender<Call>,
    largest: usize,
    numbers: Mutex<Numbers>,
}

/// A command of the meta protocol.
pub(super) struct Command {
    /// Its line, to which the number of the call is added.
    pub(super) line: String,
    /// What is to be stored, if it stores.
    pub(super) value: Option<Vec<u8>>,
}

/// A call, and who waits for its answer.
struct Call {
    command: Command,
    caller: Caller,
}

type Caller = oneshot::Sender<Result<Answer, Lost>>;

/// Why there is no answer.
#[derive(Clone, Debug)]
pub(super) enum Lost {
    /// The call was not sent: the connection was gone by then.
    Unsent,
    /// It was, and nobody knows what became of it.
    Midway(String),
}

impl Connection {
    /// A connection over a stream on which all that was said has been answered, and what drives it. The server takes
    /// no items that are larger than `largest` bytes.
    pub(super) fn over(
        stream: impl AsyncRead + AsyncWrite + Send + 'static,
        largest: usize,
    ) -> (Self, Driver) {
        let (calls, receiver) = mpsc::channel(PIPELINE);
        let driver = Box::pin(drive(stream, receiver, largest.saturating_add(AROUND)));
        (Self(Arc::new(Inner { calls, largest, numbers: Mutex::new(Numbers::new()) })), driver)
    }

    /// Bytes of an item at most, its key and what the server adds included.
    pub(super) fn largest(&self) -> usize {
        self.0.largest
    }

    /// The CAS numbers that came by this connection.
    pub(super) fn numbers(&self) -> MutexGuard<'_, Numbers> {
        self.0.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a call and returns its answer. Whoever leaves before it is written takes it back.
    ///
    /// # Errors
    /// If the connection was lost.
    pub(super) async fn call(&self, command: Command) -> Result<Answer, Lost> {
        let (caller, answer) = oneshot::channel();
        self.0.calls.send(Call { command, caller }).await.map_err(|_| Lost::Unsent)?;
        answer.await.unwrap_or_else(|_| Err(Lost::Midway("it is being closed".to_owned())))
    }
}

/// Those who wait for an answer, the first one first.
#[derive(Default)]
struct Queue(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    callers: VecDeque<(u64, Caller)>,
    /// Nobody will call any more.
    last: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Carries calls and answers until the connection is lost, or nobody is left who could call or waits.
async fn drive(stream: impl AsyncRead + AsyncWrite + Send, mut calls: mpsc::Receiver<Call>, largest: usize) {
    let (from, to) = tokio::io::split(stream);
    let queue = Queue::default();
    let why = tokio::select! {
        why = write(to, &mut calls, &queue) => why,
        why = read(from, &queue, largest) => why,
    };
    for (_, caller) in std::mem::take(&mut queue.lock().callers) {
        drop(caller.send(Err(Lost::Midway(why.clone()))));
    }
    calls.close();
    while let Ok(call) = calls.try_recv() {
        drop(call.caller.send(Err(Lost::Unsent)));
    }
}

/// Writes calls as they come; returns why it can't.
async fn write(mut to: impl AsyncWrite + Unpin, calls: &mut mpsc::Receiver<Call>, queue: &Queue) -> String {
    let (mut batch, mut buffer, mut number) = (Vec::new(), Vec::new(), 0);
    while calls.recv_many(&mut batch, BATCH).await > 0 {
        for Call { command, caller } in batch.drain(..).filter(|call| !call.caller.is_closed()) {
            number += 1;
            buffer.extend_from_slice(format!("{} O{number}\r\n", command.line).as_bytes());
            if let Some(value) = command.value {
                buffer.extend_from_slice(&value);
                buffer.extend_from_slice(b"\r\n");
            }
            queue.lock().callers.push_back((number, caller));
        }
        let written = async {
            to.write_all(&buffer).await?;
            to.flush().await
        };
        if let Err(error) = written.await {
            return error.to_string();
        }
        buffer.clear();
        buffer.shrink_to(KEPT);
    }
    let waiting = {
        let mut queue = queue.lock();
        queue.last = true;
        !queue.callers.is_empty()
    };
    if waiting {
        // Whoever reads goes on until they have their answers.
        std::future::pending::<()>().await;
    }
    "nobody needs it any longer".to_owned()
}

/// Reads answers and gives each to its caller; returns why it can't.
async fn read(mut from: impl AsyncRead + Unpin, queue: &Queue, largest: usize) -> String {
    let mut buffer = BytesMut::new();
    loop {
        let reply = match answer::take(&mut buffer, largest) {
            Ok(Some(reply)) => reply,
            Ok(None) => {
                buffer.reserve(PIECE);
                match from.read_buf(&mut buffer).await {
                    Ok(0) => return "it hung up".to_owned(),
                    Ok(_) => continue,
                    Err(error) => return error.to_string(),
                }
            }
            // It is not quoted: whatever listens there may repeat what it was sent.
            Err(answer::Unreadable) => return "what came can't be read".to_owned(),
        };
        let (caller, last) = {
            let mut queue = queue.lock();
            let next = queue.callers.pop_front_if(|(number, _)| reply.is_to(*number));
            (next, queue.last && queue.callers.is_empty())
        };
        let Reply { answer, .. } = reply;
        let ends = match &answer {
            Answer::Said(said) if !said.is_whole() => Some(said.text().to_owned()),
            _ => None,
        };
        let Some((_, caller)) = caller else {
            return ends.unwrap_or_else(|| "it answered what was not asked".to_owned());
        };
        drop(caller.send(Ok(answer)));
        if let Some(said) = ends {
            return format!("it said {said} to another call");
        }
        if last {
            return "nobody needs it any longer".to_owned();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{DuplexStream, duplex};
    use tokio::time::timeout;

    use super::*;

    /// A connection, its driver at work, and the server's side of it.
    fn connected() -> (Connection, DuplexStream) {
        let (ours, theirs) = duplex(1024);
        let (connection, driver) = Connection::over(ours, 1024);
        tokio::spawn(driver);
        (connection, theirs)
    }

    /// Reads so many bytes, and says them.
    async fn heard(server: &mut DuplexStream, length: usize) -> String {
        let mut bytes = vec![0; length];
        server.read_exact(&mut bytes).await.unwrap();
        String::from_utf8(bytes).unwrap()
    }

    async fn call(connection: &Connection, line: &str) -> Result<Answer, Lost> {
        connection.call(Command { line: line.to_owned(), value: None }).await
    }

    #[tokio::test]
    async fn an_answer_whose_caller_has_left_is_thrown_away_and_reaches_nobody_else() {
        let (connection, mut server) = connected();
        assert!(timeout(Duration::from_millis(20), call(&connection, "a")).await.is_err());
        assert_eq!(heard(&mut server, 6).await, "a O1\r\n");
        let other = async {
            assert_eq!(heard(&mut server, 6).await, "b O2\r\n");
            server.write_all(b"HD c1 O1\r\nHD c2 O2\r\n").await.unwrap();
        };
        let (answer, ()) = tokio::join!(call(&connection, "b"), other);
        assert_eq!(answer.unwrap(), Answer::Done { cas: 2 });
    }

    #[tokio::test]
    async fn an_answer_out_of_order_ends_the_connection_and_reaches_nobody() {
        let (connection, mut server) = connected();
        let say = async {
            heard(&mut server, 12).await;
            server.write_all(b"HD c2 O2\r\nHD c1 O1\r\n").await.unwrap();
        };
        let (first, second, ()) = tokio::join!(call(&connection, "a"), call(&connection, "b"), say);
        for answer in [first, second] {
            assert!(matches!(answer, Err(Lost::Midway(_))), "{answer:?}");
        }
    }

    #[tokio::test]
    async fn an_error_that_may_not_be_all_ends_the_connection() {
        let (connection, mut server) = connected();
        let say = async {
            heard(&mut server, 12).await;
            server.write_all(b"CLIENT_ERROR bad data chunk\r\nERROR\r\n").await.unwrap();
        };
        let (first, second, ()) = tokio::join!(call(&connection, "a"), call(&connection, "b"), say);
        assert!(matches!(first, Ok(Answer::Said(_))), "{first:?}");
        assert!(matches!(second, Err(Lost::Midway(_))), "never the other line: {second:?}");
        assert!(matches!(call(&connection, "c").await, Err(Lost::Unsent)));
    }

    #[tokio::test]
    async fn an_answer_to_nothing_ends_the_connection() {
        let (connection, mut server) = connected();
        server.write_all(b"HD c1 O1\r\n").await.unwrap();
        assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
        assert!(matches!(call(&connection, "a").await, Err(Lost::Unsent)));
    }

    #[tokio::test]
    async fn those_in_flight_get_their_answers_when_nobody_calls_any_more() {
        let (connection, mut server) = connected();
        let mine = tokio::spawn({
            let connection = connection.clone();
            async move { call(&connection, "a").await }
        });
        drop(connection);
        heard(&mut server, 6).await;
        server.write_all(b"MN\r\n").await.unwrap();
        assert_eq!(mine.await.unwrap().unwrap(), Answer::Here);
        assert_eq!(server.read(&mut [0]).await.unwrap(), 0, "and then it is closed");
    }
}
