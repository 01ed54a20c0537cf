//! What is asked of a contestant, and the proof that it really does it.

use std::net::SocketAddr;

use super::load::Measured;
use super::origin::{COUNTER, Dialect, MARKER};
use super::support::{Browser, Reply};

/// What the clients do. The names are those of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
#[clap(rename_all = "UPPER")]
pub enum Scenario {
    /// No cookie, 200 bytes come back.
    S0,
    /// No cookie, 100 KiB come back.
    S0L,
    /// A session is read, from where the proxy itself has it: memory, or the cookie.
    S1,
    /// A session is read from a server: Redis.
    S2,
    /// The backend changes one entry in each response, and it is saved before the client has its answer.
    S3,
}

impl Scenario {
    /// The path that is asked for.
    pub const fn path(self, dialect: Dialect) -> &'static str {
        match self {
            Self::S0 | Self::S1 | Self::S2 => "/small",
            Self::S0L => "/large",
            Self::S3 => dialect.write(),
        }
    }

    /// Do its requests carry a session?
    pub const fn has_session(self) -> bool {
        matches!(self, Self::S1 | Self::S2 | Self::S3)
    }

    /// Does a contestant do it right, one request after another?
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn check(self, address: SocketAddr, dialect: Dialect) -> Result<(), String> {
        let mut client = Browser::new(address);
        if !self.has_session() {
            let reply = client.get(self.path(dialect));
            let length = if self == Self::S0L { 100 * 1024 } else { 200 };
            return holds(
                reply.status == 200 && reply.body.len() == length,
                "the answer is not the backend's",
            );
        }
        let login = client.get(dialect.login());
        holds(login.status == 200 && !client.jar.is_empty(), "a login sets no cookie")?;
        holds(!has_directive(&login), "what the backend says to the proxy reaches the client")?;
        let session = session(&mut client);
        for entry in [MARKER, "Lovelace", "admin", "0123456789"] {
            holds(
                session.contains(entry),
                &format!("{entry} of the session does not reach the backend: {session}"),
            )?;
        }
        let stranger = Browser::new(address).get("/echo");
        holds(!text(&stranger).contains(MARKER), "a client without a cookie has a session")?;
        if self == Self::S3 {
            for _ in 0..3 {
                let counter = counter(&client.get(dialect.write()))?;
                let session = self::session(&mut client);
                holds(
                    session.contains(&counter),
                    &format!("the change to {counter} was not saved: {session}"),
                )?;
                holds(session.contains("Lovelace"), "a change has removed other entries")?;
            }
        }
        Ok(())
    }

    /// Was it done right under load? `seen` are the backend's requests, and those of them that carried a session.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn judge(self, address: SocketAddr, measured: &Measured, seen: (u64, u64)) -> Result<(), String> {
        holds(measured.requests > 0, "nothing was answered")?;
        if let Some(fault) =
            measured.faults.first().filter(|_| measured.faults.len() * 1000 > measured.requests)
        {
            return Err(format!("{} requests got no answer, one because {fault}", measured.faults.len()));
        }
        let (all, carried) = seen;
        if self.has_session() {
            holds(
                carried == all,
                &format!("{} of {all} requests came without their session", all - carried),
            )?;
        } else {
            holds(carried == 0, "requests without a cookie carried a session")?;
        }
        // What the last response of each connection said was saved is there.
        for (cookie, counter) in &measured.last {
            let mut client = Browser::new(address);
            let (name, value) = cookie.split_once('=').ok_or("a cookie without a value")?;
            client.jar.insert(name.to_owned(), value.to_owned());
            let session = session(&mut client);
            holds(session.contains(counter), &format!("the change to {counter} was lost: {session}"))?;
        }
        holds(self != Self::S3 || !measured.last.is_empty(), "nobody knows what was saved")
    }
}

/// The headers that the session came to the backend by.
fn session(client: &mut Browser) -> String {
    let reply = text(&client.get("/echo"));
    let ours = |line: &&str| line.to_ascii_lowercase().starts_with("x-session");
    reply.lines().filter(ours).collect::<Vec<_>>().join("\n")
}

fn text(reply: &Reply) -> String {
    String::from_utf8_lossy(&reply.body).into_owned()
}

fn has_directive(reply: &Reply) -> bool {
    reply.headers.iter().any(|(name, _)| name.starts_with("x-session") || name == "x-replace-session")
}

fn counter(reply: &Reply) -> Result<String, String> {
    let body = text(reply);
    let digits = body.strip_prefix(COUNTER).and_then(|rest| rest.get(..8));
    digits.map(str::to_owned).ok_or_else(|| format!("status {}, and no counter: {body}", reply.status))
}

fn holds(true_: bool, what: &str) -> Result<(), String> {
    if true_ { Ok(()) } else { Err(what.to_owned()) }
}
