//! A stopwatch for a machine that others use too.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

/// What a beat takes at least.
const BEAT: Duration = Duration::from_millis(5);

static BEATS: AtomicU64 = AtomicU64::new(0);
static HEART: OnceLock<()> = OnceLock::new();

/// Counts the turns of a thread that only sleeps: where that one doesn't come to its turn, nothing else could either, and
/// no time has passed.
#[derive(Clone, Copy)]
pub struct Pulse(u64);

impl Pulse {
    /// From now on.
    pub fn start() -> Self {
        HEART.get_or_init(|| {
            thread::spawn(|| {
                loop {
                    thread::sleep(BEAT);
                    BEATS.fetch_add(1, Relaxed);
                }
            });
        });
        Self(BEATS.load(Relaxed))
    }

    /// What has passed since.
    pub fn elapsed(self) -> Duration {
        BEAT * u32::try_from(BEATS.load(Relaxed) - self.0).unwrap_or(u32::MAX)
    }
}
