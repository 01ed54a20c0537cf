//! Errors as responses: the only place that makes one up.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, VARY};
use http::{HeaderName, Response, StatusCode};
use serde_json::json;

use super::Rules;
use super::body::Body;
use super::error::{Error, Kind};
use super::page::Fill;
use crate::time::Timestamp;
use crate::wire::caching;

/// What a problem's `type` begins with; its end is stable.
pub const PROBLEM: &str = "urn:coatroom:problem/";
/// The request's ID, in requests to the backend and in responses of ours.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Seconds after which a client may try again.
const RETRY: HeaderValue = HeaderValue::from_static("1");
/// The methods that pass, for a client that used one that doesn't.
const ALLOWED: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");

/// Tells the client what went wrong, as `application/problem+json` (RFC 9457), and never how it looks inside.
///
/// A client that likes HTML better gets the page of the settings, where there is one.
pub fn problem(error: &Error, id: &HeaderValue, rules: &Rules, html: bool) -> Response<Body> {
    let mut response = made(error, id);
    let page = rules.page.as_ref();
    if let (true, Some(page)) = (html, page) {
        let (status, slug, title) = error.problem();
        let kind = format!("{PROBLEM}{slug}");
        let id = id.to_str().unwrap_or_default();
        let fill = Fill { status: status.as_u16(), title, kind: &kind, id };
        *response.body_mut() = page.fill(&fill);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    }
    if page.is_some() {
        response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    }
    if rules.vary {
        caching::vary(response.headers_mut());
    }
    response.map(|text| Body::made(Bytes::from(text)))
}

/// The same as a message, for a connection that nobody serves any longer, and a client whose wishes nobody knows.
pub fn text(error: &Error, id: &HeaderValue, now: Timestamp) -> String {
    let response = made(error, id);
    let status = response.status();
    let mut text =
        format!("HTTP/1.1 {} {}\r\n", status.as_u16(), status.canonical_reason().unwrap_or_default());
    for (name, value) in response.headers().iter().filter(|(name, _)| *name != CONNECTION) {
        text += &format!("{name}: {}\r\n", value.to_str().unwrap_or_default());
    }
    let (length, date) = (response.body().len(), now.http_date());
    text += &format!("content-length: {length}\r\ndate: {date}\r\nconnection: close\r\n\r\n");
    text + response.body()
}

/// Tells a client that asked us and nobody behind us what there is: `OPTIONS` with `Max-Forwards: 0`.
pub fn options(id: &HeaderValue) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(ALLOW, ALLOWED);
    response.headers_mut().insert(X_REQUEST_ID, id.clone());
    response
}

fn made(error: &Error, id: &HeaderValue) -> Response<String> {
    let (status, slug, title) = error.problem();
    let mut problem = json!({
        "type": format!("{PROBLEM}{slug}"),
        "title": title,
        "status": status.as_u16(),
        "instance": id.to_str().unwrap_or_default(),
    });
    if let Some(detail) = &error.detail {
        problem["detail"] = detail.as_str().into();
    }
    let mut response = Response::new(problem.to_string());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_REQUEST_ID, id.clone());
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, RETRY);
    }
    match error.kind {
        Kind::Method => drop(headers.insert(ALLOW, ALLOWED)),
        // Where a message ends is in doubt, and so is what comes after it; or nobody will read on to there.
        Kind::BadRequest | Kind::BodyTooLarge | Kind::Timeout => {
            drop(headers.insert(CONNECTION, HeaderValue::from_static("close")))
        }
        _ => {}
    }
    response
}
