//! Signals: what the process is told from outside.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::error;

/// Some kinds of signals, which don't end the process from when this is made on.
pub(super) struct Signals<const N: usize>([Option<Signal>; N]);

/// Those that ask the program to end.
pub(super) const ENDING: [SignalKind; 2] = [SignalKind::terminate(), SignalKind::interrupt()];

impl<const N: usize> Signals<N> {
    /// Listens, on the runtime that this is called on.
    pub(super) fn new(kinds: [SignalKind; N]) -> Self {
        Self(
            kinds.map(|kind| {
                signal(kind).inspect_err(|error| error!("can't listen for signals: {error}")).ok()
            }),
        )
    }

    /// Hears nothing.
    const fn none() -> Self {
        Self([const { None }; N])
    }

    /// Waits for the next of any.
    pub(super) async fn next(&mut self) {
        let any = |cx: &mut Context<'_>| {
            let came = self.0.iter_mut().flatten().any(|signal| signal.poll_recv(cx).is_ready());
            if came { Poll::Ready(()) } else { Poll::Pending }
        };
        poll_fn(any).await;
    }
}

/// SIGHUP, and the runtime that hears it.
pub struct Hangups {
    pub(super) runtime: Runtime,
    pub(super) signals: Signals<1>,
}

impl Hangups {
    /// Hears from now on: one that comes before the settings have even been read must not end the process, and counts
    /// as soon as they are in force.
    ///
    /// # Errors
    /// If the system has no room for a runtime.
    pub fn heard() -> io::Result<Self> {
        let mut hangups = Self::unheard()?;
        let _on = hangups.runtime.enter();
        hangups.signals = Signals::new([SignalKind::hangup()]);
        Ok(hangups)
    }

    /// Leaves SIGHUP to the system, which ends the process: what has no settings to read again belongs to its
    /// terminal, and goes with it.
    ///
    /// # Errors
    /// As [`Hangups::heard`].
    pub(super) fn unheard() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        Ok(Self { runtime, signals: Signals::none() })
    }
}
