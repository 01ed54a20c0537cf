//! The rules of `[proxy]`, and of the addresses that the program listens on.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::Uri;

use super::{Report, is_token};
use crate::config::Config;

/// More threads than this are a typing error.
const MOST_WORKERS: usize = 1024;

pub(super) fn check(config: &Config, report: &mut Report) {
    let proxy = &config.proxy;
    match address(&proxy.backend) {
        Err((what, remedy)) => report.add("proxy.backend", what, remedy),
        Ok(address) if address.is_some_and(|address| meet(address, proxy.listen)) => {
            report.add(
                "proxy.backend",
                "is proxy.listen: the program would forward to itself",
                "change one of them",
            );
        }
        Ok(_) => {}
    }
    if meet(proxy.listen, config.telemetry.listen) {
        let what = format!("{} is taken by proxy.listen", config.telemetry.listen);
        report.add("telemetry.listen", what, "choose another port");
    }
    if proxy.workers > MOST_WORKERS {
        let what = format!("{} are too many", proxy.workers);
        report.add(
            "proxy.workers",
            what,
            format!("set at most {MOST_WORKERS}, or 0 to let the program choose"),
        );
    }
    if !proxy.via.is_empty() && !is_token(&proxy.via) {
        let what = format!("{:?} is no token", proxy.via);
        report.add("proxy.via", what, "use letters, digits and !#$%&'*+-.^_`|~ only, or nothing for no Via");
    }
    report.some_time("proxy.connect_timeout", proxy.connect_timeout);
    report.some_time("proxy.head_timeout", proxy.head_timeout);
    report.some_time("proxy.client_timeout", proxy.client_timeout);
}

/// Would two sockets get in each other's way?
fn meet(one: SocketAddr, other: SocketAddr) -> bool {
    let all = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && one.port() != 0 && (all || one.ip() == other.ip())
}

/// Is the backend out of the network's reach: a Unix socket, or on a loopback address?
pub(in crate::config) fn is_loopback(backend: &str) -> bool {
    match address(backend) {
        Ok(Some(address)) => address.ip().is_loopback(),
        Ok(None) => backend.starts_with("unix:"),
        Err(_) => false,
    }
}

/// The address of a backend, where it is one and no Unix socket or name. `localhost` is loopback (RFC 6761 §6.3).
///
/// # Errors
/// What is wrong with it, and the remedy. What it says is not quoted: there may be a password in it.
fn address(backend: &str) -> Result<Option<SocketAddr>, (String, String)> {
    const HTTP: &str = "write http://host:port or unix:/path, such as http://127.0.0.1:8000";
    let fault = |what: &str| Err((what.to_owned(), HTTP.to_owned()));
    if let Some(path) = backend.strip_prefix("unix:") {
        return match path {
            _ if !path.starts_with('/') || path.starts_with("//") => Err((
                "the socket's path is not absolute".to_owned(),
                "write unix:/path, such as unix:/run/app.sock".to_owned(),
            )),
            // sockaddr_un has 108 bytes, the last of them a zero.
            _ if path.len() > 107 || path.contains('\0') => {
                Err(("no socket can have this path".to_owned(), "use a path of at most 107 bytes".to_owned()))
            }
            _ => Ok(None),
        };
    }
    if backend.starts_with("https:") {
        return Err(("TLS to the backend is not there yet".to_owned(), HTTP.to_owned()));
    }
    let Ok(uri) = backend.parse::<Uri>() else { return fault("is no URL") };
    let (Some("http"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return fault("is neither http://… nor unix:…");
    };
    if authority.as_str().contains('@') {
        return fault("has a user name in it");
    }
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return fault("has a path: requests keep their own");
    }
    let Some(port) = authority.port_u16().filter(|port| *port != 0) else { return fault("has no port") };
    let host = authority.host().trim_matches(['[', ']']);
    let ip = match host.to_ascii_lowercase().as_str() {
        "" => return fault("has no host"),
        "localhost" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        host => host.parse().ok(),
    };
    Ok(ip.map(|ip| SocketAddr::new(ip, port)))
}
