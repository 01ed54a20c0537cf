//! How long a client is waited for, and a socket that knows when nobody takes what is written to it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};

use super::room::Seat;
use super::timer::Alarm;
use crate::time::millis;

/// What a client may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// `proxy.header_timeout`: from the first byte of a request to the end of its head.
    pub header: Duration,
    /// `proxy.idle_timeout`: from the end of a response to the first byte of the next request.
    pub idle: Duration,
    /// `proxy.body_timeout`: while a body is on its way and the client neither sends nor takes any of it.
    pub body: Duration,
    /// `proxy.min_body_rate`, in bytes a second.
    pub rate: u64,
}

/// How fast a body has to move while its client is waited for.
///
/// Waiting is divided into windows of `proxy.body_timeout`. A window ends well, and the next one begins, as soon as what
/// `proxy.min_body_rate` makes of it has passed, one byte at least; if its time is up before that, the alarm rings. So a
/// client that trickles is worth no more patience than one that has stopped. Only waiting counts: a body that is made
/// slowly, or that the backend takes slowly, is nobody's fault here.
///
/// Apache's mod_reqtimeout adds time for each byte instead, and so has no bound for a body of unknown length; Kestrel's
/// MinRequestBodyDataRate (240 bytes a second) is the nearest relative.
pub struct Pace {
    /// Milliseconds of waiting.
    window: u64,
    /// Bytes that have to pass in a window.
    share: u64,
    /// Milliseconds of it that are left.
    left: u64,
    /// Bytes that have passed in it.
    passed: u64,
    /// When the present wait began, by the alarm's wheel.
    since: Option<u64>,
}

impl Pace {
    /// A body that has not moved yet.
    pub fn new(patience: &Patience) -> Self {
        let window = millis(patience.body);
        let share = (window / 1000).saturating_mul(patience.rate).max(1);
        Self { window, share, left: window, passed: 0, since: None }
    }

    /// The client is waited for, or is still: `alarm` rings when the window is over, whatever it was set to.
    pub fn wait(&mut self, alarm: &Alarm) {
        let since = *self.since.get_or_insert(alarm.now());
        alarm.set_from(since, Duration::from_millis(self.left));
    }

    /// So many bytes have passed, and nobody is waited for; was anybody, so that `alarm` may be set?
    pub fn pass(&mut self, alarm: &Alarm, bytes: usize) -> bool {
        let since = self.since.take();
        if let Some(since) = since {
            self.left = self.left.saturating_sub(alarm.now().saturating_sub(since));
        }
        if self.left < self.window {
            self.passed = self.passed.saturating_add(bytes as u64);
            if self.passed >= self.share {
                (self.left, self.passed) = (self.window, 0);
            }
        }
        since.is_some()
    }
}

/// Sets an alarm while a write waits for the other end, and stops it as soon as that takes anything.
///
/// A client that reads nothing would otherwise keep its connection, and the backend's behind it, for ever. What it takes
/// shows in steps, of half of what the listener lets the system keep unsent, or of what the client's own system has room
/// for at once.
pub struct Patient<T> {
    inner: T,
    alarm: Alarm,
    pace: Pace,
    seat: Option<Seat>,
}

impl<T> Patient<T> {
    /// Sets `alarm` while a write waits, and holds `seat` for as long as there is a socket, a tunnel's too.
    pub fn new(inner: T, alarm: Alarm, patience: &Patience, seat: Option<Seat>) -> Self {
        Self { inner, alarm, pace: Pace::new(patience), seat }
    }

    /// The alarm that it sets.
    pub fn alarm(&self) -> Alarm {
        self.alarm.clone()
    }

    /// The socket and its place.
    pub fn into_parts(self) -> (T, Option<Seat>) {
        (self.inner, self.seat)
    }

    fn note(&mut self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &polled {
            Poll::Pending => self.pace.wait(&self.alarm),
            Poll::Ready(written) => {
                if self.pace.pass(&self.alarm, *written.as_ref().unwrap_or(&0)) {
                    self.alarm.stop();
                }
            }
        }
        polled
    }
}

impl<T: Read + Unpin> Read for Patient<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<T: Write + Unpin> Write for Patient<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.note(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write_vectored(cx, pieces);
        self.note(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::super::timer::Wheel;
    use super::*;

    const SECOND: u64 = 1000;

    /// A pace of 30 s and a rate, on a wheel that is turned by hand.
    struct Bench {
        wheel: Wheel,
        alarm: Alarm,
        pace: Pace,
        now: u64,
    }

    impl Bench {
        fn of(rate: u64) -> Self {
            let second = Duration::from_secs(1);
            let patience = Patience { header: second, idle: second, body: 30 * second, rate };
            let wheel = Wheel::default();
            Self { alarm: wheel.alarm(), pace: Pace::new(&patience), wheel, now: 0 }
        }

        /// Waits for so long, unless the alarm rings before.
        fn waits(&mut self, millis: u64) -> bool {
            self.pace.wait(&self.alarm);
            self.passes_time(millis);
            self.pace.wait(&self.alarm);
            let cx = Context::from_waker(std::task::Waker::noop());
            self.alarm.poll(&cx).is_pending()
        }

        fn passes_time(&mut self, millis: u64) {
            self.now += millis;
            self.wheel.tick(self.now);
        }

        fn passes(&mut self, bytes: usize) {
            assert_eq!(self.pace.pass(&self.alarm, bytes), self.alarm.is_set());
            self.alarm.stop();
        }
    }

    #[test]
    fn whoever_stops_has_the_time_of_one_window() {
        let mut bench = Bench::of(240);
        assert!(bench.waits(30 * SECOND));
        assert!(!bench.waits(50), "and the alarm is late by a tick at most");
    }

    #[test]
    fn a_byte_now_and_then_gains_nothing() {
        let mut bench = Bench::of(240);
        assert!(bench.waits(29 * SECOND));
        bench.passes(1);
        assert!(bench.waits(SECOND));
        assert!(!bench.waits(50));
    }

    #[test]
    fn whoever_is_fast_enough_may_go_on_for_ever() {
        let mut bench = Bench::of(240);
        for _ in 0..1000 {
            assert!(bench.waits(29 * SECOND));
            bench.passes(7199);
            bench.passes(1);
        }
    }

    #[test]
    fn only_waiting_counts() {
        let mut bench = Bench::of(240);
        for _ in 0..29 {
            assert!(bench.waits(SECOND));
            bench.passes(1);
            bench.passes_time(1000 * SECOND);
        }
        assert!(bench.waits(SECOND));
        assert!(!bench.waits(50));
    }

    #[test]
    fn without_a_rate_any_byte_will_do() {
        let mut bench = Bench::of(0);
        for _ in 0..1000 {
            assert!(bench.waits(29 * SECOND));
            bench.passes(1);
        }
        assert!(!bench.waits(31 * SECOND));
    }

    #[test]
    fn what_passes_while_nobody_waits_is_no_credit() {
        let mut bench = Bench::of(240);
        bench.passes(1_000_000);
        assert!(bench.waits(29 * SECOND));
        bench.passes(1);
        assert!(bench.waits(SECOND));
        assert!(!bench.waits(50));
    }
}
