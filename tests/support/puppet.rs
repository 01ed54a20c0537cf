//! A server that speaks the protocol of Redis and says what the test has it say.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::backend::Backend;

/// A Redis, or a Sentinel, whose words are the test's.
pub struct Puppet {
    /// Where it listens.
    pub address: SocketAddr,
    asked: Arc<AtomicU64>,
}

impl Puppet {
    /// One that answers each command as `answer` says, in the protocol's own form: `+OK`, `$5\r\nvalue`, several lines
    /// joined by CR and LF. Where that is `None` it says what any server says to whoever comes.
    pub fn new(answer: impl Fn(&[String]) -> Option<String> + Send + Sync + 'static) -> Self {
        let asked = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&asked);
        let Backend { address, .. } = Backend::raw(move |stream| {
            stream.set_nodelay(true).expect("no delay");
            let mut writer = stream.try_clone().expect("a socket");
            let mut reader = BufReader::new(stream);
            while let Some(words) = read(&mut reader) {
                let said = answer(&words).inspect(|_| {
                    count.fetch_add(1, Relaxed);
                });
                let said = said.unwrap_or_else(|| {
                    if words[0] == "PING" { "+PONG".to_owned() } else { "+OK".to_owned() }
                });
                if writer.write_all(format!("{said}\r\n").as_bytes()).is_err() {
                    return;
                }
            }
        });
        Self { address, asked }
    }

    /// A Sentinel that names the master that `named` says, and its epoch.
    pub fn sentinel(named: impl Fn() -> (SocketAddr, u64) + Send + Sync + 'static) -> Self {
        Self::new(move |words| {
            let (master, epoch) = named();
            let (host, port, epoch) = (master.ip().to_string(), master.port().to_string(), epoch.to_string());
            match words {
                [first, what, ..] if first == "SENTINEL" => Some(match &*what.to_uppercase() {
                    "GET-MASTER-ADDR-BY-NAME" => texts(&[&host, &port]),
                    "MASTER" => texts(&["ip", &host, "port", &port, "config-epoch", &epoch]),
                    _ => texts(&[]),
                }),
                _ => None,
            }
        })
    }

    /// How many commands it has answered by now that the test has an answer for.
    pub fn asked(&self) -> u64 {
        self.asked.load(Relaxed)
    }
}

/// An answer of several texts.
pub fn texts(texts: &[&str]) -> String {
    let text = |text: &&str| format!("\r\n${}\r\n{text}", text.len());
    format!("*{}{}", texts.len(), texts.iter().map(text).collect::<String>())
}

/// The words of a command; `None` where the connection is over. What is no text is not told apart.
fn read(reader: &mut BufReader<TcpStream>) -> Option<Vec<String>> {
    let number = |sign: char, reader: &mut BufReader<TcpStream>| -> Option<usize> {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        line.trim_end().strip_prefix(sign)?.parse().ok()
    };
    let count = number('*', reader)?;
    let word = |_| {
        let mut word = vec![0; number('$', reader)? + 2];
        reader.read_exact(&mut word).ok()?;
        word.truncate(word.len() - 2);
        Some(String::from_utf8_lossy(&word).into_owned())
    };
    (0..count).map(word).collect()
}
