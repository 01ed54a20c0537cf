//! What an attacker may try: a client, a confused backend, whoever reads logs or the store.

mod boundary;
mod desync;
mod hiding;
mod leaks;
mod nonce;
mod sealing;
mod secrecy;
mod signed;
mod spoofing;
mod tossing;

/// Whatever a token may hold that is neither letter nor digit (RFC 9110 §5.6.2).
const JOINTS: &str = "-_.~!#$%&'*+^`|";
/// What the sidecar says in requests.
const OURS: [&str; 15] = [
    "X-Session-Data",
    "X-Session-State",
    "X-Session-Id",
    "X-Session-Version",
    "X-Session-Expiry-Age",
    "X-Session-Expiry-Date",
    "X-Session-Expires-At",
    "X-Session-Expire-At-Browser-Close",
    "X-Session-Test-Cookie",
    "X-Session-Nonce",
    "X-Session-Omitted",
    "X-Session-Signature",
    "X-Session-Key-Member-Id",
    "X-Session-Anything",
    "X-Session-",
];
