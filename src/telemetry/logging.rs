//! Logs by `tracing`, on standard error: for people on a terminal, JSON otherwise.
//!
//! One event is one line, whatever is in its values: `escape` sees to it.
//!
//! JSON puts an event's fields beside its own, so none may be called `timestamp`, `level`, `target` or `span`.

use std::io::{self, IsTerminal as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::fmt::format::debug_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use super::escape::{Json, write_field};
use crate::time::{Stopwatch, millis};

/// `[log]`: what is written to standard error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `error`, `warn`, `info`, `debug`, `trace`, or directives such as `info,coatroom::store=debug`.
    pub level: String,
    /// `auto` (text on a terminal, JSON otherwise), `text` or `json`.
    pub format: Format,
    /// One event a request.
    pub access: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: Format::Auto, access: false }
    }
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// Why logging could not begin, or change.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The level can't be read.
    #[error("log.level: {0}")]
    Level(String),
    /// Somebody else's logging is there already; a process has one.
    #[error("logging was installed before")]
    Installed,
    /// The logging that this handle belonged to is gone.
    #[error("logging is gone")]
    Gone,
}

/// Begins to log, for the rest of the process.
///
/// Colours are for a terminal only, and not where `NO_COLOR` is set. A standard error that can't be written to
/// loses lines and stops nothing: logging is never why a request fails.
///
/// # Errors
/// When `log.level` can't be read, or logging was installed before.
pub fn init(config: &Config) -> Result<Reload, Error> {
    let terminal = io::stderr().is_terminal();
    let json = match config.format {
        Format::Auto => !terminal,
        Format::Text => false,
        Format::Json => true,
    };
    let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
    let (filter, reload) = reloadable(&config.level)?;
    let lines = if json { json_lines(io::stderr) } else { text_lines(io::stderr, colours) };
    tracing_subscriber::registry().with(filter).with(lines).try_init().map_err(|_| Error::Installed)?;
    Ok(reload)
}

/// Says whether `log.level` can be read.
///
/// # Errors
/// Says what is wrong, without naming the setting. A bare word that is no level is refused, although `EnvFilter`
/// takes it for a target: `inof` would log nothing at all, and nobody would be told.
pub fn check_level(level: &str) -> Result<(), String> {
    filter(level).map(drop)
}

/// Changes what is logged while the program runs.
#[derive(Clone, Debug)]
pub struct Reload(reload::Handle<EnvFilter, Registry>);

impl Reload {
    /// Logs by another `log.level` from now on; one that can't be read changes nothing.
    ///
    /// # Errors
    /// When the level can't be read.
    pub fn level(&self, level: &str) -> Result<(), Error> {
        self.0.reload(filter(level).map_err(Error::Level)?).map_err(|_| Error::Gone)
    }
}

fn reloadable(level: &str) -> Result<(reload::Layer<EnvFilter, Registry>, Reload), Error> {
    let (filter, handle) = reload::Layer::new(filter(level).map_err(Error::Level)?);
    Ok((filter, Reload(handle)))
}

fn filter(level: &str) -> Result<EnvFilter, String> {
    const HELP: &str =
        "write error, warn, info, debug, trace or off, or directives such as info,coatroom::store=debug";
    let directives: Vec<_> =
        level.split(',').map(str::trim).filter(|directive| !directive.is_empty()).collect();
    let unknown =
        |directive: &&&str| !directive.contains(['=', '[']) && directive.parse::<LevelFilter>().is_err();
    if directives.is_empty() {
        return Err(format!("is empty: {HELP}"));
    }
    if let Some(unknown) = directives.iter().find(unknown) {
        return Err(format!("{unknown:?} is no level: {HELP}"));
    }
    // Regular expressions on fields are off: nobody needs one, and `.` in a value means a dot.
    let filter = EnvFilter::builder().with_regex(false).parse(directives.join(","));
    filter.map_err(|error| format!("{level:?} can't be read ({error}): {HELP}"))
}

/// Lines for machines: a JSON object each, the event's fields beside `timestamp` (UTC), `level` and `target`.
fn json_lines<S, W>(open: fn() -> W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: io::Write + 'static,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(move || Json(open())).log_internal_errors(false);
    layer.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed()
}

/// Lines for people. Not `log_internal_errors`: it reports with `eprintln!`, which panics when standard error is gone.
fn text_lines<S, W>(open: fn() -> W, colours: bool) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: io::Write + 'static,
{
    let fields = debug_fn(write_field).delimited(" ");
    let layer = tracing_subscriber::fmt::layer().with_writer(open).log_internal_errors(false);
    layer.with_ansi(colours).fmt_fields(fields).boxed()
}

/// Lets one line a second through, so that an outage is told of and doesn't fill the disk.
///
/// The lines held back are counted and told of by the next one that passes; those after the last are never told of.
#[derive(Debug)]
pub struct Limited {
    watch: Stopwatch,
    /// Milliseconds on the watch before which nothing passes.
    closed_until: AtomicU64,
    suppressed: AtomicU64,
}

impl Limited {
    const INTERVAL: Duration = Duration::from_secs(1);

    /// Makes one that lets the next line through.
    pub fn new() -> Self {
        Self { watch: Stopwatch::start(), closed_until: AtomicU64::new(0), suppressed: AtomicU64::new(0) }
    }

    /// Asks whether to log now: `None` is no; `Some(n)` is yes, and `n` lines were held back since the last yes.
    pub fn allow(&self) -> Option<u64> {
        self.allow_at(self.watch.elapsed())
    }

    fn allow_at(&self, now: Duration) -> Option<u64> {
        let until = self.closed_until.load(Ordering::Relaxed);
        let next = millis(now + Self::INTERVAL);
        // Of several that come at the same time one closes the door; the others find it closed.
        let passes = millis(now) >= until
            && self.closed_until.compare_exchange(until, next, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if passes {
            return Some(self.suppressed.swap(0, Ordering::Relaxed));
        }
        self.suppressed.fetch_add(1, Ordering::Relaxed);
        None
    }
}

impl Default for Limited {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::process::{Command, Stdio};
    use std::sync::Arc;
    use std::thread;

    use super::super::escape::steers;
    use super::*;

    thread_local! {
        /// What this test's subscriber has written; each test is a thread.
        static WRITTEN: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }

    struct Memory;

    impl io::Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            WRITTEN.with_borrow_mut(|written| written.extend_from_slice(bytes));
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written() -> String {
        String::from_utf8(WRITTEN.take()).unwrap()
    }

    /// Everything that could end a line or steer a terminal, in each kind of value.
    fn log_nasty_values() {
        let nasty = "a\n\r\x1b[31m\u{7}\u{7f}\u{9b}2J\u{202e}b \"quoted\" é";
        let _span = tracing::info_span!("request", path = %nasty).entered();
        tracing::warn!(shown = %nasty, debugged = ?nasty, plain = nasty, count = 3, "message {nasty}");
    }

    #[test]
    fn an_event_is_one_line_of_text_whatever_is_in_it() {
        let subscriber = tracing_subscriber::registry().with(text_lines(|| Memory, false));
        tracing::subscriber::with_default(subscriber, log_nasty_values);
        let text = written();
        let line = text.strip_suffix('\n').unwrap();
        assert!(!line.contains(steers), "{line:?}");
        assert!(line.contains(r#"message a\n\r\u{1b}[31m\u{7}\u{7f}\u{9b}2J\u{202e}b "quoted" é"#), "{line}");
        assert!(
            line.contains(r#"shown=a\n\r\u{1b}[31m"#) && line.contains(r#"plain="a\n\r\u{1b}[31m"#),
            "{line}"
        );
        assert!(line.contains(r#"request{path=a\n"#) && line.contains(" count=3"), "{line}");
        assert!(line.contains(" WARN "), "{line}");
    }

    #[test]
    fn an_event_is_one_json_object_whatever_is_in_it() {
        let subscriber = tracing_subscriber::registry().with(json_lines(|| Memory));
        tracing::subscriber::with_default(subscriber, log_nasty_values);
        let text = written();
        let line = text.strip_suffix('\n').unwrap();
        assert!(!line.contains(steers), "{line:?}");
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(event["shown"], "a\n\r\x1b[31m\u{7}\u{7f}\u{9b}2J\u{202e}b \"quoted\" é");
        assert_eq!((&event["level"], &event["count"]), (&"WARN".into(), &3.into()));
        assert!(event["timestamp"].as_str().unwrap().ends_with('Z'), "{line}");
        assert!(event["message"].as_str().unwrap().starts_with("message a\n"), "{line}");
        assert!(event["span"]["path"].as_str().unwrap().starts_with("a\n"), "{line}");
    }

    #[test]
    fn colours_are_ours_alone() {
        let subscriber = tracing_subscriber::registry().with(text_lines(|| Memory, true));
        tracing::subscriber::with_default(subscriber, || tracing::info!(path = %"\x1b[31mred", "hello"));
        let line = written();
        assert!(line.contains("\x1b[3mpath\x1b[0m\x1b[2m=\x1b[0m\\u{1b}[31mred"), "{line:?}");
    }

    #[test]
    fn levels_are_checked_more_strictly_than_env_filter_does() {
        for good in
            ["info", "WARN", "off", "info,coatroom::store=debug", " info , hyper=off ", "[request]=trace"]
        {
            assert_eq!(check_level(good), Ok(()), "{good}");
        }
        for bad in ["", ",", "inof", "coatroom::store", "info,verbose", "coatroom=loud", "[request"] {
            assert!(check_level(bad).is_err(), "{bad}");
        }
        let error = reloadable("inof").err().unwrap().to_string();
        assert!(error.starts_with("log.level: \"inof\" is no level: write error, warn"), "{error}");
    }

    #[test]
    fn the_level_can_change_while_the_program_runs() {
        let (filter, reload) = reloadable("warn").unwrap();
        let subscriber = tracing_subscriber::registry().with(filter).with(text_lines(|| Memory, false));
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("before");
            reload.level("info").unwrap();
            tracing::info!("after");
            assert!(matches!(reload.level("inof"), Err(Error::Level(_))));
            tracing::info!("still");
        });
        let lines = written();
        assert!(!lines.contains("before") && lines.contains("after") && lines.contains("still"), "{lines}");
        assert!(matches!(reload.level("info"), Err(Error::Gone)));
    }

    /// A process has one logging: this test runs itself again, as a process of its own, where the variable is set.
    #[test]
    fn a_process_logs_once_and_survives_its_reader() {
        const INSIDE: &str = "COATROOM_TEST_LOGGING";
        if std::env::var_os(INSIDE).is_some() {
            // Not before the other side has let go, or not, of what is written here.
            io::read_to_string(io::stdin()).unwrap();
            init(&Config { level: "warn".to_owned(), ..Config::default() }).unwrap();
            assert!(matches!(init(&Config::default()), Err(Error::Installed)));
            tracing::info!("not this");
            tracing::warn!(store = "redis", "this");
            return;
        }
        let run = || {
            Command::new(std::env::current_exe().unwrap())
                .args([
                    "--exact",
                    "--nocapture",
                    "telemetry::logging::tests::a_process_logs_once_and_survives_its_reader",
                ])
                .env(INSIDE, "1")
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        };
        let heard = run().wait_with_output().unwrap();
        let line = String::from_utf8(heard.stderr).unwrap();
        let event: serde_json::Value =
            serde_json::from_str(&line).expect("one line of JSON where no terminal is");
        assert_eq!((&event["message"], &event["store"]), (&"this".into(), &"redis".into()));
        assert!(heard.status.success());

        let mut unheard = run();
        drop(unheard.stderr.take());
        assert!(unheard.wait().unwrap().success(), "a reader that is gone stops nothing");
    }

    #[test]
    fn one_line_a_second_passes_and_tells_of_the_others() {
        let limited = Limited::new();
        let at = |millis| limited.allow_at(Duration::from_millis(millis));
        assert_eq!(at(0), Some(0));
        assert_eq!(at(0), None);
        assert_eq!(at(999), None);
        assert_eq!(at(1000), Some(2));
        assert_eq!(at(1001), None);
        assert_eq!(at(60_000), Some(1));
        assert_eq!(at(61_000), Some(0));
    }

    #[test]
    fn of_several_threads_one_passes_and_no_line_is_forgotten() {
        let limited = Arc::new(Limited::new());
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let limited = Arc::clone(&limited);
                thread::spawn(move || {
                    (0..1000).filter_map(|_| limited.allow_at(Duration::ZERO)).collect::<Vec<_>>()
                })
            })
            .collect();
        let passed: Vec<u64> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        let later = limited.allow_at(Duration::from_secs(1)).unwrap();
        assert_eq!((passed.len(), passed[0] + later), (1, 3999));
    }
}
