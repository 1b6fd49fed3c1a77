//! The text format of Prometheus, version 0.0.4.

use std::fmt::{Display, Write};

use kimberlite_engine::Histogram;

/// A page of metrics under way.
#[derive(Debug, Default)]
pub(super) struct Text {
    out: String,
    name: &'static str,
}

/// How a metric behaves.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// Labels with their values, which hold no character that would need escaping.
pub(super) type Labels<'a> = &'a [(&'a str, &'a str)];

impl Text {
    /// Begins a metric.
    pub(super) fn metric(&mut self, name: &'static str, kind: Kind, help: &str) {
        self.name = name;
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(self.out, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// Adds a value of it.
    pub(super) fn value(&mut self, labels: Labels<'_>, value: impl Display) {
        self.line("", labels, None, value);
    }

    /// A metric with one value.
    pub(super) fn single(
        &mut self,
        name: &'static str,
        kind: Kind,
        help: &str,
        value: impl Display,
    ) {
        self.metric(name, kind, help);
        self.value(&[], value);
    }

    /// Adds a histogram, whose values are shown divided by `unit`.
    pub(super) fn histogram(&mut self, labels: Labels<'_>, histogram: &Histogram, unit: f64) {
        let (at_most, count) = histogram.cumulative();
        for (bound, below) in at_most {
            let bound = (bound as f64 / unit).to_string();
            self.line("_bucket", labels, Some(&bound), below);
        }
        self.line("_bucket", labels, Some("+Inf"), count);
        self.line("_sum", labels, None, histogram.sum() as f64 / unit);
        self.line("_count", labels, None, count);
    }

    fn line(&mut self, suffix: &str, labels: Labels<'_>, bound: Option<&str>, value: impl Display) {
        let _ = write!(self.out, "{}{suffix}", self.name);
        let bound = bound.map(|bound| ("le", bound));
        for (place, (label, text)) in labels.iter().copied().chain(bound).enumerate() {
            let open = if place == 0 { '{' } else { ',' };
            let _ = write!(self.out, "{open}{label}=\"{text}\"");
        }
        let close = if labels.is_empty() && bound.is_none() { "" } else { "}" };
        let _ = writeln!(self.out, "{close} {value}");
    }

    /// The page.
    pub(super) fn finish(self) -> String {
        self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values, labels and histograms look as the format wants them.
    #[test]
    fn writes_the_format() {
        let mut text = Text::default();
        text.single("a_total", Kind::Counter, "How many.", 3);
        text.metric("b", Kind::Gauge, "Which.");
        text.value(&[("x", "1"), ("y", "z")], 0.5);
        let histogram = Histogram::of_durations();
        histogram.observe(60);
        text.metric("c_seconds", Kind::Histogram, "How long.");
        text.histogram(&[("x", "1")], &histogram, 1e6);
        let text = text.finish();
        assert!(text.starts_with("# HELP a_total How many.\n# TYPE a_total counter\na_total 3\n"));
        assert!(text.contains("b{x=\"1\",y=\"z\"} 0.5\n"));
        assert!(text.contains("c_seconds_bucket{x=\"1\",le=\"0.00005\"} 0\n"), "{text}");
        assert!(text.contains("c_seconds_bucket{x=\"1\",le=\"0.0001\"} 1\n"));
        assert!(text.contains("c_seconds_bucket{x=\"1\",le=\"+Inf\"} 1\n"));
        assert!(text.ends_with("c_seconds_sum{x=\"1\"} 0.00006\nc_seconds_count{x=\"1\"} 1\n"));
    }
}
