//! Registers metrics, and resolves their children while nobody is waiting.

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    Result,
};

/// The registry while it is filled. Names and labels are constants of this program, so what prometheus reports here
/// is a mistake that the first test meets: hence its `expect`.
pub(super) struct Book(Registry);

impl Book {
    /// Opens one that begins with what is true of any process.
    pub(super) fn new() -> Self {
        let book = Self(Registry::new());
        book.build_info();
        book.process();
        book
    }

    /// Closes it; what was entered can be gathered from now on.
    pub(super) fn close(self) -> Registry {
        self.0
    }

    fn enter<M: Collector + Clone + 'static>(&self, metric: Result<M>) -> M {
        let metric = metric.expect("names, labels and buckets are valid constants");
        self.0.register(Box::new(metric.clone())).expect("each name is registered once");
        metric
    }

    pub(super) fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.enter(IntCounter::new(name, help))
    }

    pub(super) fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.enter(IntGauge::new(name, help))
    }

    pub(super) fn counter_family(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.enter(IntCounterVec::new(Opts::new(name, help), labels))
    }

    pub(super) fn counters<const N: usize>(
        &self,
        name: &str,
        help: &str,
        label: &str,
        values: [&str; N],
    ) -> [IntCounter; N] {
        let family = self.counter_family(name, help, &[label]);
        values.map(|value| family.with_label_values(&[value]))
    }

    pub(super) fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        self.enter(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec())))
    }

    pub(super) fn histograms<const N: usize>(
        &self,
        name: &str,
        help: &str,
        label: &str,
        values: [&str; N],
        buckets: &[f64],
    ) -> [Histogram; N] {
        let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        let family = self.enter(HistogramVec::new(opts, &[label]));
        values.map(|value| family.with_label_values(&[value]))
    }

    fn build_info(&self) {
        let opts = Opts::new("coatroom_build_info", "Always 1; the label is the program's version.");
        self.enter(IntGaugeVec::new(opts, &["version"]))
            .with_label_values(&[env!("CARGO_PKG_VERSION")])
            .set(1);
    }

    /// `process_*`: memory, processor time in whole seconds, file descriptors; Linux only.
    fn process(&self) {
        #[cfg(target_os = "linux")]
        {
            let process = prometheus::process_collector::ProcessCollector::for_self();
            self.0.register(Box::new(process)).expect("each name is registered once");
        }
    }
}
