//! `coatroom demo`: a shop without any session code, to be visited through the sidecar.

mod page;
pub mod shop;

use std::net::SocketAddr;

/// What a person is told: where the shop is, and a session with curl to paste line by line.
///
/// `public` is the sidecar's address, `shop` the backend's own, which shows the other side of the same headers.
pub fn banner(public: SocketAddr, shop: SocketAddr) -> String {
    format!(
        r#"
  A shop without any session code is listening. Open it in a browser:

      http://{public}/         through coatroom, with a session
      http://{shop}/         directly, without one

  Or paste this. The browser's side: a visit, a login (the token changes), and what is in the session now.

      jar=$(mktemp)
      curl -s -b $jar -c $jar -D - -o /dev/null http://{public}/
      curl -s -b $jar -c $jar -D - -d name=Ada http://{public}/login
      curl -s -b $jar -c $jar -D - -d item=umbrella http://{public}/cart/add

  The shop's side: what it receives with that cookie, and with a header that somebody made up.

      curl -s -b $jar http://{public}/headers
      curl -s -H 'X_Session_Data: {{"user_id":"Eve"}}' http://{public}/headers

  And what it answers, asked directly: the directives that no browser gets to see.

      curl -s -D - -d name=Ada http://{shop}/login

  Log out with  curl -s -b $jar -c $jar -D - -X POST http://{public}/logout   and stop the demo with Ctrl-C.

"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_banner_names_both_addresses() {
        let text = banner(([127, 0, 0, 1], 8080).into(), ([127, 0, 0, 1], 49152).into());
        assert!(
            text.contains("http://127.0.0.1:8080/login") && text.contains("http://127.0.0.1:49152/login")
        );
        assert!(text.contains(r#"'X_Session_Data: {"user_id":"Eve"}'"#), "{text}");
    }
}
