//! What went wrong while a database was tried out: which setting leads there, and what to do about it.

use std::io;

use rustls::{CertificateError, Error as Objection};

use super::{TABLE, Told, URL};
use crate::store::sql::database::Failure;
use crate::store::sql::illness::Illness;
use crate::store::sql::tls::CA;
use crate::store::{Finding, Kind};

/// What was being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Asking for what it says of itself.
    Ask,
    /// Reading the table.
    Read,
    /// Writing to it.
    Write,
}

/// There is no connection.
pub(super) fn unopened<D: Told>(database: &D, failure: &Failure) -> Finding {
    let error = match failure {
        Failure::Setting((key, what)) => return Finding::problem(key, what, "correct it"),
        Failure::Driver(error) => error,
    };
    if let Some(finding) = database.unreached(error) {
        return finding;
    }
    let place = database.place();
    match error {
        sqlx::Error::Io(error) => match objection(error) {
            Some(Objection::InvalidCertificate(why)) => certificate(place, why),
            Some(objection) => Finding::problem(
                URL,
                format!("{place} broke off TLS ({objection})"),
                "see its log; if it wants a certificate, name ours in store.tls_cert_file and store.tls_key_file",
            ),
            None => away(place, error),
        },
        sqlx::Error::Tls(error) if error.to_string().contains("does not support TLS") => Finding::problem(
            URL,
            format!("{place} speaks no TLS, and this is a URL with it"),
            "switch TLS on there, or add sslmode=disable where nobody can listen in",
        ),
        sqlx::Error::Tls(error) => Finding::problem(
            URL,
            format!("{place} and we don't agree on TLS ({error})"),
            "see its log, and the certificates",
        ),
        sqlx::Error::Protocol(what) => Finding::problem(
            URL,
            format!("{place} was reached, but doesn't speak as {} does ({what})", D::NAME),
            "see what it is that listens there",
        ),
        error => refused(database, Step::Ask, error),
    }
}

/// A statement that the database won't.
pub(super) fn refused<D: Told>(database: &D, step: Step, error: &sqlx::Error) -> Finding {
    let place = database.place();
    let Illness { error, .. } = Illness::of(database, error);
    let problem = |remedy: &str| Finding::problem(URL, error.detail.clone(), remedy);
    match (error.kind, step) {
        (Kind::NoAuth, _) => problem("correct the user in store.url, or the password"),
        (Kind::NoPermission, _) => {
            let doing = if step == Step::Write { "write to" } else { "read" };
            let what = format!("{} may not {doing} {} of {place}", database.user(), database.table());
            let remedy = database
                .grant()
                .map_or_else(|| "see the rights of the file".to_owned(), |grant| format!("run {grant}"));
            Finding::problem(TABLE, what, remedy)
        }
        (Kind::ReadOnly, _) => Finding::problem(
            URL,
            format!("{place} takes no writes ({})", error.detail.rsplit(": ").next().unwrap_or_default()),
            match database.grant() {
                Some(_) => "name the primary, or end what makes it read-only",
                None => "let our user write to it and its folder",
            },
        ),
        (Kind::OutOfMemory, _) => problem("make room there: its disk or memory is full"),
        (Kind::Busy, _) => {
            problem("see who has its connections or holds its locks, and raise the limit there")
        }
        (Kind::Loading, _) => problem("wait until it has started, and try again"),
        (Kind::Broken | Kind::Timeout, _) => problem("see what keeps it from answering, and its log"),
        _ => problem("see its log, and what it says"),
    }
}

/// Nobody is there, or nobody gets there.
fn away(place: &str, error: &io::Error) -> Finding {
    use io::ErrorKind::{
        ConnectionRefused, ConnectionReset, NotFound, PermissionDenied, TimedOut, UnexpectedEof,
    };
    let name = error.to_string().contains("failed to lookup address");
    let (what, remedy) = match error.kind() {
        _ if name => ("nobody knows the host", "correct the name, or see to the name service"),
        ConnectionRefused => ("nobody listens there", "start the server, or correct the URL"),
        NotFound => ("there is no socket", "start the server, or correct the path"),
        PermissionDenied => ("it may not be opened by us", "see its rights, and our user's groups"),
        TimedOut => {
            return Finding::problem(
                URL,
                format!("{place} did not answer in time"),
                "see whether host and port are right, and no firewall between",
            );
        }
        UnexpectedEof | ConnectionReset => {
            ("it hung up at once", "see what it is that listens there, and what its log says")
        }
        _ => ("it can't be reached", "correct the host, or see to the network between"),
    };
    Finding::problem(URL, format!("{place}: {what} ({error})"), remedy)
}

/// What rustls has against a server.
fn objection(error: &io::Error) -> Option<&Objection> {
    error.get_ref()?.downcast_ref()
}

/// The server's certificate is not for us.
fn certificate(place: &str, why: &CertificateError) -> Finding {
    use CertificateError::{
        BadSignature, Expired, ExpiredContext, NotValidForName, NotValidForNameContext, NotValidYet,
        NotValidYetContext, UnknownIssuer,
    };
    match why {
        UnknownIssuer | BadSignature => Finding::problem(
            CA,
            format!("nobody whom we believe has signed the certificate of {place}"),
            "name a file with the certificate of who has",
        ),
        NotValidForName | NotValidForNameContext { .. } => Finding::problem(
            URL,
            format!("the certificate of {place} is for another name"),
            "write the name that it is for, or have one issued for this one",
        ),
        Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. } => Finding::problem(
            URL,
            format!("the certificate of {place} is not valid now ({why})"),
            "renew it, or set the clock of this machine",
        ),
        _ => Finding::problem(
            URL,
            format!("the certificate of {place} can't be accepted ({why})"),
            "have one issued of X.509 version 3, not an authority's own, with the host as its subjectAltName",
        ),
    }
}

/// There is no table yet.
pub(super) fn no_table<D: Told>(database: &D, create: bool, may: Option<bool>) -> Finding {
    let (table, place) = (database.table(), database.place());
    let what = format!("there is no table {table} in {place}");
    match (create, may) {
        (false, _) => Finding::problem(TABLE, what, "run `coatroom migrate`, or set store.create_table"),
        (true, Some(false)) => Finding::problem(
            TABLE,
            format!("{what}, and {} may not make it", database.user()),
            "run `coatroom migrate` as somebody who may, and grant us what the README says",
        ),
        (true, _) => Finding::note(TABLE, what, "it is made when the first connection is open"),
    }
}
