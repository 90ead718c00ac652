//! A reader of the text format of Prometheus.

use std::collections::BTreeMap;

use crate::host::Host;

/// A page of metrics.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Type and help of each family, by name.
    pub families: BTreeMap<String, (String, String)>,
    /// Values by series: the name and the sorted labels.
    pub samples: BTreeMap<Series, f64>,
}

/// A series: the name and the labels.
pub type Series = (String, BTreeMap<String, String>);

impl Metrics {
    /// Reads the page of a host.
    ///
    /// # Panics
    /// When the API does not answer, or the page breaks the format.
    #[must_use]
    pub fn of(host: &Host) -> Metrics {
        Metrics::parse(&host.api_page("/metrics"))
    }

    /// Parses a page.
    ///
    /// # Panics
    /// When it breaks the format, or has a series twice.
    #[must_use]
    pub fn parse(page: &str) -> Metrics {
        let mut metrics = Metrics::default();
        let mut help = String::new();
        for line in page.lines() {
            if let Some(text) = line.strip_prefix("# HELP ") {
                help = text.split_once(' ').expect("a name and its help").1.to_owned();
            } else if let Some(text) = line.strip_prefix("# TYPE ") {
                let (name, kind) = text.split_once(' ').expect("a name and its type");
                let before = metrics.families.insert(name.to_owned(), (kind.to_owned(), help.clone()));
                assert!(before.is_none(), "{name} twice");
            } else {
                let (series, value) = line.rsplit_once(' ').expect("a series and its value");
                let value = value.parse().unwrap_or_else(|error| panic!("{error}: {line}"));
                let before = metrics.samples.insert(parse_series(series), value);
                assert!(before.is_none(), "twice: {line}");
            }
        }
        metrics
    }

    /// Returns the value of a series, whose labels are `(name, value)`; `None` if there is none.
    #[must_use]
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.samples.get(&(name.to_owned(), labels)).copied()
    }

    /// Returns the sum of all series of a name.
    #[must_use]
    pub fn sum(&self, name: &str) -> f64 {
        self.samples.iter().filter(|((own, _), _)| own == name).map(|(_, value)| value).sum()
    }

    /// Returns the family of a series: its name, for those of a histogram without the suffix.
    #[must_use]
    pub fn family<'a>(&self, series: &'a str) -> &'a str {
        let stems = ["_bucket", "_sum", "_count"].iter().filter_map(|suffix| series.strip_suffix(suffix));
        stems.into_iter().find(|stem| self.families.contains_key(*stem)).unwrap_or(series)
    }
}

fn parse_series(text: &str) -> Series {
    let Some((name, labels)) = text.split_once('{') else { return (text.to_owned(), BTreeMap::new()) };
    let mut rest = labels.strip_suffix('}').expect("labels end with }");
    let mut labels = BTreeMap::new();
    while !rest.is_empty() {
        let (label, value) = rest.split_once("=\"").expect("a label has a value");
        let mut parsed = String::new();
        let mut characters = value.char_indices();
        let end = loop {
            let (at, character) = characters.next().expect("a value ends with a quote");
            match character {
                '"' => break at,
                '\\' => parsed.push(match characters.next().expect("an escape has two characters").1 {
                    'n' => '\n',
                    other => other,
                }),
                other => parsed.push(other),
            }
        };
        let before = labels.insert(label.to_owned(), parsed);
        assert!(before.is_none(), "{label} twice in {text}");
        rest = value[end + 1..].trim_start_matches(',');
    }
    (name.to_owned(), labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_escaped_labels() {
        let page = "# HELP a Two words.\n# TYPE a gauge\na{x=\"1\\\"\\\\\\n,}\",y=\"2\"} 0.5\na 3\n";
        let metrics = Metrics::parse(page);
        assert_eq!(metrics.families["a"], ("gauge".to_owned(), "Two words.".to_owned()));
        assert_eq!(metrics.value("a", &[("y", "2"), ("x", "1\"\\\n,}")]), Some(0.5));
        assert_eq!((metrics.value("a", &[]), metrics.sum("a")), (Some(3.0), 3.5));
    }
}
