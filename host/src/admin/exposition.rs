//! The text format of Prometheus, version 0.0.4.
//!
//! Written here and not by a crate: `docs/decisions/metrics-are-read-when-they-are-asked-for.md` has the reasons.

use std::fmt::{Display, Write};

use crate::policy::Histogram;

/// The type of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A value that rises and falls.
    Gauge,
    /// A value that rises.
    Counter,
    /// Numbers of values up to bounds.
    Histogram,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
            Kind::Histogram => "histogram",
        }
    }
}

/// A page of metrics.
#[derive(Debug, Default)]
pub(super) struct Page {
    text: String,
}

/// The family of metrics to which samples are added.
pub(super) struct Family<'a> {
    page: &'a mut String,
    name: &'static str,
    labels: &'static [&'static str],
}

impl Page {
    /// Begins a family whose samples have these labels. Its name, type and help stand there also without samples.
    pub(super) fn family(
        &mut self,
        kind: Kind,
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Family<'_> {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {}", kind.name());
        Family { page: &mut self.text, name, labels }
    }

    /// Adds a gauge without labels.
    pub(super) fn gauge(&mut self, name: &'static str, value: impl Display, help: &'static str) {
        self.family(Kind::Gauge, name, &[], help).add([], value);
    }

    /// Adds a counter without labels.
    pub(super) fn counter(&mut self, name: &'static str, value: impl Display, help: &'static str) {
        self.family(Kind::Counter, name, &[], help).add([], value);
    }

    /// Returns the text.
    pub(super) fn text(self) -> String {
        self.text
    }
}

impl Family<'_> {
    /// Adds a sample. Labels with an empty value are left out, which means the same.
    pub(super) fn add<const N: usize>(&mut self, values: [&str; N], value: impl Display) -> &mut Self {
        let labels = self.labels(values);
        self.sample("", &labels, "", value)
    }

    /// Adds a histogram, unless it is empty.
    pub(super) fn add_histogram<const N: usize, const B: usize>(
        &mut self,
        values: [&str; N],
        histogram: &Histogram<B>,
    ) -> &mut Self {
        let count = histogram.count();
        if count == 0 {
            return self;
        }
        let labels = self.labels(values);
        for (bound, below) in histogram.buckets() {
            // A time that comes meanwhile must not be in a bucket alone.
            self.sample("_bucket", &labels, &format!("le=\"{bound}\""), below.min(count));
        }
        self.sample("_bucket", &labels, "le=\"+Inf\"", count);
        self.sample("_sum", &labels, "", histogram.sum());
        self.sample("_count", &labels, "", count)
    }

    fn labels<const N: usize>(&self, values: [&str; N]) -> String {
        debug_assert_eq!(self.labels.len(), N, "{}", self.name);
        let mut labels = String::new();
        for (name, value) in self.labels.iter().zip(values).filter(|(_, value)| !value.is_empty()) {
            let separator = if labels.is_empty() { "" } else { "," };
            let _ = write!(labels, "{separator}{name}=\"{}\"", Escaped(value));
        }
        labels
    }

    fn sample(&mut self, suffix: &str, labels: &str, bound: &str, value: impl Display) -> &mut Self {
        let name = self.name;
        let separator = if labels.is_empty() || bound.is_empty() { "" } else { "," };
        let _ = match labels.len() + bound.len() {
            0 => writeln!(self.page, "{name}{suffix} {value}"),
            _ => writeln!(self.page, "{name}{suffix}{{{labels}{separator}{bound}}} {value}"),
        };
        self
    }
}

/// A label's value: backslash, quote and line feed are escaped, all else may stand there.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.chars().try_for_each(|character| match character {
            '\\' => f.write_str("\\\\"),
            '"' => f.write_str("\\\""),
            '\n' => f.write_str("\\n"),
            other => f.write_char(other),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn writes_families_samples_and_histograms() {
        let histogram = Histogram::new(&[0.1, 1.0]);
        for millis in [50, 500, 5000] {
            histogram.add(Duration::from_millis(millis));
        }
        let mut page = Page::default();
        page.gauge("up", 1, "One.");
        page.family(Kind::Counter, "seen_total", &["who", "how"], "Two.")
            .add(["a\"b\\c\nd\u{e9}", "x"], 2)
            .add(["", "y"], 0.5);
        page.family(Kind::Histogram, "seconds", &["who"], "Three.")
            .add_histogram(["a"], &histogram)
            .add_histogram(["b"], &Histogram::new(&[1.0]));
        let expected = [
            "# HELP up One.",
            "# TYPE up gauge",
            "up 1",
            "# HELP seen_total Two.",
            "# TYPE seen_total counter",
            "seen_total{who=\"a\\\"b\\\\c\\nd\u{e9}\",how=\"x\"} 2",
            "seen_total{how=\"y\"} 0.5",
            "# HELP seconds Three.",
            "# TYPE seconds histogram",
            "seconds_bucket{who=\"a\",le=\"0.1\"} 1",
            "seconds_bucket{who=\"a\",le=\"1\"} 2",
            "seconds_bucket{who=\"a\",le=\"+Inf\"} 3",
            "seconds_sum{who=\"a\"} 5.55",
            "seconds_count{who=\"a\"} 3",
        ];
        assert_eq!(page.text().lines().collect::<Vec<_>>(), expected);
    }
}
