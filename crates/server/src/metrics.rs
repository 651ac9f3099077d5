//! What the server counts, in the text form of OpenMetrics 1.0, which Prometheus reads.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Bounds of the classes of times, in seconds.
const BOUNDS: [f64; 9] = [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    method: &'static str,
    path: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Path {
    path: &'static str,
}

/// What is counted.
pub struct Metrics {
    registry: Registry,
    calls: Family<Of, Counter>,
    took: Family<Path, Histogram, fn() -> Histogram>,
    pub(crate) handshakes: Counter,
    pub(crate) refused: Counter,
}

impl Metrics {
    /// Nothing yet.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("goldleaf");
        let calls = Family::default();
        let took: Family<Path, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(BOUNDS));
        let (handshakes, refused) = (Counter::default(), Counter::default());
        registry.register("calls", "Calls, by what was answered", calls.clone());
        registry.register("call_seconds", "How long calls took", took.clone());
        registry.register("handshakes", "TLS handshakes that came to an end", handshakes.clone());
        registry.register("refused", "Connections that did not", refused.clone());
        Self { registry, calls, took, handshakes, refused }
    }

    pub(crate) fn count(
        &self,
        method: &'static str,
        path: &'static str,
        status: u16,
        took: Duration,
    ) {
        self.calls.get_or_create(&Of { method, path, status }).inc();
        self.took.get_or_create(&Path { path }).observe(took.as_secs_f64());
    }

    /// All of it as text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // A text takes whatever is written into it.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
