//! Latencies in a few kilobytes, to three digits.

/// Steps within each doubling: the error is at most 1 in this.
const STEPS: u64 = 256;

/// Counts of values, in steps that grow with them.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    largest: u64,
}

impl Histogram {
    pub(crate) fn new() -> Histogram {
        Histogram { counts: vec![0; index_of(u64::MAX) + 1], total: 0, largest: 0 }
    }

    /// Counts a value.
    pub(crate) fn record(&mut self, value: u64) {
        self.counts[index_of(value)] += 1;
        self.total += 1;
        self.largest = self.largest.max(value);
    }

    /// How many values there are.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// The largest value.
    pub(crate) fn largest(&self) -> u64 {
        self.largest
    }

    /// The value that so large a share of all values, 0 to 1, do not exceed; 0 where there is none.
    pub(crate) fn quantile(&self, share: f64) -> u64 {
        let wanted = ((self.total as f64 * share).ceil() as u64).clamp(1, self.total.max(1));
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return upper_bound(index).min(self.largest);
            }
        }
        0
    }
}

fn index_of(value: u64) -> usize {
    let doublings = u64::from(64 - (value / STEPS).leading_zeros());
    let within = value >> doublings;
    // From the first doubling on, only the upper half of the steps is new.
    let index = if doublings == 0 { value } else { doublings * STEPS / 2 + within };
    index as usize
}

fn upper_bound(index: usize) -> u64 {
    let index = index as u64;
    if index < STEPS {
        return index;
    }
    let doublings = (index - STEPS / 2) / (STEPS / 2);
    let within = index - doublings * (STEPS / 2);
    ((within + 1) << doublings).wrapping_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every value lies at or below its step's bound, and no further than 1 % below it.
    #[test]
    fn steps_are_narrow() {
        for shift in 0..63 {
            for value in [1u64 << shift, (1 << shift) + 1, (2 << shift) - 1, (1 << shift) / 3 * 4] {
                let bound = upper_bound(index_of(value));
                assert!(bound >= value && bound - value <= value / 100, "{value}: {bound}");
            }
        }
    }

    /// Quantiles of the numbers to 1,000 are what one expects of them.
    #[test]
    fn quantiles() {
        let mut histogram = Histogram::new();
        assert_eq!(histogram.quantile(0.5), 0);
        (1..=1_000).for_each(|value| histogram.record(value));
        assert!((500..=504).contains(&histogram.quantile(0.5)));
        assert!((990..=997).contains(&histogram.quantile(0.99)));
        assert_eq!((histogram.quantile(1.0), histogram.total()), (1_000, 1_000));
    }
}
