//! Where the backend is.

use std::path::PathBuf;

use http::HeaderValue;

/// Where the backend listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `http://host:port`. The name is looked up anew for each connection.
    Tcp(String, u16),
    /// `unix:/path`.
    Unix(PathBuf),
}

impl Address {
    /// Reads `proxy.backend`.
    ///
    /// # Errors
    /// Says what an address looks like.
    pub fn parse(text: &str) -> Result<Self, String> {
        let help = || format!("{text:?} is no backend: write http://host:port or unix:/path");
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.starts_with('/') { Ok(Self::Unix(PathBuf::from(path))) } else { Err(help()) };
        }
        let authority = text.strip_prefix("http://").ok_or_else(help)?.trim_end_matches('/');
        let authority: http::uri::Authority = authority.parse().map_err(|_| help())?;
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return Err(help());
        }
        let port = match &authority.as_str()[authority.host().len()..] {
            "" => 80,
            port => port[1..].parse().ok().filter(|port| *port > 0).ok_or_else(help)?,
        };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        Ok(Self::Tcp(host.to_owned(), port))
    }

    /// Can nobody but this machine reach it?
    pub fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Tcp(host, _) => {
                host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
            }
        }
    }

    /// What stands in `Host` where a client of HTTP/1.0 sends none.
    pub fn host(&self) -> HeaderValue {
        let text = match self {
            Self::Unix(_) => "localhost".to_owned(),
            Self::Tcp(host, port) if host.contains(':') => format!("[{host}]:{port}"),
            Self::Tcp(host, port) => format!("{host}:{port}"),
        };
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("localhost"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port_or_a_path() {
        let tcp = |host: &str, port| Ok(Address::Tcp(host.to_owned(), port));
        assert_eq!(Address::parse("http://app"), tcp("app", 80));
        assert_eq!(Address::parse("http://127.0.0.1:8000/"), tcp("127.0.0.1", 8000));
        assert_eq!(Address::parse("http://[::1]"), tcp("::1", 80));
        assert_eq!(Address::parse("http://[::1]:8000"), tcp("::1", 8000));
        assert_eq!(Address::parse("unix:/run/app.sock"), Ok(Address::Unix("/run/app.sock".into())));
        for wrong in [
            "",
            "app",
            "app:80",
            "https://app",
            "http://",
            "http://:80",
            "http://app:",
            "http://app:0",
            "http://app:65536",
            "http://app:http",
            "http://app/path",
            "http://user@app",
            "http://app?x",
            "http://::1:80",
            "unix:",
            "unix:app.sock",
        ] {
            assert!(Address::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_host_that_is_an_ipv6_address_stands_in_brackets() {
        for (url, host) in [("http://[::1]:9", "[::1]:9"), ("http://app", "app:80"), ("unix:/x", "localhost")]
        {
            assert_eq!(Address::parse(url).unwrap().host(), host);
        }
    }
}
