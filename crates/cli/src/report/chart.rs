//! The parts that all charts share: axes, the frame, marks, and the places of labels.
//!
//! A chart is SVG of fixed size in its own coordinates; its colours are the page's, by class.

use maud::{Markup, html};

/// Size of a chart in its own coordinates.
const SIZE: (f64, f64) = (600.0, 340.0);
/// The plotted area: left, top, right, bottom.
pub(super) const AREA: [f64; 4] = [72.0, 30.0, 586.0, 288.0];
/// Colours that the page has for series.
const COLOURS: usize = 6;
/// Roughly the width of a letter of a label.
const LETTER: f64 = 6.2;

/// One axis: what it spans and where its marks stand.
pub(super) struct Axis {
    low: f64,
    high: f64,
    /// The distance of two marks.
    step: f64,
    /// What the axis shows, with its unit.
    pub(super) label: String,
    /// How a mark is written, given the distance of two.
    write: fn(f64, f64) -> String,
}

impl Axis {
    /// An axis over `low` to `high` and not further.
    pub(super) fn exact(low: f64, high: f64, label: &str, write: fn(f64, f64) -> String) -> Self {
        let step = step((high - low) / 7.0);
        Self { low, high, step, label: label.to_owned(), write }
    }

    /// An axis that begins and ends at a mark. Values that are all alike stand in its middle.
    pub(super) fn around(
        values: impl Iterator<Item = f64>,
        label: &str,
        write: fn(f64, f64) -> String,
    ) -> Self {
        let (mut low, mut high) =
            values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        if low >= high {
            let reach = if low == 0.0 { 1.0 } else { 0.1 * low.abs() };
            (low, high) = (low - reach, low + reach);
        }
        let step = step((high - low) / 4.0);
        // A hair less, so that a value on a mark does not reach for the next one.
        let (low, high) = ((low / step + 1e-9).floor() * step, (high / step - 1e-9).ceil() * step);
        Self { low, high, step, label: label.to_owned(), write }
    }

    fn marks(&self) -> Vec<f64> {
        let first = (self.low / self.step - 1e-9).ceil();
        let last = (self.high / self.step + 1e-9).floor();
        (0..=(last - first) as usize).map(|i| (first + i as f64) * self.step).collect()
    }

    /// Where a value lies, 0 to 1.
    fn share(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }
}

/// The least of 1, 2, 5, 10, ... times a power of ten that is at least `rough`.
fn step(rough: f64) -> f64 {
    let power = 10_f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0]
        .into_iter()
        .map(|digit| digit * power)
        .find(|s| *s >= rough * 0.999)
        .unwrap_or(10.0 * power)
}

/// The two axes of a chart.
pub(super) struct Frame {
    pub(super) x: Axis,
    pub(super) y: Axis,
}

impl Frame {
    /// The place of a value pair.
    pub(super) fn at(&self, x: f64, y: f64) -> (f64, f64) {
        let [left, top, right, bottom] = AREA;
        (left + self.x.share(x) * (right - left), bottom - self.y.share(y) * (bottom - top))
    }

    /// The chart: axes, `behind` them, and the content. `summary` is for those who do not see it.
    pub(super) fn draw(&self, summary: &str, behind: &Markup, content: &Markup) -> Markup {
        let [left, top, right, bottom] = AREA;
        html! {
            div.plot {
                svg viewBox=(format!("0 0 {} {}", SIZE.0, SIZE.1)) role="img" aria-label=(summary) {
                    (behind)
                    @for mark in self.y.marks() {
                        @let (_, y) = self.at(self.x.low, mark);
                        line.grid x1=(px(left)) x2=(px(right)) y1=(px(y)) y2=(px(y)) {}
                        text x=(px(left - 8.0)) y=(px(y + 4.0)) text-anchor="end" { ((self.y.write)(mark, self.y.step)) }
                    }
                    @for mark in self.x.marks() {
                        @let (x, _) = self.at(mark, self.y.low);
                        line.axis x1=(px(x)) x2=(px(x)) y1=(px(bottom)) y2=(px(bottom + 5.0)) {}
                        text x=(px(x)) y=(px(bottom + 19.0)) text-anchor="middle" { ((self.x.write)(mark, self.x.step)) }
                    }
                    line.axis x1=(px(left)) x2=(px(right)) y1=(px(bottom)) y2=(px(bottom)) {}
                    text.name x=(px(f64::midpoint(left, right))) y=(px(bottom + 42.0)) text-anchor="middle" { (self.x.label) }
                    text.name transform=(format!("translate(14 {}) rotate(-90)", px(f64::midpoint(top, bottom)))) text-anchor="middle" { (self.y.label) }
                    (content)
                }
            }
        }
    }
}

/// A coordinate.
pub(super) fn px(value: f64) -> String {
    format!("{value:.1}")
}

/// The points of a line, as SVG writes them.
pub(super) fn path(points: &[(f64, f64)]) -> String {
    points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect::<Vec<_>>().join(" ")
}

/// The class of the series of this number: its colour, and from the second round on its dashes.
pub(super) fn class(series: usize) -> String {
    format!("c{} d{}", series % COLOURS, series / COLOURS % 3)
}

/// A mark at a point, with a text that shows under the pointer. Series differ by shape too.
pub(super) fn mark(series: usize, (x, y): (f64, f64), text: &str) -> Markup {
    let shape = match series % 4 {
        0 => format!("M{:.1} {y:.1}a3.6 3.6 0 1 0 7.2 0a3.6 3.6 0 1 0 -7.2 0z", x - 3.6),
        1 => format!("M{:.1} {:.1}h6.6v6.6h-6.6z", x - 3.3, y - 3.3),
        2 => format!("M{x:.1} {:.1}l4.4 7.4h-8.8z", y - 4.7),
        _ => format!("M{x:.1} {:.1}l4.6 4.6l-4.6 4.6l-4.6 -4.6z", y - 4.6),
    };
    html! { path class={ "mark " (class(series)) } d=(shape) { title { (text) } } }
}

/// Roughly the width of a text.
pub(super) fn width(text: &str) -> f64 {
    LETTER * text.chars().count() as f64
}

/// A whole number with commas.
pub(super) fn whole(value: f64, _: f64) -> String {
    let digits = format!("{value:.0}");
    let grouped = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy);
    grouped.collect::<Vec<_>>().join(",")
}

/// A number with as many decimals as its neighbours need; very small ones as powers of ten.
pub(super) fn decimal(value: f64, step: f64) -> String {
    match decimals(step) {
        more if more > 4 && value != 0.0 => format!("{value:.1e}"),
        decimals => format!("{value:.decimals$}"),
    }
}

/// A share of 0 to 1 in percent.
pub(super) fn percent(value: f64, step: f64) -> String {
    format!("{:.*} %", decimals(100.0 * step), 100.0 * value)
}

fn decimals(step: f64) -> usize {
    (-(step * 1.001).log10().floor()).max(0.0) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_of_axes() {
        for (values, low, high, written) in [
            (vec![0.0, 1.0], 0.0, 1.0, vec!["0.0", "0.5", "1.0"]),
            (vec![0.581, 0.7495], 0.55, 0.75, vec!["0.55", "0.60", "0.65", "0.70", "0.75"]),
            (vec![1e-4, 4.9e-3], 0.0, 6e-3, vec!["0.000", "0.002", "0.004", "0.006"]),
            (vec![0.5], 0.45, 0.55, vec!["0.45", "0.50", "0.55"]),
            (vec![0.0], -1.0, 1.0, vec!["-1.0", "-0.5", "0.0", "0.5", "1.0"]),
            (vec![2e-6, 4e-6], 2e-6, 4e-6, vec!["2.0e-6", "2.5e-6", "3.0e-6", "3.5e-6", "4.0e-6"]),
        ] {
            let axis = Axis::around(values.iter().copied(), "", decimal);
            assert!((axis.low - low).abs() < 1e-12, "{values:?}: low {}", axis.low);
            assert!((axis.high - high).abs() < 1e-12, "{values:?}: high {}", axis.high);
            let marks: Vec<String> = axis.marks().into_iter().map(|mark| decimal(mark, axis.step)).collect();
            assert_eq!(marks, written, "{values:?}");
        }
    }

    #[test]
    fn numbers() {
        for (written, expected) in [
            (whole(0.0, 1.0), "0"),
            (whole(999.0, 1.0), "999"),
            (whole(1000.0, 1.0), "1,000"),
            (whole(1_234_567.0, 1.0), "1,234,567"),
            (percent(0.5, 0.1), "50 %"),
            (percent(0.505, 0.005), "50.5 %"),
            (decimal(0.25, 0.05), "0.25"),
            (decimal(0.0, 1e-6), "0.000000"),
            (decimal(3e-6, 1e-6), "3.0e-6"),
        ] {
            assert_eq!(written, expected);
        }
    }
}
