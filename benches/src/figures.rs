//! The figures of the rounds, and how figures are written.

/// One figure from each round.
#[derive(Clone, Default)]
pub struct Figures(Vec<f64>);

impl Figures {
    /// Adds the figure of a round.
    pub fn push(&mut self, figure: f64) {
        self.0.push(figure);
        self.0.sort_by(f64::total_cmp);
    }

    /// The middle one.
    pub fn median(&self) -> f64 {
        self.0.get(self.0.len() / 2).copied().unwrap_or(0.0)
    }

    /// The lowest one.
    pub fn low(&self) -> f64 {
        self.0.first().copied().unwrap_or(0.0)
    }

    /// The highest one.
    pub fn high(&self) -> f64 {
        self.0.last().copied().unwrap_or(0.0)
    }
}

/// The middle of some figures.
pub fn median(all: impl IntoIterator<Item = f64>) -> f64 {
    let mut figures = Figures::default();
    all.into_iter().for_each(|figure| figures.push(figure));
    figures.median()
}

/// A figure with three digits that mean something.
pub fn short(figure: f64) -> String {
    match figure.abs() {
        f if f >= 999.5e6 => format!("{:.2}G", figure / 1e9),
        f if f >= 99.95e6 => format!("{:.0}M", figure / 1e6),
        f if f >= 9.995e6 => format!("{:.1}M", figure / 1e6),
        f if f >= 999.5e3 => format!("{:.2}M", figure / 1e6),
        f if f >= 99.95e3 => format!("{:.0}k", figure / 1e3),
        f if f >= 9_999.5 => format!("{:.1}k", figure / 1e3),
        f if f >= 99.95 => format!("{figure:.0}"),
        f if f >= 9.995 => format!("{figure:.1}"),
        _ => format!("{figure:.2}"),
    }
}

/// A size in bytes, in the powers of two that sizes are chosen in.
pub fn bytes(size: f64) -> String {
    match size {
        s if s >= 1048576.0 => format!("{} MiB", s / 1048576.0),
        s if s >= 1024.0 => format!("{} KiB", s / 1024.0),
        s => format!("{s} B"),
    }
}

/// A count without unneeded digits: 1, 250, 2.5k, 100k.
pub fn count(number: f64) -> String {
    match number.abs() {
        n if n >= 1e9 => format!("{}G", number / 1e9),
        n if n >= 1e6 => format!("{}M", number / 1e6),
        n if n >= 1e3 => format!("{}k", number / 1e3),
        _ => format!("{}", (number * 1e6).round() / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Figures keep three digits at every size, and no rounding makes a fourth.
    #[test]
    fn writes_three_digits() {
        let cases = [
            (0.0, "0.00"),
            (1.234, "1.23"),
            (9.996, "10.0"),
            (99.96, "100"),
            (1234.0, "1234"),
            (12_345.0, "12.3k"),
            (999_600.0, "1.00M"),
            (12_340_000.0, "12.3M"),
            (2_500_000_000.0, "2.50G"),
            (-70.04, "-70.0"),
        ];
        for (figure, text) in cases {
            assert_eq!(short(figure), text);
        }
    }

    /// The median is the middle one of what came in any order.
    #[test]
    fn finds_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([]), 0.0);
        assert_eq!(bytes(1536.0), "1.5 KiB");
        assert_eq!(count(2_500.0), "2.5k");
    }
}
