//! Plots as SVG: lines over one quantity with the spread of the rounds, readable on light and dark.

use std::fmt::Write;

/// One axis.
pub struct Axis {
    /// What it shows, with its unit.
    pub label: String,
    /// Whether equal ratios have equal lengths.
    pub log: bool,
    /// How a value is written at a tick.
    pub spell: fn(f64) -> String,
    /// Values to mark; none chooses round ones.
    pub ticks: Vec<f64>,
}

/// The median of the rounds at a value, between their lowest and highest.
pub struct Point {
    pub x: f64,
    pub low: f64,
    pub y: f64,
    pub high: f64,
}

/// One line.
pub struct Series {
    pub name: String,
    pub points: Vec<Point>,
}

/// A plot of some lines over the same axes.
pub struct Plot {
    pub title: String,
    pub x: Axis,
    pub y: Axis,
    pub series: Vec<Series>,
}

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 78.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 70.0;
const BOTTOM: f64 = 58.0;

/// Greys and colours in the middle of the scale, which stand out from white and from black.
const INK: &str = "#768390";
const COLOURS: [&str; 6] = ["#2f81f7", "#d9822b", "#2da44e", "#a371f7", "#e5534b", "#768390"];

/// Where values of an axis come to lie, in picture units.
struct Scale {
    low: f64,
    high: f64,
    log: bool,
    from: f64,
    to: f64,
}

impl Scale {
    fn new(axis: &Axis, values: impl Iterator<Item = f64>, from: f64, to: f64) -> Scale {
        let usable = values.filter(|v| v.is_finite() && (!axis.log || *v > 0.0));
        let (mut low, mut high) =
            usable.fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)));
        if low > high {
            (low, high) = (1.0, 10.0);
        }
        if axis.log {
            // Room at both ends, and never nothing between them.
            (low, high) = (low / 1.15, high * 1.15);
        } else {
            low = low.min(0.0);
            high = if high > low { low + (high - low) * 1.05 } else { low + 1.0 };
        }
        Scale { low, high, log: axis.log, from, to }
    }

    fn place(&self, value: f64) -> f64 {
        let share = if self.log {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        self.from + share * (self.to - self.from)
    }

    /// Round values: 1, 2 and 5 times powers of ten, or only the powers where they are many.
    fn ticks(&self) -> Vec<f64> {
        if !self.log {
            let rough = (self.high - self.low) / 5.0;
            let power = 10f64.powf(rough.log10().floor());
            let step = [1.0, 2.0, 5.0, 10.0].map(|s| s * power);
            let step = step.into_iter().find(|s| *s >= rough).unwrap_or(rough);
            let first = (self.low / step).ceil() as i64;
            let last = (self.high / step).floor() as i64;
            return (first..=last).map(|n| n as f64 * step).collect();
        }
        let decades = (self.high / self.low).log10();
        let steps: &[f64] = if decades > 3.5 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let powers = self.low.log10().floor() as i32..=self.high.log10().ceil() as i32;
        let all = powers.flat_map(|power| steps.iter().map(move |s| s * 10f64.powi(power)));
        all.filter(|v| (self.low..=self.high).contains(v)).collect()
    }
}

impl Plot {
    /// The picture.
    pub fn svg(&self) -> String {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let x = Scale::new(&self.x, points().map(|p| p.x), LEFT, WIDTH - RIGHT);
        let heights = points().flat_map(|p| [p.low, p.high]);
        let y = Scale::new(&self.y, heights, HEIGHT - BOTTOM, TOP);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif\" \
             font-size=\"13\" fill=\"{INK}\">\n<title>{0}</title>\n\
             <text x=\"{LEFT}\" y=\"24\" font-size=\"16\" font-weight=\"600\">{0}</text>\n",
            escaped(&self.title)
        );
        self.grid(&mut svg, &x, &y);
        self.legend(&mut svg);
        for (number, series) in self.series.iter().enumerate() {
            line(&mut svg, number, series, &x, &y);
        }
        svg + "</svg>\n"
    }

    /// Both axes with their marks. Writing to a string does not fail, here and below.
    fn grid(&self, svg: &mut String, x: &Scale, y: &Scale) {
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        for value in y.ticks() {
            let at = y.place(value);
            let text = (self.y.spell)(value);
            let _ = writeln!(
                svg,
                "<path d=\"M{LEFT} {at:.1}H{right}\" stroke=\"{INK}\" stroke-opacity=\"0.25\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>",
                LEFT - 8.0,
                at + 4.5
            );
        }
        let given = if self.x.ticks.is_empty() { x.ticks() } else { self.x.ticks.clone() };
        let mut free_from = 0.0;
        for value in given {
            let at = x.place(value);
            let text = (self.x.spell)(value);
            let half = text.chars().count() as f64 * 4.0;
            let _ = writeln!(svg, "<path d=\"M{at:.1} {bottom}v5\" stroke=\"{INK}\"/>");
            // Marks that would lie on their neighbour's text stay without one.
            if at - half > free_from {
                free_from = at + half + 6.0;
                let _ = writeln!(
                    svg,
                    "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{text}</text>",
                    bottom + 20.0
                );
            }
        }
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {TOP}V{bottom}H{right}\" fill=\"none\" stroke=\"{INK}\"/>\n\
             <text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n\
             <text transform=\"translate(18 {}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            (LEFT + right) / 2.0,
            HEIGHT - 14.0,
            escaped(&self.x.label),
            (TOP + bottom) / 2.0,
            escaped(&self.y.label)
        );
    }

    fn legend(&self, svg: &mut String) {
        let mut at = LEFT;
        for (number, series) in self.series.iter().enumerate() {
            let _ = writeln!(
                svg,
                "{}<text x=\"{:.1}\" y=\"50\">{}</text>",
                marker(number, at + 6.0, 45.5),
                at + 17.0,
                escaped(&series.name)
            );
            at += 40.0 + series.name.chars().count() as f64 * 7.0;
        }
    }
}

fn colour(number: usize) -> &'static str {
    COLOURS.get(number % COLOURS.len()).copied().unwrap_or(INK)
}

/// A line with its marks and, where rounds differ, how far.
fn line(svg: &mut String, number: usize, series: &Series, x: &Scale, y: &Scale) {
    let colour = colour(number);
    let mut path = String::new();
    let mut spread = String::new();
    let mut marks = String::new();
    for point in &series.points {
        let (across, up) = (x.place(point.x), y.place(point.y));
        let step = if path.is_empty() { 'M' } else { 'L' };
        let _ = write!(path, "{step}{across:.1} {up:.1}");
        let (low, high) = (y.place(point.low), y.place(point.high));
        let _ = write!(spread, "M{across:.1} {low:.1}V{high:.1}");
        marks += &marker(number, across, up);
    }
    let _ = writeln!(
        svg,
        "<path d=\"{spread}\" stroke=\"{colour}\" stroke-opacity=\"0.45\" stroke-width=\"5\"/>\n\
         <path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" \
         stroke-linejoin=\"round\"/>\n{marks}"
    );
}

/// Lines differ by shape too, for eyes that do not tell the colours apart.
fn marker(number: usize, x: f64, y: f64) -> String {
    let shape = match number % 4 {
        0 => "m-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",
        1 => "m-4 -4h8v8h-8z",
        2 => "m0 -5l5 9h-10z",
        _ => "m0 -5.5l5.5 5.5l-5.5 5.5l-5.5 -5.5z",
    };
    format!("<path d=\"M{x:.1} {y:.1}{shape}\" fill=\"{}\"/>", colour(number))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::count;

    fn axis(log: bool) -> Axis {
        Axis { label: "a < b".into(), log, spell: count, ticks: Vec::new() }
    }

    /// Every point lies within the frame, on both kinds of axes, a zero on a logarithmic one too,
    /// and texts are escaped.
    #[test]
    fn draws_within_the_frame() {
        for (log_x, log_y) in [(true, true), (false, false)] {
            let point = |v: f64| Point { x: v, low: v / 2.0, y: v, high: v * 2.0 };
            let points = vec![point(0.0), point(1.0), point(1e5)];
            let series = vec![Series { name: "one".into(), points }];
            let plot = Plot { title: "t".into(), x: axis(log_x), y: axis(log_y), series };
            let svg = plot.svg();
            assert!(svg.contains("a &lt; b") && !svg.contains("NaN") && !svg.contains("inf"));
            for mark in svg.split("<path d=\"M").skip(1) {
                let number: f64 = mark.split([' ', 'v', 'H']).next().unwrap().parse().unwrap();
                assert!((LEFT - 0.1..=WIDTH).contains(&number), "{mark}");
            }
        }
    }

    /// Ticks are round numbers within the scale.
    #[test]
    fn marks_round_numbers() {
        let scale = Scale::new(&axis(true), [3.0, 70.0].into_iter(), 0.0, 1.0);
        assert_eq!(scale.ticks(), [5.0, 10.0, 20.0, 50.0]);
        let scale = Scale::new(&axis(false), [0.0, 100.0].into_iter(), 0.0, 1.0);
        assert_eq!(scale.ticks(), [0.0, 50.0, 100.0]);
        assert_eq!(Scale::new(&axis(true), [].into_iter(), 0.0, 1.0).place(0.0), 0.0);
    }
}
