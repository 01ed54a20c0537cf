//! The end of a client's connection: what is still to be said, and to whom.

use http::StatusCode;
use hyper::server::conn::http1::Parts;
use tokio::net::TcpStream;
use tracing::debug;

use super::error::{Error, Kind};
use super::muted::Stage;
use super::visit::{Socket, Visitor, note};
use super::{Client, head, reply};
use crate::telemetry::metrics::{Limit, Raised};

/// Why a connection ended, other than in good order.
#[derive(Debug, thiserror::Error)]
pub enum Over {
    /// hyper says why.
    #[error("{0}")]
    Broke(hyper::Error),
    /// The client took nothing of its response, or next to nothing.
    #[error("it took too little of its response")]
    Stuck,
    /// The client sent nothing, or next to nothing.
    #[error("it sent too little")]
    Late,
}

/// Says what is still to be said. Where the client may be sending still it is to read that, or the response that it
/// got: its socket is returned, and what is held for as long as there is one.
pub(super) fn part(
    parts: Parts<Socket, Visitor>,
    ended: Result<(), Over>,
    stage: Stage,
    // The last one, so that it is dropped first: never are more counted than there are places.
    raised: Raised,
) -> Option<(TcpStream, impl Sized)> {
    let apology = match ended {
        Ok(()) if parts.service.0.turns.owe() => None,
        Ok(()) => return None,
        Err(over) => Some(apology(&over, stage, &parts)?),
    };
    let (socket, seat) = parts.io.into_inner().into_parts();
    let stream = socket.into_inner();
    if let Some(text) = apology {
        // Whoever has not read a first answer gets no time for it.
        stream.try_write(text.as_bytes()).ok()?;
    }
    Some((stream, (raised, seat, parts.service)))
}

/// What a client is told whose head is not waited for any longer, or is none; nothing where it had its answer, or is gone.
fn apology(over: &Over, stage: Stage, parts: &Parts<Socket, Visitor>) -> Option<String> {
    let Client { proxy, ids, .. } = &*parts.service.0;
    let (rules, metrics) = (proxy.rules.load(), &proxy.metrics);
    let (limit, error) = match (over, parts.io.said()) {
        (Over::Broke(_), Some(StatusCode::URI_TOO_LONG | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)) => {
            let (error, limit) = head::excess(&parts.read_buf, &rules.limits);
            (Some(limit), Some(error))
        }
        // hyper says what it could not parse, and nothing of what stands there.
        (Over::Broke(why), Some(_)) => (None, Some(Error::new(Kind::BadRequest).saying(why.to_string()))),
        (Over::Broke(_), None) => (None, None),
        (Over::Stuck, _) => (Some(Limit::BodyTimeout), None),
        (Over::Late, _) if stage == Stage::Busy => (Some(Limit::BodyTimeout), None),
        (Over::Late, _) if parts.read_buf.is_empty() => (Some(Limit::IdleTimeout), None),
        (Over::Late, _) => (Some(Limit::HeaderTimeout), Some(Error::new(Kind::Timeout))),
    };
    limit.into_iter().for_each(|limit| metrics.limit(limit));
    let Some(error) = error else {
        debug!("a connection with a client ended: {over}");
        return None;
    };
    let (id, now) = (ids.next(), proxy.clock.now());
    note(&error, &id, &rules);
    Some(reply::text(&error, &id, now))
}
