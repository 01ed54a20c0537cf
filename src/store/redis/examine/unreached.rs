//! A server that there is no connection to: why, and what to do about it.

use std::io;

use rustls::{AlertDescription, CertificateError, Error as Objection};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::{STEP, URL, login};
use crate::store::Finding;
use crate::store::redis::answer::Said;
use crate::store::redis::failure::{Failure, Step};
use crate::store::redis::target::{Place, Target, reach};
use crate::store::redis::tls::{self, CA, CERT, Tls};

/// What to do where it may be another program that listens there.
const WHO: &str = "see whether it is a Redis that listens there, and what its log says";

/// What a failure means. Where it can be this or that, the server is asked again, without a password.
pub(super) async fn explain(target: &Target, prefix: &str, failure: Failure) -> Finding {
    let place = &target.place;
    let silent = match failure {
        Failure::File((key, what)) => return Finding::problem(key, what, "name a file that can be used"),
        Failure::Refused(command, said) => return login::explain(target, prefix, command, &said),
        Failure::Name(error) => {
            let what = format!("nobody knows the host of {place} ({error})");
            return Finding::problem(URL, what, "correct the name, or see to the name service");
        }
        Failure::Away(error) => return away(place, &error),
        Failure::Late(Step::Reach) => {
            let what = format!("{place} did not answer within a second");
            return Finding::problem(
                URL,
                what,
                "see whether host and port are right, and no firewall between",
            );
        }
        Failure::Tls(error) => return unshaken(place, Some(&error)).await,
        Failure::Late(Step::Shake) => return unshaken(place, None).await,
        Failure::Lost(what) => what,
        Failure::Late(Step::Greet) => "not a word within a second".to_owned(),
    };
    match place {
        Place::Tcp { host, port, tls: Some(tls) } => {
            if let Some(alert) = last_word(tls, host, *port).await {
                return alerted(place, tls, alert);
            }
        }
        Place::Tcp { host, port, tls: None } => {
            let plain = async { unasked(reach(host, *port).await.ok()?).await };
            let (said, over_tls) = tokio::join!(timeout(STEP, plain), speaks_tls(host, *port));
            if let Ok(Some(said)) = said {
                return login::explain(target, prefix, "PING", &said);
            }
            if over_tls {
                let what = format!("{place} speaks TLS, and this is a URL without");
                return Finding::problem(URL, what, "write rediss://");
            }
        }
        Place::Unix(path) => {
            let plain = async { unasked(UnixStream::connect(path).await.ok()?).await };
            if let Ok(Some(said)) = timeout(STEP, plain).await {
                return login::explain(target, prefix, "PING", &said);
            }
        }
    }
    Finding::problem(URL, format!("{place} was reached, but doesn't serve ({silent})"), WHO)
}

/// Nobody is there, or nobody gets there.
fn away(place: &Place, error: &io::Error) -> Finding {
    use io::ErrorKind::{ConnectionRefused, NotFound, PermissionDenied};
    let (what, remedy) = match (place, error.kind()) {
        (Place::Unix(_), NotFound) => {
            ("there is no socket", "start the server, or correct the path (unixsocket there)")
        }
        (Place::Unix(_), PermissionDenied) => {
            ("it may not be opened by us", "see unixsocketperm there, and our user's groups")
        }
        (_, ConnectionRefused) => ("nobody listens there", "start the server, or correct the URL"),
        (Place::Unix(_), _) => ("it can't be opened", "correct the path"),
        (Place::Tcp { .. }, _) => ("it can't be reached", "correct the host, or see to the network between"),
    };
    Finding::problem(URL, format!("{place}: {what} ({error})"), remedy)
}

/// TLS did not come about.
async fn unshaken(place: &Place, error: Option<&io::Error>) -> Finding {
    let Place::Tcp { host, port, tls: Some(tls) } = place else {
        return Finding::problem(URL, format!("{place} speaks no TLS"), "report this as a bug");
    };
    match error.and_then(tls::objection) {
        Some(Objection::InvalidCertificate(why)) => certificate(host, tls, why),
        Some(Objection::AlertReceived(alert)) => alerted(place, tls, *alert),
        _ if speaks_redis(host, *port).await => {
            let what = format!("{place} speaks no TLS, and this is a URL with it");
            Finding::problem(URL, what, "write redis://, or name its tls-port")
        }
        _ => {
            let what = match error {
                Some(error) => format!("{place} broke off TLS ({error})"),
                None => format!("{place} was reached, but did not answer to TLS within a second"),
            };
            Finding::problem(URL, what, WHO)
        }
    }
}

/// The server's certificate is not for us.
fn certificate(host: &str, tls: &Tls, why: &CertificateError) -> Finding {
    use CertificateError::{
        BadSignature, Expired, ExpiredContext, NotValidForName, NotValidForNameContext, NotValidYet,
        NotValidYetContext, UnknownIssuer,
    };
    match why {
        UnknownIssuer | BadSignature if tls.ca().is_empty() => Finding::problem(
            CA,
            format!("is not set, and nobody whom the system believes has signed the certificate of {host}"),
            "name a file with the certificate of who has",
        ),
        UnknownIssuer | BadSignature => Finding::problem(
            CA,
            format!("nobody in {} has signed the certificate of {host}", tls.ca()),
            "put the certificate of who has there",
        ),
        NotValidForNameContext { presented, .. } if !presented.is_empty() => Finding::problem(
            URL,
            format!("the certificate of {host} is not for that name, but for {}", names(presented)),
            "write one of those as the host, or have one issued for this name",
        ),
        NotValidForName | NotValidForNameContext { .. } => Finding::problem(
            URL,
            format!("the certificate of {host} is for no name at all"),
            "have one issued with the host as its subjectAltName",
        ),
        Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. } => Finding::problem(
            URL,
            format!("the certificate of {host} is not valid now ({why})"),
            "renew it, or set the clock of this machine",
        ),
        _ => Finding::problem(
            URL,
            format!("the certificate of {host} can't be accepted ({why})"),
            "have one issued of X.509 version 3, not an authority's own, with the host as its subjectAltName",
        ),
    }
}

/// `DnsName("a"), IpAddress(::1)` without the kinds.
fn names(presented: &[String]) -> String {
    let bare = |name: &String| {
        name.split_once('(').map_or(&**name, |(_, name)| name).trim_matches(['"', ')']).to_owned()
    };
    presented.iter().map(bare).collect::<Vec<_>>().join(", ")
}

/// The server broke off TLS, and said why: most often because of who we are.
fn alerted(place: &Place, tls: &Tls, alert: AlertDescription) -> Finding {
    match alert {
        AlertDescription::ProtocolVersion | AlertDescription::InsufficientSecurity => Finding::problem(
            URL,
            format!("{place} and we have no version or cipher of TLS in common ({alert:?})"),
            "allow it TLS 1.2 or 1.3 (tls-protocols)",
        ),
        AlertDescription::UnrecognisedName => Finding::problem(
            URL,
            format!("{place} is not known there by that name ({alert:?})"),
            "correct the host",
        ),
        _ if tls.has_ours() => Finding::problem(
            CERT,
            format!("{place} doesn't accept our certificate ({alert:?})"),
            "have one signed by somebody whom it believes (its tls-ca-cert-file)",
        ),
        _ => Finding::problem(
            CERT,
            format!("is not set, and {place} wants a certificate ({alert:?})"),
            "name a file with ours, and its key in store.tls_key_file",
        ),
    }
}

/// What a server says to whoever says nothing, if it does.
async fn unasked(mut stream: impl AsyncRead + Unpin) -> Option<Said> {
    let mut line = [0; 256];
    let length = stream.read(&mut line).await.ok()?;
    Said::unasked(&String::from_utf8_lossy(&line[..length]))
}

async fn speaks_tls(host: &str, port: u16) -> bool {
    let ask = async {
        match reach(host, port).await {
            Ok(stream) => tls::is_spoken(host, stream).await,
            Err(_) => false,
        }
    };
    timeout(STEP, ask).await.unwrap_or(false)
}

/// Is what comes back in the clear what a Redis says, `+PONG` or an error?
async fn speaks_redis(host: &str, port: u16) -> bool {
    let ask = async {
        let mut stream = reach(host, port).await.ok()?;
        stream.write_all(b"PING\r\n").await.ok()?;
        stream.read_u8().await.ok()
    };
    matches!(timeout(STEP, ask).await, Ok(Some(b'+' | b'-')))
}

/// What a server breaks off with after a handshake that was good for us: in TLS 1.3 it looks at our certificate then.
async fn last_word(tls: &Tls, host: &str, port: u16) -> Option<AlertDescription> {
    let ask = async {
        let mut stream = tls.connect(host, reach(host, port).await.ok()?).await.ok()?;
        let error = stream.read_u8().await.err()?;
        match tls::objection(&error)? {
            Objection::AlertReceived(alert) => Some(*alert),
            _ => None,
        }
    };
    timeout(STEP, ask).await.ok().flatten()
}
