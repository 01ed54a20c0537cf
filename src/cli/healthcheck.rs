//! `coatroom healthcheck`: a probe for images that have no other program that could ask.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::ExitCode;

use clap::Args;

use super::settings::Settings;
use super::{print, refuse, tell};
use crate::time::{Length, Stopwatch};

/// Bytes of an answer that are read at most; ours have fewer.
const MOST: usize = 16 * 1024;

#[derive(Args)]
pub(super) struct Probe {
    #[command(flatten)]
    settings: Settings,
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

/// Asks the telemetry listener of the settings; exits with 0 if its answer is yes.
pub(super) fn run(probe: &Probe) -> ExitCode {
    let config = match probe.settings.load() {
        Ok(config) => config,
        Err(problems) => return refuse(&problems),
    };
    let path = match (probe.live, probe.startup) {
        (true, _) => "/livez",
        (_, true) => "/startupz",
        _ => "/readyz",
    };
    let address = reachable(config.telemetry.listen);
    match ask(address, path, probe.timeout) {
        Ok((200, body)) => print(&format!("{}\n", body.trim())),
        Ok((status, body)) => {
            tell(format_args!("coatroom: {path} says {status}: {}", body.trim()));
            ExitCode::FAILURE
        }
        Err(error) => {
            tell(format_args!("coatroom: {path} of {address} can't be asked: {error}"));
            ExitCode::FAILURE
        }
    }
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
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let odd = || io::Error::new(io::ErrorKind::InvalidData, "what answers there is no telemetry listener");
    Ok((status.ok_or_else(odd)?, body.to_owned()))
}
