//! Where `store.url` and the settings beside it lead, and as whom we go there.
//!
//! ```text
//! redis://[user[:password]@]host[:port][/database]
//! redis+unix://[user[:password]@]/path/to/socket[?db=database]
//! redis+sentinel://[user[:password]@]host[:port][,host[:port]…]/master[/database]
//! redis+cluster://[user[:password]@]host[:port][,host[:port]…]
//! rediss://…  rediss+sentinel://…  rediss+cluster://…            the same over TLS
//! ```

use std::path::PathBuf;
use std::sync::Arc;

use percent_encoding::percent_decode_str;

use super::sentinel::{Sentinels, Watchers};
use super::target::{Misfit, Password, Place, Target};
use super::tls::Tls;
use super::topology::Cluster;
use crate::secret::Secret;
use crate::store::Config;
use crate::store::host::Host;

/// Where Redis listens if nobody says otherwise.
const PORT: u16 = 6379;
/// Where Sentinels do.
const SENTINEL_PORT: u16 = 26379;
/// A right that it takes to wait for replicas.
pub(super) const WAIT: &str = "wait";
/// Rights that it takes where others say which server it is.
const ROLE: &str = "role";
/// Rights that it takes in a cluster.
const CLUSTER: [&str; 2] = ["asking", "cluster|slots"];

/// Where `store.url` leads.
pub(super) enum Goal {
    /// To one server.
    Server(Arc<Target>),
    /// To whichever server these call their master.
    Sentinels(Arc<Sentinels>),
    /// To several servers, each of which has a part of the keys.
    Cluster(Arc<Cluster>),
}

/// The parts of a URL.
struct Parts<'a> {
    user: String,
    password: String,
    /// What stands between user and path: hosts, or nothing for a socket.
    hosts: &'a str,
    /// Without the slash before it.
    path: &'a str,
    query: Option<&'a str>,
}

impl Goal {
    /// Reads the settings. No file is read and no server asked: that is done for each connection.
    ///
    /// # Errors
    /// The first setting that can't be obeyed. What it holds is not quoted: a password may stand in it.
    pub(super) fn new(config: &Config) -> Result<Self, Misfit> {
        let form = match config.url.scheme() {
            "redis+sentinel" | "rediss+sentinel" => "redis+sentinel://host:port,host:port/master/database",
            "redis+cluster" | "rediss+cluster" => "redis+cluster://host:port,host:port",
            _ => "redis://host:port/database, rediss://… or redis+unix:///path/to/socket",
        };
        let url = |what: &str| ("store.url", format!("{what}: write {form}"));
        let scheme = config.url.scheme();
        let parts = Parts::of(config.url.expose()).map_err(url)?;
        let password = password(config, &parts.password)?;
        let tls = Tls::new(config, scheme.starts_with("rediss"))?;
        let at = |place, database, more: &[&'static str]| {
            let user = Some(parts.user.clone()).filter(|user| !user.is_empty());
            let waits = (config.wait_replicas > 0).then_some(WAIT);
            let more = more.iter().copied().chain(waits).collect();
            Target { place, user, database, more, password: password.clone() }
        };
        let watched = scheme.ends_with("+sentinel");
        let sentinel_password = sentinel_password(config, watched)?;
        if scheme == "redis+unix" {
            let path = decoded(parts.path).ok_or_else(|| url("has no path"))?;
            if !parts.hosts.is_empty() {
                return Err(url("has no path"));
            }
            let database = match parts.query.map(|query| query.strip_prefix("db=")) {
                None => 0,
                Some(number) => {
                    number.and_then(number_of).ok_or_else(|| url("has a query other than db="))?
                }
            };
            let place = Place::Unix(PathBuf::from(format!("/{path}")));
            return Ok(Self::Server(Arc::new(at(place, database, &[]))));
        }
        if parts.query.is_some() {
            return Err(url("has a query"));
        }
        let hosts = |port| {
            let hosts: Option<Vec<_>> =
                parts.hosts.split(',').map(|place| Host::parse(place, port)).collect();
            hosts.ok_or_else(|| url("has a host and port that can't be understood"))
        };
        let place =
            |Host { name, port }: &Host| Place::Tcp { host: name.clone(), port: *port, tls: tls.clone() };
        let database = |path| number_of(path).ok_or_else(|| url("has a database that is no number"));
        if scheme.ends_with("+cluster") {
            if database(parts.path)? != 0 {
                return Err(url("has a database, and a cluster has only 0"));
            }
            let seeds = hosts(PORT)?.iter().map(|host| at(place(host), 0, &CLUSTER)).collect();
            return Ok(Self::Cluster(Arc::new(Cluster::new(seeds))));
        }
        if !watched {
            let [only] = &hosts(PORT)?[..] else { return Err(url("has several hosts")) };
            return Ok(Self::Server(Arc::new(at(place(only), database(parts.path)?, &[]))));
        }
        let hosts = hosts(SENTINEL_PORT)?;
        let (name, number) = parts.path.split_once('/').unwrap_or((parts.path, ""));
        let name = decoded(name).filter(|name| !name.is_empty()).ok_or_else(|| url("names no master"))?;
        let sentinel = |host| Target {
            user: None,
            database: 0,
            more: Vec::new(),
            password: sentinel_password.clone(),
            place: place(host),
        };
        let watchers = Watchers {
            sentinels: hosts.iter().map(sentinel).collect(),
            // It is somewhere else, which they say.
            master: at(place(&hosts[0]), database(number)?, &[ROLE]),
            name,
        };
        Ok(Self::Sentinels(Arc::new(Sentinels::new(watchers))))
    }

    /// Some servers that the settings name.
    pub(super) fn named(&self) -> &[Target] {
        match self {
            Self::Server(target) => std::slice::from_ref(target),
            Self::Sentinels(sentinels) => &sentinels.watchers.sentinels,
            Self::Cluster(cluster) => &cluster.seeds,
        }
    }

    /// Is the way to each that is named one that nobody can listen in on: TLS, a Unix socket, loopback?
    pub(super) fn is_private(&self) -> bool {
        self.named().iter().all(Target::is_private)
    }

    /// Reads the files of TLS as a connection would.
    ///
    /// # Errors
    /// The first one that can't be used, and why.
    pub(super) fn check(&self) -> Result<(), Misfit> {
        // All have the same.
        self.named().first().map_or(Ok(()), Target::check)
    }
}

impl<'a> Parts<'a> {
    fn of(url: &'a str) -> Result<Self, &'static str> {
        let (_, rest) = url.split_once("://").ok_or("has no // behind its scheme")?;
        // A password may hold @, / and ?, a host may not.
        let (login, rest) = match rest.rfind('@') {
            Some(at) => (&rest[..at], &rest[at + 1..]),
            None => ("", rest),
        };
        let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        let (Some(user), Some(password)) = (decoded(user), decoded(password)) else {
            return Err("has a user or password that is no UTF-8");
        };
        Ok(Self { user, password, hosts, path, query })
    }
}

/// The password of the servers that keep sessions.
fn password(config: &Config, in_url: &str) -> Result<Password, Misfit> {
    let beside = !config.password.is_empty() || !config.password_file.is_empty();
    if beside && !in_url.is_empty() {
        return Err(("store.password", "store.url has one too: remove one of them".to_owned()));
    }
    let (here, here_setting) = match in_url {
        "" => (config.password.clone(), "store.password"),
        text => (Secret::new(text), "store.url"),
    };
    Ok(given(here, here_setting, &config.password_file, "store.password_file"))
}

/// The password of those who say which server it is.
fn sentinel_password(config: &Config, watched: bool) -> Result<Password, Misfit> {
    const HERE: &str = "store.sentinel_password";
    const IN_FILE: &str = "store.sentinel_password_file";
    let Config { sentinel_password: here, sentinel_password_file: file, .. } = config;
    if !watched {
        let setting = [(!here.is_empty()).then_some(HERE), (!file.is_empty()).then_some(IN_FILE)];
        if let Some(setting) = setting.into_iter().flatten().next() {
            return Err((setting, "store.url has no Sentinels: remove this".to_owned()));
        }
    }
    Ok(given(here.clone(), HERE, file, IN_FILE))
}

fn given(text: Secret, here: &'static str, file: &str, file_setting: &'static str) -> Password {
    let setting = if file.is_empty() { here } else { file_setting };
    Password { setting, file_setting, text, file: file.to_owned() }
}

fn decoded(text: &str) -> Option<String> {
    percent_decode_str(text).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

/// The number of a database; none is 0.
fn number_of(text: &str) -> Option<u32> {
    match text {
        "" => Some(0),
        digits if digits.bytes().all(|digit| digit.is_ascii_digit()) => digits.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn goal(url: &str) -> Result<Goal, Misfit> {
        Goal::new(&Config { url: url.into(), ..Config::default() })
    }

    fn shown(target: &Target) -> String {
        let tls = matches!(&target.place, Place::Tcp { tls: Some(_), .. });
        format!("{}{}", target.place, if tls { " tls" } else { "" })
    }

    #[test]
    fn a_url_names_a_server_a_user_and_a_database() {
        for (url, place, user, password, database) in [
            ("redis://cache", "cache:6379", None, "", 0),
            ("redis://cache/", "cache:6379", None, "", 0),
            ("redis://10.0.0.7:7000/3", "10.0.0.7:7000", None, "", 3),
            ("redis://[::1]:7000", "[::1]:7000", None, "", 0),
            ("redis://:se%3Acret@cache", "cache:6379", None, "se:cret", 0),
            ("redis://app:s/e@c?t@cache/15", "cache:6379", Some("app"), "s/e@c?t", 15),
            ("rediss://app@cache", "cache:6379 tls", Some("app"), "", 0),
            ("redis+unix:///run/redis.sock", "/run/redis.sock", None, "", 0),
            ("redis+unix://app:x@/run/redis.sock?db=2", "/run/redis.sock", Some("app"), "x", 2),
        ] {
            let Ok(Goal::Server(target)) = goal(url) else { panic!("{url}") };
            assert_eq!((&*shown(&target), target.user.as_deref(), target.database), (place, user, database));
            assert_eq!(target.password.text.expose(), password, "{url}");
        }
    }

    #[test]
    fn a_url_names_sentinels_and_the_master_that_they_watch() {
        for (url, places, name, user, database) in [
            ("redis+sentinel://a/main", &["a:26379"][..], "main", None, 0),
            ("redis+sentinel://a,b:7,[::1]/main/", &["a:26379", "b:7", "[::1]:26379"], "main", None, 0),
            ("rediss+sentinel://app:a,b@c@a/my%20one/4", &["a:26379 tls"], "my one", Some("app"), 4),
        ] {
            let Ok(Goal::Sentinels(sentinels)) = goal(url) else { panic!("{url}") };
            let Watchers { sentinels, master, name: named } = &*sentinels.watchers;
            assert_eq!(sentinels.iter().map(shown).collect::<Vec<_>>(), places);
            assert_eq!((&**named, master.user.as_deref(), master.database), (name, user, database));
            assert!(sentinels.iter().all(|sentinel| sentinel.user.is_none() && !sentinel.password.is_set()));
        }
    }

    #[test]
    fn a_url_names_some_servers_of_a_cluster() {
        for (url, places, user) in [
            ("redis+cluster://a", &["a:6379"][..], None),
            ("redis+cluster://a,b:7,[::1]:8/", &["a:6379", "b:7", "[::1]:8"], None),
            ("rediss+cluster://app:x@a,b/0", &["a:6379 tls", "b:6379 tls"], Some("app")),
        ] {
            let Ok(Goal::Cluster(cluster)) = goal(url) else { panic!("{url}") };
            assert_eq!(cluster.seeds.iter().map(shown).collect::<Vec<_>>(), places);
            assert!(cluster.seeds.iter().all(|seed| seed.user.as_deref() == user && seed.database == 0));
        }
    }

    #[test]
    fn a_url_that_can_be_misunderstood_is_refused_and_not_quoted() {
        for url in [
            "redis:",
            "redis:cache",
            "redis://",
            "redis:///0",
            "redis://cache:",
            "redis://cache:0",
            "redis://cache:70000",
            "redis://cache:port",
            "redis://cache/first",
            "redis://cache/-1",
            "redis://cache/+1",
            "redis://cache/1/2",
            "redis://cache/99999999999",
            "redis://cache#0",
            "redis://cache?db=1",
            "redis://[cache]",
            "redis://[::1",
            "redis://ca che",
            "redis://:%ff@cache",
            "redis://cache,other",
            "redis+unix://run/redis.sock",
            "redis+unix:///run/redis.sock?database=1",
            "redis+sentinel://cache",
            "redis+sentinel://cache/",
            "redis+sentinel://cache,/main",
            "redis+sentinel:///main",
            "redis+sentinel://cache/main/first",
            "redis+sentinel://cache/main/1/2",
            "redis+sentinel://cache/main?db=1",
            "redis+cluster://",
            "redis+cluster://cache,,other",
            "redis+cluster://cache/1",
            "redis+cluster://cache/main",
        ] {
            let (key, what) = goal(url).err().unwrap_or_else(|| panic!("{url} is none"));
            assert_eq!(key, "store.url");
            assert!(!what.contains("cache"), "{what}");
        }
    }

    #[test]
    fn a_password_is_given_once_and_where_somebody_wants_it() {
        let url = "redis://:one@cache".into();
        let both = Config { url, password: Secret::new("two"), ..Config::default() };
        assert_eq!(Goal::new(&both).err().map(|(key, _)| key), Some("store.password"));
        let url = "redis://cache".into();
        let unwanted = Config { url, sentinel_password_file: "/run/x".to_owned(), ..Config::default() };
        assert_eq!(Goal::new(&unwanted).err().map(|(key, _)| key), Some("store.sentinel_password_file"));
    }

    #[test]
    fn what_nobody_can_listen_in_on_is_private() {
        for (url, private) in [
            ("redis://localhost", true),
            ("redis://127.0.0.1", true),
            ("redis://[::1]", true),
            ("rediss://cache", true),
            ("redis+unix:///run/redis.sock", true),
            ("redis://cache", false),
            ("redis://10.0.0.7", false),
            ("redis+sentinel://localhost,[::1]/main", true),
            ("redis+sentinel://localhost,cache/main", false),
            ("rediss+sentinel://localhost,cache/main", true),
        ] {
            assert_eq!(goal(url).is_ok_and(|goal| goal.is_private()), private, "{url}");
        }
    }
}
