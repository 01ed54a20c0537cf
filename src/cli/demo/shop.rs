//! The demo's backend: a shop of the old kind that keeps nothing and knows a visitor by request headers alone.
//!
//! It has no store, sets no cookie and remembers nothing between two requests. Whatever it wants to find again, it says
//! in the head of its response.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::page;
use crate::session::data::to_ascii;

/// Bytes of a form: a name of 40 characters, percent-encoded, and then some.
const MAX_FORM: usize = 4096;
/// Characters of a visitor's name.
const MAX_NAME: usize = 40;

/// What the shop sells: name in forms, name for people, price in cents.
pub(super) const GOODS: [(&str, &str, u64); 3] =
    [("umbrella", "Umbrella", 1400), ("hat", "Wool hat", 2250), ("scarf", "Scarf", 1800)];

/// Serves the shop until it is dropped; its connections end with it.
pub async fn serve(listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(converse(stream))),
                // Out of descriptors, most likely: asking again at once would only burn the processor.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn converse(stream: TcpStream) {
    let service = service_fn(|request| async { Ok::<_, Infallible>(answer(request).await) });
    // A connection that breaks off is a visitor who left: there is nobody to tell.
    drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
}

/// A directive: header name and value.
pub(super) type Directive = (&'static str, String);

/// What a visitor can do beside looking.
#[derive(Clone, Copy)]
pub(super) enum Action {
    Login,
    Logout,
    Add(usize),
    Remove(usize),
}

impl Action {
    /// The path of its form.
    pub(super) const fn path(self) -> &'static str {
        match self {
            Self::Login => "/login",
            Self::Logout => "/logout",
            Self::Add(_) => "/cart/add",
            Self::Remove(_) => "/cart/remove",
        }
    }

    fn of(path: &str, form: &Form) -> Option<Self> {
        let item = || GOODS.iter().position(|(slug, ..)| form.get("item") == Some(slug));
        match path {
            "/login" => Some(Self::Login),
            "/logout" => Some(Self::Logout),
            "/cart/add" => item().map(Self::Add),
            "/cart/remove" => item().map(Self::Remove),
            _ => None,
        }
    }

    /// What makes the stored session what `visitor` is after this action.
    pub(super) fn directives(self, visitor: &Visitor) -> Vec<Directive> {
        let set = |name, value: Value| (name, String::from_utf8_lossy(&to_ascii(&value)).into_owned());
        match (self, &visitor.user) {
            (Self::Login, None) => Vec::new(),
            // The key changes with the rights: a token from before the login is worth nothing afterwards.
            (Self::Login, Some(user)) => {
                vec![
                    set("X-Session-Set", json!({ "user_id": user })),
                    set("X-Session-Cycle-Key", json!(true)),
                ]
            }
            (Self::Logout, _) => vec![set("X-Session-Flush", json!(true))],
            (Self::Add(item) | Self::Remove(item), _) => {
                let count = visitor.cart.get(item).filter(|count| **count > 0);
                let slug = GOODS.get(item).map_or("", |(slug, ..)| slug);
                vec![set("X-Session-Merge", json!({ "cart": { slug: count } }))]
            }
        }
    }
}

/// What a request's headers tell about who sent it.
pub(super) struct Visitor {
    /// All headers whose names begin with `X-Session-`, as they came.
    pub(super) received: Vec<(String, String)>,
    pub(super) user: Option<String>,
    pub(super) visits: u64,
    /// How many of each of the [`GOODS`].
    pub(super) cart: [u64; GOODS.len()],
}

impl Visitor {
    fn of(headers: &HeaderMap) -> Self {
        let data = headers.get("x-session-data").map_or(&b"{}"[..], HeaderValue::as_bytes);
        let data: Map<String, Value> = serde_json::from_slice(data).unwrap_or_default();
        let count = |value: Option<&Value>| value.and_then(Value::as_u64).unwrap_or(0);
        Self {
            received: spelled(headers).filter(|(name, _)| name.starts_with("X-Session-")).collect(),
            user: data.get("user_id").and_then(Value::as_str).map(str::to_owned),
            visits: count(data.get("visits")),
            cart: GOODS.map(|(slug, ..)| count(data.get("cart").and_then(|cart| cart.get(slug)))),
        }
    }
}

/// Headers in the spelling that people know; hyper keeps names in lower case.
fn spelled(headers: &HeaderMap) -> impl Iterator<Item = (String, String)> {
    headers.iter().map(|(name, value)| {
        let words = name.as_str().split('-').map(|word| {
            let (first, rest) = word.split_at(word.len().min(1));
            first.to_ascii_uppercase() + rest
        });
        (words.collect::<Vec<_>>().join("-"), String::from_utf8_lossy(value.as_bytes()).into_owned())
    })
}

/// The fields of a form or of a query.
struct Form(Vec<(String, String)>);

impl Form {
    fn parse(text: &str) -> Self {
        let decode =
            |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
        let fields = text.split('&').filter_map(|field| field.split_once('='));
        Self(fields.map(|(name, value)| (decode(name), decode(value))).collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }
}

async fn answer(request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, MAX_FORM).collect().await else {
        return text(StatusCode::PAYLOAD_TOO_LARGE, "That is too much.\n");
    };
    let visitor = Visitor::of(&head.headers);
    match (&head.method, head.uri.path()) {
        (&Method::GET | &Method::HEAD, "/") => {
            home(visitor, &Form::parse(head.uri.query().unwrap_or_default()))
        }
        (&Method::GET | &Method::HEAD, "/headers") => text(StatusCode::OK, &dump(&head)),
        (&Method::POST, path) => {
            let form = Form::parse(&String::from_utf8_lossy(&body.to_bytes()));
            Action::of(path, &form).map_or_else(missing, |action| act(action, visitor, &form))
        }
        _ => missing(),
    }
}

fn home(mut visitor: Visitor, query: &Form) -> Response<Full<Bytes>> {
    // An increment, not `visits + 1` as a value: of two visits at once, both count.
    let answered = vec![("X-Session-Increment", r#"{"visits":1}"#.to_owned())];
    visitor.visits = visitor.visits.saturating_add(1);
    let before = query.get("after").and_then(|path| Action::of(path, query));
    let page = page::render(&visitor, &answered, before);
    respond(StatusCode::OK, "text/html; charset=utf-8", page, answered)
}

fn act(action: Action, mut visitor: Visitor, form: &Form) -> Response<Full<Bytes>> {
    let mut back = format!("/?after={}", action.path());
    match action {
        Action::Login => {
            let name = form.get("name").unwrap_or_default().trim();
            visitor.user =
                Some(name.chars().take(MAX_NAME).collect()).filter(|name: &String| !name.is_empty());
        }
        Action::Logout => visitor.user = None,
        Action::Add(item) | Action::Remove(item) => {
            let add = matches!(action, Action::Add(_));
            if let Some(count) = visitor.cart.get_mut(item) {
                *count = if add { count.saturating_add(1) } else { 0 };
            }
            back += "&item=";
            back += GOODS.get(item).map_or("", |(slug, ..)| slug);
        }
    }
    let directives = action.directives(&visitor);
    let mut response = respond(StatusCode::SEE_OTHER, "text/plain; charset=utf-8", String::new(), directives);
    if let Ok(back) = HeaderValue::try_from(back) {
        response.headers_mut().insert(LOCATION, back);
    }
    response
}

/// The request's head as the shop sees it.
fn dump(head: &Parts) -> String {
    let headers = spelled(&head.headers).map(|(name, value)| format!("{name}: {value}\n"));
    format!("{} {}\n{}", head.method, head.uri, headers.collect::<String>())
}

fn missing() -> Response<Full<Bytes>> {
    text(StatusCode::NOT_FOUND, "The shop has no such page.\n")
}

fn text(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    respond(status, "text/plain; charset=utf-8", text.to_owned(), Vec::new())
}

fn respond(
    status: StatusCode,
    kind: &'static str,
    body: String,
    directives: Vec<Directive>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    for (name, value) in directives {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().append(name, value);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn ask(method: &str, target: &str, headers: &str, body: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shop = tokio::spawn(serve(listener));
        let mut stream = TcpStream::connect(address).await.unwrap();
        let length = body.len();
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        shop.abort();
        answer
    }

    fn has(answer: &str, line: &str) -> bool {
        answer.lines().any(|each| each.eq_ignore_ascii_case(line))
    }

    #[tokio::test]
    async fn a_visit_is_counted_by_an_increment() {
        let answer = ask("GET", "/", "X-Session-Data: {\"visits\":41}\r\n", "").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(has(&answer, r#"x-session-increment: {"visits":1}"#), "{answer}");
        assert!(answer.contains("visit number <strong>42</strong>"), "{answer}");
    }

    #[tokio::test]
    async fn a_login_sets_the_user_and_asks_for_a_new_key() {
        let answer = ask("POST", "/login", "", "name=+Ren%C3%A9e+").await;
        assert!(answer.starts_with("HTTP/1.1 303"), "{answer}");
        assert!(has(&answer, r#"x-session-set: {"user_id":"Ren\u00e9e"}"#), "{answer}");
        assert!(
            has(&answer, "x-session-cycle-key: true") && has(&answer, "location: /?after=/login"),
            "{answer}"
        );
    }

    #[tokio::test]
    async fn a_login_without_a_name_asks_for_nothing() {
        let answer = ask("POST", "/login", "", "name=+").await;
        assert!(
            answer.starts_with("HTTP/1.1 303") && !answer.to_lowercase().contains("x-session-"),
            "{answer}"
        );
    }

    #[tokio::test]
    async fn the_cart_is_merged_and_an_entry_that_goes_is_null() {
        let data = "X-Session-Data: {\"cart\":{\"hat\":2}}\r\n";
        let answer = ask("POST", "/cart/add", data, "item=hat").await;
        assert!(has(&answer, r#"x-session-merge: {"cart":{"hat":3}}"#), "{answer}");
        let answer = ask("POST", "/cart/remove", data, "item=hat").await;
        assert!(has(&answer, r#"x-session-merge: {"cart":{"hat":null}}"#), "{answer}");
        assert!(ask("POST", "/cart/add", data, "item=coat").await.starts_with("HTTP/1.1 404"));
    }

    #[tokio::test]
    async fn a_logout_flushes() {
        let answer = ask("POST", "/logout", "X-Session-Data: {\"user_id\":\"Ada\"}\r\n", "").await;
        assert!(answer.starts_with("HTTP/1.1 303") && has(&answer, "x-session-flush: true"), "{answer}");
    }

    #[tokio::test]
    async fn what_visitors_write_is_text_and_neither_markup_nor_a_place_of_the_template() {
        let data = "X-Session-Data: {\"user_id\":\"<b title='\\\"'>{{goods}}&\"}\r\n";
        let answer = ask("GET", "/?after=/login", data, "").await;
        assert!(answer.contains("&lt;b title=&#39;&quot;&#39;&gt;{{goods}}&amp;"), "{answer}");
        assert!(!answer.contains("<b title"), "{answer}");
    }

    #[tokio::test]
    async fn the_headers_page_shows_what_arrived() {
        let answer = ask("GET", "/headers", "x-SESSION-data: {}\r\nX_Session_Data: {}\r\n", "").await;
        assert!(has(&answer, "X-Session-Data: {}") && has(&answer, "X_session_data: {}"), "{answer}");
    }

    #[tokio::test]
    async fn a_form_without_end_is_not_read_to_its_end() {
        let answer = ask("POST", "/login", "", &"x".repeat(MAX_FORM + 1)).await;
        assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    }
}
