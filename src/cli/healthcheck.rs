//! `coatroom healthcheck`: a probe for images that have no other program that could ask.

use std::env;
use std::fmt::Display;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{fail, print};
use crate::config::{Flag, Sources, address};
use crate::time::{Length, Stopwatch};

/// Bytes of an answer that are read at most; ours have fewer.
const MOST: usize = 16 * 1024;

#[derive(Args)]
#[command(
    after_help = "Of the settings only telemetry.listen counts, by the flag, by COATROOM__TELEMETRY__LISTEN or in \
    FILE; what else is wrong with them does not make a sidecar ill that serves."
)]
pub(super) struct Probe {
    /// The TOML file with the settings; without it none is read.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where probes are, such as 127.0.0.1:9400. Overrides telemetry.listen.
    #[arg(long, value_name = "ADDR")]
    telemetry_listen: Option<String>,
    /// Ask whether the process serves at all (/livez), not whether requests are welcome.
    #[arg(long, conflicts_with = "startup")]
    live: bool,
    /// Ask whether it has started (/startupz).
    #[arg(long)]
    startup: bool,
    /// What the answer may take: seconds, or a text such as 500ms.
    #[arg(long, value_name = "LENGTH", default_value = "2s", value_parser = Length::parse)]
    timeout: Length,
}

/// Asks the telemetry listener of the settings; exits with 0 if its answer is yes, and with 1 and a line that says why
/// if not: containers know no other codes.
pub(super) fn run(probe: &Probe) -> ExitCode {
    match probe.ask() {
        Ok(answer) => print(&format!("{answer}\n")),
        Err(why) => fail(why),
    }
}

impl Probe {
    /// What the listener says if it says yes, or else why not.
    fn ask(&self) -> Result<String, String> {
        let path = match (self.live, self.startup) {
            (true, _) => "/livez",
            (_, true) => "/startupz",
            _ => "/readyz",
        };
        let address = address::telemetry(&self.sources()).map_err(|problems| first(&problems))?;
        let address = reachable(address);
        if address.port() == 0 {
            return Err(format!("telemetry.listen is {address}, a port of the system's choice: name one"));
        }
        match ask(address, path, self.timeout) {
            Ok((200, body)) => Ok(first(body.lines())),
            Ok((status, body)) => Err(format!("{path} of {address} says {status}: {}", first(body.lines()))),
            Err(error) => Err(format!("{path} of {address} can't be asked: {error}")),
        }
    }

    fn sources(&self) -> Sources {
        let flag = |value| Flag { key: "telemetry.listen", name: "--telemetry-listen", value };
        Sources {
            file: self.config.clone(),
            environment: env::vars_os().collect(),
            flags: self.telemetry_listen.clone().map(flag).into_iter().collect(),
        }
    }
}

/// The first of several lines: a probe's log has one.
fn first(lines: impl IntoIterator<Item = impl Display>) -> String {
    lines.into_iter().next().map(|line| line.to_string()).unwrap_or_default()
}

/// Who listens everywhere is found here.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        match address {
            SocketAddr::V4(_) => address.set_ip(Ipv4Addr::LOCALHOST.into()),
            SocketAddr::V6(_) => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        }
    }
    address
}

/// Status and body of an answer that is complete in time.
fn ask(address: SocketAddr, path: &str, timeout: Length) -> io::Result<(u16, String)> {
    let watch = Stopwatch::start();
    let rest = || {
        let rest = timeout.0.saturating_sub(watch.elapsed());
        if rest.is_zero() { Err(io::Error::from(io::ErrorKind::TimedOut)) } else { Ok(rest) }
    };
    let mut stream = TcpStream::connect_timeout(&address, rest()?)?;
    stream.set_write_timeout(Some(rest()?))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let (mut answer, mut piece) = (Vec::new(), [0; 1024]);
    while answer.len() < MOST {
        stream.set_read_timeout(Some(rest()?))?;
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => answer.extend_from_slice(&piece[..read]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Err(error) => return Err(error),
        }
    }
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.strip_prefix("HTTP/1.").and_then(|head| head.split(' ').nth(1)?.parse().ok());
    let odd = || io::Error::new(io::ErrorKind::InvalidData, "what answers there is no telemetry listener");
    Ok((status.ok_or_else(odd)?, body.to_owned()))
}
