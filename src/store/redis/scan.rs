//! Which keys there are, server by server.
//!
//! A cursor of `SCAN` means something to the process that gave it and to nobody else: after a restart or a failover it
//! would leave keys out. So ours says which processes serve, and where they are others by now, or are when all has been
//! told, it begins again. A slot that is on its way from one server to another meanwhile may be missed: that is for
//! whoever moves it to avoid.

use redis::{Cmd, Value};

use super::call::Call;
use super::cluster::Links;
use super::topology::Address;
use super::{Route, answer, odd};
use crate::session::Key;
use crate::store::engine::{PAGE, Page};
use crate::store::{Error, Kind};

/// Where a listing goes on.
#[derive(Debug, PartialEq, Eq)]
struct Cursor {
    /// `run_id` of each process that serves.
    servers: String,
    /// The number of the server that is asked next, among those.
    server: usize,
    /// Its own cursor.
    cursor: u64,
}

impl Cursor {
    fn text(&self) -> String {
        format!("{}:{}:{}", self.servers, self.server, self.cursor)
    }

    fn read(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let servers = parts.next()?.to_owned();
        let (server, cursor) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        parts.next().is_none().then_some(Self { servers, server, cursor })
    }
}

/// A server to ask.
enum Server<'a> {
    Only(&'a super::Link),
    One(&'a Links, Address),
}

impl Server<'_> {
    async fn ask(&self, command: &Cmd) -> Result<Value, Error> {
        let call = Call { command, asking: false, wait: None };
        let answer = match self {
            Self::Only(link) => link.call(&call).await?,
            Self::One(links, address) => links.ask(address, &call).await?,
        };
        answer::value(answer)
    }

    /// What names its process.
    async fn run_id(&self) -> Result<String, Error> {
        let answer = self.ask(redis::cmd("INFO").arg("server")).await?;
        let text = match &answer {
            Value::BulkString(text) => String::from_utf8_lossy(text).into_owned(),
            Value::VerbatimString { text, .. } => text.clone(),
            other => return Err(odd(other)),
        };
        let id = text.lines().find_map(|line| line.strip_prefix("run_id:"));
        id.map(|id| id.trim().to_owned()).ok_or_else(|| odd(&answer))
    }
}

/// Tells some of the keys that begin with `prefix`.
pub(super) async fn scan(route: &Route, prefix: &[u8], after: Option<&str>) -> Result<Page, Error> {
    let servers: Vec<_> = match route {
        Route::One(link) => vec![Server::Only(link)],
        Route::Several(links) => {
            links.servers().await?.into_iter().map(|address| Server::One(links, address)).collect()
        }
    };
    let ids = run_ids(&servers).await?;
    let begin = |ids| Cursor { servers: ids, server: 0, cursor: 0 };
    let at = match after {
        None => begin(ids.clone()),
        Some(after) => {
            let at = Cursor::read(after).ok_or_else(|| {
                Error::new(Kind::Refused, format!("{after:?} is no cursor of Redis: begin again"))
            })?;
            if at.servers == ids { at } else { begin(ids.clone()) }
        }
    };
    let Some(server) = servers.get(at.server) else { return Ok(Page::default()) };
    let mut command = redis::cmd("SCAN");
    command.arg(at.cursor).arg("MATCH").arg(pattern(prefix)).arg("COUNT").arg(PAGE);
    let answer = server.ask(&command).await?;
    let Some((cursor, keys)) = read(&answer, prefix) else { return Err(odd(&answer)) };
    let server = at.server + usize::from(cursor == 0);
    let next = if server < servers.len() {
        Some(Cursor { servers: ids, server, cursor })
    } else {
        // Another process than the one that was asked first may have told this.
        let now = run_ids(&servers).await?;
        (now != ids).then(|| begin(now))
    };
    Ok(Page { keys, next: next.map(|next| next.text()) })
}

/// What names the processes of these servers.
async fn run_ids(servers: &[Server<'_>]) -> Result<String, Error> {
    let mut ids = Vec::new();
    for server in servers {
        ids.push(server.run_id().await?);
    }
    Ok(ids.join(","))
}

/// What matches all that begins with these bytes, and nothing else.
fn pattern(prefix: &[u8]) -> Vec<u8> {
    let mut pattern = Vec::with_capacity(prefix.len() + 1);
    for byte in prefix {
        if b"*?[]\\^-".contains(byte) {
            pattern.push(b'\\');
        }
        pattern.push(*byte);
    }
    pattern.push(b'*');
    pattern
}

/// The next cursor, and the keys that are ours.
fn read(answer: &Value, prefix: &[u8]) -> Option<(u64, Vec<Key>)> {
    let Value::Array(parts) = answer else { return None };
    let [Value::BulkString(cursor), Value::Array(names)] = &parts[..] else { return None };
    let cursor = std::str::from_utf8(cursor).ok()?.parse().ok()?;
    let key = |name: &Value| {
        let Value::BulkString(name) = name else { return None };
        Some(Key::from_bytes(name.strip_prefix(prefix)?.try_into().ok()?))
    };
    Some((cursor, names.iter().filter_map(key).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back() {
        let cursor = Cursor { servers: "a0,b1".to_owned(), server: 1, cursor: 17 };
        assert_eq!(Cursor::read(&cursor.text()), Some(cursor));
        for other in ["", "a", "a:1", "a:b:1", "a:1:1:1", "a:1:-1"] {
            assert_eq!(Cursor::read(other), None, "{other}");
        }
    }

    #[test]
    fn a_prefix_is_no_pattern() {
        assert_eq!(pattern(b"coat:"), b"coat:*");
        assert_eq!(pattern(b"a*b?[c]\\"), br"a\*b\?\[c\]\\*");
    }

    #[test]
    fn what_is_no_key_of_ours_is_left_out() {
        let names = ["coat:01234567890123456789", "coat:short", "coat:012345678901234567890", "other"];
        let names = names.map(|name| Value::BulkString(name.as_bytes().to_vec()));
        let answer = Value::Array(vec![Value::BulkString(b"42".to_vec()), Value::Array(names.to_vec())]);
        let key = Key::from_bytes(*b"01234567890123456789");
        assert_eq!(read(&answer, b"coat:"), Some((42, vec![key])));
        assert_eq!(read(&Value::Nil, b"coat:"), None);
    }
}
