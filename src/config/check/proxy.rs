//! The rules of `[proxy]`, and of the addresses that the program listens on.

use std::net::{IpAddr, SocketAddr};

use super::{Report, is_token};
use crate::config::Config;
use crate::proxy;
use crate::proxy::backend::Address;

/// More threads than this are a typing error.
const MOST_WORKERS: usize = 1024;

pub(super) fn check(config: &Config, report: &mut Report) {
    let proxy = &config.proxy;
    match address(&proxy.backend) {
        Err((what, remedy)) => report.add("proxy.backend", what, remedy),
        Ok(address) if is_ours(&address, proxy.listen) => {
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
    sizes(proxy, report);
    report.some_time("proxy.connect_timeout", proxy.connect_timeout);
    report.some_time("proxy.head_timeout", proxy.head_timeout);
    report.some_time("proxy.tunnel_idle_timeout", proxy.tunnel_idle_timeout);
    report.positive("proxy.max_tunnels", proxy.max_tunnels);
    report.some_time("proxy.header_timeout", proxy.header_timeout);
    report.some_time("proxy.idle_timeout", proxy.idle_timeout);
    report.some_time("proxy.body_timeout", proxy.body_timeout);
}

/// No browser's head fits into less.
const LEAST_HEAD: usize = 1024;
/// Heads are held in memory, each of them twice.
const MOST_HEAD: usize = 512 * 1024;
/// More lines than this are kept in no table of headers.
const MOST_HEADERS: usize = 10_000;

fn sizes(proxy: &proxy::Config, report: &mut Report) {
    if !(LEAST_HEAD..=MOST_HEAD).contains(&proxy.max_head_bytes) {
        let what = format!("{} bytes are no length for heads of requests", proxy.max_head_bytes);
        report.add("proxy.max_head_bytes", what, format!("set it to {LEAST_HEAD} to {MOST_HEAD}"));
    }
    report.positive("proxy.max_headers", proxy.max_headers);
    if proxy.max_headers > MOST_HEADERS {
        let what = format!("{} are too many", proxy.max_headers);
        report.add("proxy.max_headers", what, format!("set at most {MOST_HEADERS}"));
    }
    report.positive("proxy.max_connections", proxy.max_connections);
    report.positive("proxy.max_requests", proxy.max_requests);
    report.positive("proxy.max_backend_connections", proxy.max_backend_connections);
}

/// Would two sockets get in each other's way?
fn meet(one: SocketAddr, other: SocketAddr) -> bool {
    let all = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && one.port() != 0 && (all || one.ip() == other.ip())
}

/// Where the backend is, as the proxy reads it.
///
/// # Errors
/// What is wrong with it, and the remedy. What it says is not quoted: there may be a password in it.
fn address(backend: &str) -> Result<Address, (&'static str, &'static str)> {
    const REMEDY: &str = "write http://host:port or unix:/path, such as http://127.0.0.1:8000";
    if backend.starts_with("https:") {
        return Err(("TLS to the backend is not there yet", REMEDY));
    }
    if backend.contains('@') && !backend.starts_with("unix:") {
        return Err(("has a user name in it", REMEDY));
    }
    match Address::parse(backend) {
        Err(_) => Err(("is neither http://host:port nor unix:/path", REMEDY)),
        Ok(Address::Tcp(_, 0)) => Err(("has port 0, where nobody listens", REMEDY)),
        // sockaddr_un has 108 bytes, the last of them a zero.
        Ok(Address::Unix(_)) if backend.len() > "unix:".len() + 107 || backend.contains('\0') => {
            Err(("no socket can have this path", "use a path of at most 107 bytes"))
        }
        Ok(address) => Ok(address),
    }
}

/// Would the program forward to itself?
fn is_ours(address: &Address, listen: SocketAddr) -> bool {
    let Address::Tcp(host, port) = address else { return false };
    let host = if host == "localhost" { "127.0.0.1" } else { host };
    host.parse().is_ok_and(|ip: IpAddr| meet(SocketAddr::new(ip, *port), listen))
}
