//! Errors as responses: the only place that makes one up.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{HeaderName, Response, StatusCode};
use serde_json::json;

use super::body::Body;
use super::error::{Error, Kind};
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
/// `vary` adds `Vary: Cookie`, which every response has whose session may matter.
pub fn problem(error: &Error, id: &HeaderValue, vary: bool) -> Response<Body> {
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
    let mut response = Response::new(Body::made(Bytes::from(problem.to_string())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_REQUEST_ID, id.clone());
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, RETRY);
    }
    if vary {
        caching::vary(headers);
    }
    if error.kind == Kind::Method {
        headers.insert(ALLOW, ALLOWED);
    }
    response
}
