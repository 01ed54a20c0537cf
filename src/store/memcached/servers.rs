//! Which servers: `store.url` and the settings beside it.
//!
//! ```text
//! memcache://host[:port][,host[:port]…]
//! ```

use std::net::IpAddr;
use std::sync::Arc;

use super::ring::{PORT, Ring};
use super::server::Server;
use crate::store::Config;
use crate::store::host::Host;

/// Why a setting can't be obeyed: the setting, and what is wrong with it and what to do.
pub type Misfit = (&'static str, String);

/// Bytes of a key at most.
const LONGEST_KEY: usize = 250;
/// Digits of our keys, behind `store.key_prefix`.
const DIGITS: usize = 40;

/// The servers, and which key lies on which of them.
pub(super) struct Servers {
    /// As they stand in the URL.
    pub(super) all: Vec<Arc<Server>>,
    /// Numbers them so.
    pub(super) ring: Ring,
}

impl Servers {
    /// Reads the settings. Nobody is asked.
    ///
    /// # Errors
    /// The first setting that can't be obeyed. What it holds is not quoted: a password may stand in it.
    pub(super) fn new(config: &Config) -> Result<Self, Misfit> {
        const FORM: &str = "write memcache://host:port, or several with commas between them";
        let url = |what: &str| ("store.url", format!("{what}: {FORM}"));
        let text = config.url.expose();
        let (_, rest) = text.split_once("://").ok_or_else(|| url("has no // behind its scheme"))?;
        if rest.contains('@') {
            return Err(url("has a user or a password, which this store has no use for"));
        }
        if rest.contains(['/', '?', '#']) {
            return Err(url("has something behind its hosts"));
        }
        let mut hosts: Vec<Host> = Vec::new();
        for place in rest.split(',') {
            let mut host =
                Host::parse(place, PORT).ok_or_else(|| url("has no hosts that can be understood"))?;
            // All who share sessions have the same ring, however they write a name or an address.
            host.name = match host.name.parse::<IpAddr>() {
                Ok(address) => address.to_canonical().to_string(),
                Err(_) => host.name.to_ascii_lowercase(),
            };
            if hosts.contains(&host) {
                return Err(url("names a server twice"));
            }
            hosts.push(host);
        }
        for (setting, is_set) in [
            ("store.password", !config.password.is_empty()),
            ("store.password_file", !config.password_file.is_empty()),
            ("store.tls_ca_file", !config.tls_ca_file.is_empty()),
            ("store.tls_cert_file", !config.tls_cert_file.is_empty()),
            ("store.tls_key_file", !config.tls_key_file.is_empty()),
        ] {
            if is_set {
                let what = "is for Redis: memcache:// has neither passwords nor TLS; remove it".to_owned();
                return Err((setting, what));
            }
        }
        let prefix = &config.key_prefix;
        let most = LONGEST_KEY - DIGITS;
        if prefix.len() > most {
            let what = format!(
                "has {} bytes, and a key of memcached's has no room for more than {most}",
                prefix.len()
            );
            return Err(("store.key_prefix", what));
        }
        if prefix.chars().any(|c| c.is_whitespace() || c.is_control()) {
            let what = "has a blank or a control character, which no key of memcached's may have".to_owned();
            return Err(("store.key_prefix", what));
        }
        let ring = Ring::new(hosts.iter().map(|host| (&*host.name, host.port)));
        Ok(Self { all: hosts.into_iter().map(|host| Arc::new(Server(host))).collect(), ring })
    }

    /// Does all that is sent to them stay on this machine?
    pub(super) fn are_local(&self) -> bool {
        self.all.iter().all(|server| server.0.is_loopback())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(url: &str) -> Result<Servers, Misfit> {
        Servers::new(&Config { url: url.into(), ..Config::default() })
    }

    #[test]
    fn a_url_names_one_server_or_several() {
        for (url, expected) in [
            ("memcache://cache", &["cache:11211"][..]),
            ("memcache://Cache:7000", &["cache:7000"]),
            (
                "memcache://a,b:7000,[::1]:7000,10.0.0.7",
                &["a:11211", "b:7000", "[::1]:7000", "10.0.0.7:11211"],
            ),
            ("memcache://a:1,a:2", &["a:1", "a:2"]),
            ("memcache://[::1]:7000,[::1:7000]", &["[::1]:7000", "[::1:7000]:11211"]),
            ("memcache://[0:0::AB]", &["[::ab]:11211"]),
        ] {
            let servers = servers(url).unwrap_or_else(|(key, what)| panic!("{url}: {key}: {what}"));
            let shown: Vec<_> = servers.all.iter().map(|server| server.0.to_string()).collect();
            assert_eq!(shown, expected, "{url}");
        }
    }

    #[test]
    fn a_url_that_can_be_misunderstood_is_refused_and_not_quoted() {
        for url in [
            "memcache:",
            "memcache:cache",
            "memcache://",
            "memcache://cache,",
            "memcache://,cache",
            "memcache://cache, other",
            "memcache://cache;other",
            "memcache://cache/",
            "memcache://cache:0",
            "memcache://cache:port",
            "memcache://app:cache@cache",
            "memcache://cache?cache",
            "memcache://cache,cache:11211",
            "memcache://cache,CACHE",
            "memcache://[::1]:7000,[0::1]:7000",
            "memcache://[fe80::a],[FE80:0::A]",
            "memcache://10.0.0.7,[::ffff:10.0.0.7]",
        ] {
            let (key, what) = servers(url).err().unwrap_or_else(|| panic!("{url} is none"));
            assert_eq!(key, "store.url");
            assert!(!what.contains("cache,") && !what.contains("app"), "{what}");
        }
    }

    #[test]
    fn a_prefix_that_makes_no_key_is_refused() {
        for (prefix, good) in [
            ("", true),
            ("coat:", true),
            ("laden-für-alle:", true),
            (&*"x".repeat(210), true),
            (&*"x".repeat(211), false),
            (&*"ü".repeat(106), false),
            ("a b", false),
            ("a\u{a0}b", false),
            ("a\r\nflush_all\r\n", false),
            ("a\0", false),
        ] {
            let config =
                Config { url: "memcache://cache".into(), key_prefix: prefix.to_owned(), ..Config::default() };
            assert_eq!(
                Servers::new(&config).err().map(|(key, _)| key),
                (!good).then_some("store.key_prefix"),
                "{prefix:?}"
            );
        }
    }
}
