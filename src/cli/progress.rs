//! What is seen of work that takes its time.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// How often what turns on a terminal turns.
const TICK: Duration = Duration::from_millis(100);

/// Something that turns, and counts what was `done`. It draws on a terminal only.
pub(super) fn spinner(done: &str) -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    let style =
        ProgressStyle::with_template(&format!("{{spinner}} {{human_pos}} {done}, {{per_sec}}, {{elapsed}}"));
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar.enable_steady_tick(TICK);
    bar
}
