//! The config of metrics.

/// `[metrics]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// `per_stream`: metrics of each stream and its formats. Default false.
    pub per_stream: bool,
    /// `max_series`: limit of the number of time series about streams, 100 to 1000000. Default 20000.
    pub max_series: usize,
}

impl Metrics {
    /// Returns the limit of the number of series about streams: 0 if there are none.
    pub fn max_series(self) -> usize {
        if self.per_stream { self.max_series } else { 0 }
    }
}
