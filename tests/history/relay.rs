//! A relay between sidecars and their server, which can be told to do harm to what the server says.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

/// What is done to replies.
#[derive(Clone, Copy, Debug)]
pub enum Harm {
    /// Nothing.
    None,
    /// So many bytes more, on whichever connection they come, and then that connection is reset. Once.
    ResetAfter(usize),
    /// None comes through: what was asked is done, and nobody hears of it.
    Cut,
    /// Every so manyth piece waits for so long.
    Delay { every: u64, length: Duration },
}

/// A running relay.
#[derive(Clone)]
pub struct Relay {
    pub address: SocketAddr,
    harm: Arc<Mutex<Harm>>,
}

impl Relay {
    /// A relay to a server.
    pub async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let relay = Self {
            address: listener.local_addr().expect("its address"),
            harm: Arc::new(Mutex::new(Harm::None)),
        };
        let harm = Arc::clone(&relay.harm);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, server, Arc::clone(&harm)));
            }
        });
        relay
    }

    /// Does harm from now on.
    pub fn set(&self, harm: Harm) {
        *self.harm.lock().expect("whole") = harm;
    }

    /// Has the harm been done that is done once?
    pub fn is_done(&self) -> bool {
        matches!(*self.harm.lock().expect("whole"), Harm::None)
    }
}

async fn carry(client: TcpStream, server: SocketAddr, harm: Arc<Mutex<Harm>>) {
    // A server that is away is as away behind the relay.
    let is_cut = matches!(*harm.lock().expect("whole"), Harm::Cut);
    let connected = if is_cut { None } else { TcpStream::connect(server).await.ok() };
    let Some(server) = connected else { return reset(&client) };
    drop((client.set_nodelay(true), server.set_nodelay(true)));
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    tokio::select! {
        _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
        _ = replies(&mut from_server, &mut to_client, &harm) => {}
    }
    reset(to_client.as_ref());
    reset(to_server.as_ref());
}

async fn replies(
    from: &mut tokio::net::tcp::OwnedReadHalf,
    to: &mut tokio::net::tcp::OwnedWriteHalf,
    harm: &Mutex<Harm>,
) -> io::Result<()> {
    let (mut buffer, mut pieces) = (vec![0; 64 * 1024], 0_u64);
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        pieces += 1;
        let (pass, wait) = {
            let mut harm = harm.lock().expect("whole");
            match *harm {
                Harm::ResetAfter(bytes) if read > bytes => {
                    *harm = Harm::None;
                    (bytes, None)
                }
                Harm::ResetAfter(bytes) => {
                    *harm = Harm::ResetAfter(bytes - read);
                    (read, None)
                }
                Harm::Cut => return Ok(()),
                Harm::Delay { every, length } if pieces % every == 0 => (read, Some(length)),
                Harm::Delay { .. } | Harm::None => (read, None),
            }
        };
        if let Some(length) = wait {
            sleep(length).await;
        }
        to.write_all(&buffer[..pass]).await?;
        if pass < read {
            return Ok(());
        }
    }
}

/// The other side is told at once, and whatever was under way to it is lost.
fn reset(stream: &TcpStream) {
    drop(SockRef::from(stream).set_linger(Some(Duration::ZERO)));
}
