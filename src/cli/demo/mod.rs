//! `coatroom demo`: a shop without any session code, to be visited through the sidecar.

mod page;
pub mod shop;

use std::error::Error;
use std::net::{SocketAddr, TcpListener};
use std::thread;

use tokio::runtime::Builder;

use crate::app::App;
use crate::config::Config;
use crate::time::Clock;

/// Serves the shop and a sidecar before it until Ctrl-C.
///
/// It takes the usual ports if they are free, and others if they are not: a first try should not fail on that.
///
/// # Errors
/// If no port can be listened on at all.
pub fn run() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let shop = listener.local_addr()?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name("shop".to_owned()).spawn(move || {
        runtime.block_on(async {
            if let Ok(listener) = tokio::net::TcpListener::from_std(listener) {
                shop::serve(listener).await;
            }
        });
    })?;
    let mut config = Config::default();
    config.proxy.backend = format!("http://{shop}");
    config.proxy.listen = free(config.proxy.listen);
    config.telemetry.listen = free(config.telemetry.listen);
    config.headers.explain = true;
    let app = App::start(&config, Clock::system())?;
    say(&banner(app.address(), shop));
    app.wait();
    Ok(())
}

/// The address, or one with a port of the system's choice if it is taken.
fn free(address: SocketAddr) -> SocketAddr {
    match TcpListener::bind(address) {
        Ok(_) => address,
        Err(_) => SocketAddr::new(address.ip(), 0),
    }
}

#[allow(clippy::print_stdout, reason = "the banner is what the command is asked for")]
fn say(text: &str) {
    println!("{text}");
}

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
