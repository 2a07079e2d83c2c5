//! What changes over the steps: loss, learning rate and accuracy.

use elastic_space::Subnet;
use elastic_trainer::metrics::{Record, Spread};
use elastic_trainer::plan::{PlannedStage, judged};
use elastic_trainer::schedule;
use maud::{Markup, html};

use super::chart::{AREA, Axis, Frame, class, decimal, mark, path, percent, px, whole, width};
use super::{Logged, RunReport};

/// Above so many points a mark shows only under the pointer.
const MANY_POINTS: usize = 60;
/// Roughly the points of a planned learning rate.
const POINTS_OF_A_SCHEDULE: u64 = 100;

/// A line over the steps; it is broken where what it shows becomes another thing.
struct Curve {
    name: String,
    pieces: Vec<Vec<(u64, f64)>>,
}

/// What lies behind the curves of a chart.
#[derive(Clone, Copy)]
enum Background<'a> {
    /// Nothing.
    None,
    /// The spread of several values.
    Spread(&'a [Vec<(u64, Spread)>]),
    /// Quiet lines.
    Lines(&'a [Vec<(u64, f64)>]),
}

impl Curve {
    fn points(&self) -> impl Iterator<Item = (u64, f64)> {
        self.pieces.iter().flatten().copied()
    }
}

/// The loss of each stage.
pub(super) fn loss(report: &RunReport) -> Markup {
    let curve = of_training(report, "loss", |record| match record {
        Record::Train { loss, .. } => Some(*loss),
        Record::Validation { .. } => None,
    });
    let y = Axis::around(curve.points().map(|(_, loss)| loss), "mean training loss", decimal);
    chart(report, y, Background::None, &[curve], |loss| format!("{loss:.4}"))
}

/// The learning rate of each stage.
pub(super) fn learning_rate(report: &RunReport) -> Markup {
    let curve = of_training(report, "learning rate", |record| match record {
        Record::Train { learning_rate, .. } => Some(*learning_rate),
        Record::Validation { .. } => None,
    });
    let planned = schedules(report);
    let rates = curve.points().chain(planned.iter().flatten().copied()).map(|(_, rate)| rate);
    let y = Axis::around(rates.chain([0.0]), "learning rate", decimal);
    let chart = chart(report, y, Background::Lines(&planned), &[curve], |rate| format!("{rate:.3e}"));
    html! {
        (chart)
        ul.legend {
            li { (sample(0)) "in the log" }
            li { svg viewBox="0 0 30 12" aria-hidden="true" { line.median x1="0" x2="30" y1="6" y2="6" {} } "planned" }
        }
    }
}

/// The planned learning rate of each stage that has begun, as far as the log goes.
fn schedules(report: &RunReport) -> Vec<Vec<(u64, f64)>> {
    let piece = |(stage, logged): (&PlannedStage, &Logged)| {
        let done = (logged.end - logged.begin).clamp(1, stage.steps);
        let stride = usize::try_from(done / POINTS_OF_A_SCHEDULE).unwrap_or(0).max(1);
        let steps = (0..done).step_by(stride).chain([done - 1]);
        // The step of index i is done when i + 1 steps are.
        let point = |i| (logged.begin + i + 1, schedule::learning_rate(&stage.learning_rate, stage.steps, i));
        steps.map(point).collect()
    };
    report.begun().map(piece).collect()
}

/// The accuracy of every named subnet, and the spread of the random ones.
pub(super) fn accuracy(report: &RunReport) -> Markup {
    let curves: Vec<Curve> = names(report).into_iter().map(|name| of_subnet(report, &name)).collect();
    let band = of_random(report);
    let named = curves.iter().flat_map(Curve::points).map(|(_, accuracy)| accuracy);
    let random = band.iter().flatten().flat_map(|(_, spread)| [spread.min, spread.max]);
    let y = Axis::around(named.chain(random), "validation accuracy", percent);
    let chart = chart(report, y, Background::Spread(&band), &curves, crate::table::percent);
    html! {
        (chart)
        ul.legend {
            @for (i, curve) in curves.iter().enumerate() {
                li { (sample(i)) (curve.name) }
            }
            @if !band.is_empty() {
                li {
                    svg viewBox="0 0 30 12" aria-hidden="true" {
                        rect.spread x="0" y="0" width="30" height="12" {}
                        line.median x1="0" x2="30" y1="6" y2="6" {}
                    }
                    "random subnets: least to greatest, and median"
                }
            }
        }
    }
}

/// The names of the subnets that were judged: the two ends first.
pub(super) fn names(report: &RunReport) -> Vec<String> {
    let mut names = vec!["largest".to_owned(), "smallest".to_owned()];
    names.extend(report.model.subnets.keys().cloned());
    let is_judged = |name: &String| {
        report.records.iter().any(|record| match record {
            Record::Validation { accuracy, .. } => accuracy.contains_key(name),
            Record::Train { .. } => false,
        })
    };
    names.into_iter().filter(is_judged).collect()
}

fn of_training(report: &RunReport, name: &str, value: fn(&Record) -> Option<f64>) -> Curve {
    let piece = |stage: &str| {
        let own = report.records.iter().filter(|record| record.stage() == stage);
        own.filter_map(|record| Some((record.step(), value(record)?))).collect()
    };
    let pieces = report.begun().map(|(stage, _)| piece(&stage.name)).collect();
    Curve { name: name.to_owned(), pieces }
}

/// The line of a named subnet: whole as long as the name means the same network.
fn of_subnet(report: &RunReport, name: &str) -> Curve {
    let (mut pieces, mut before): (Vec<Vec<(u64, f64)>>, Option<Subnet>) = (Vec::new(), None);
    for (stage, _) in report.begun() {
        let Some(subnet) = judged(&report.model, &stage.open).named.remove(name) else { continue };
        let values = report.records.iter().filter_map(|record| match record {
            Record::Validation { stage: own, step, accuracy, .. } if *own == stage.name => {
                Some((*step, *accuracy.get(name)?))
            }
            _ => None,
        });
        match pieces.last_mut().filter(|_| before.as_ref() == Some(&subnet)) {
            Some(piece) => piece.extend(values),
            None => pieces.push(values.collect()),
        }
        before = Some(subnet);
    }
    Curve { name: name.to_owned(), pieces }
}

/// The spread of the random subnets of each stage that has some.
fn of_random(report: &RunReport) -> Vec<Vec<(u64, Spread)>> {
    let piece = |stage: &str| -> Vec<(u64, Spread)> {
        let spread = |record: &Record| match record {
            Record::Validation { stage: own, step, random_accuracy, .. } if *own == stage => {
                Some((*step, Spread::of(random_accuracy)?))
            }
            _ => None,
        };
        report.records.iter().filter_map(spread).collect()
    };
    report.begun().map(|(stage, _)| piece(&stage.name)).filter(|piece| !piece.is_empty()).collect()
}

/// The line and the mark of a series, for the legend.
fn sample(series: usize) -> Markup {
    html! {
        svg viewBox="0 0 30 12" aria-hidden="true" {
            line class={ "curve " (class(series)) } x1="0" x2="30" y1="6" y2="6" {}
            (mark(series, (15.0, 6.0), ""))
        }
    }
}

/// Curves over the steps, and what lies behind them.
fn chart(
    report: &RunReport,
    y: Axis,
    background: Background<'_>,
    curves: &[Curve],
    write: fn(f64) -> String,
) -> Markup {
    let begin = report.begun().next().map_or(0, |(_, logged)| logged.begin);
    let x = Axis::exact(begin as f64, report.step() as f64, "gradient step", whole);
    let frame = Frame { x, y };
    let place = |&(step, value): &(u64, f64)| frame.at(step as f64, value);
    let many = curves.iter().any(|curve| curve.points().count() > MANY_POINTS);
    let ends: Vec<String> = curves
        .iter()
        .filter_map(|curve| Some(format!("{} {}", curve.name, write(curve.points().last()?.1))))
        .collect();
    let summary = format!("{} over the steps; at the end: {}", frame.y.label, ends.join(", "));
    let content = html! {
        @match background {
            Background::None => {},
            Background::Spread(pieces) => @for piece in pieces { (spread(&frame, piece)) },
            Background::Lines(lines) => @for line in lines {
                polyline.median points=(path(&line.iter().map(place).collect::<Vec<_>>())) {}
            },
        }
        g.many[many] {
            @for (i, curve) in curves.iter().enumerate() {
                @for piece in &curve.pieces {
                    @if piece.len() > 1 {
                        polyline class={ "curve " (class(i)) } points=(path(&piece.iter().map(place).collect::<Vec<_>>())) {}
                    }
                    @for point in piece {
                        (mark(i, place(point), &format!("{}: {} after step {}", curve.name, write(point.1), point.0)))
                    }
                }
            }
        }
    };
    frame.draw(&summary, &stages(report, &frame), &content)
}

/// The area between the least and the greatest, and the median; of a single evaluation a bar.
fn spread(frame: &Frame, piece: &[(u64, Spread)]) -> Markup {
    let line = |value: fn(&Spread) -> f64| -> Vec<(f64, f64)> {
        piece.iter().map(|(step, spread)| frame.at(*step as f64, value(spread))).collect()
    };
    let (least, greatest, median) = (line(|s| s.min), line(|s| s.max), line(|s| s.median));
    let (first, last) = (piece[0].0, piece[piece.len() - 1].0);
    let text = format!("random subnets, steps {first} to {last}");
    let outline = match (&least[..], &greatest[..]) {
        ([(x, low)], [(_, high)]) => {
            vec![(x - 4.0, *low), (x + 4.0, *low), (x + 4.0, *high), (x - 4.0, *high)]
        }
        _ => least.iter().copied().chain(greatest.iter().rev().copied()).collect(),
    };
    let middle = match &median[..] {
        [(x, y)] => vec![(x - 4.0, *y), (x + 4.0, *y)],
        _ => median,
    };
    html! {
        polygon.spread points=(path(&outline)) { title { (text) } }
        polyline.median points=(path(&middle)) {}
    }
}

/// The stages behind a chart, with their names as far as these fit.
fn stages(report: &RunReport, frame: &Frame) -> Markup {
    let [_, top, _, bottom] = AREA;
    let begun: Vec<_> = report.begun().collect();
    if begun.len() < 2 {
        return html! {};
    }
    html! {
        @for (i, (stage, logged)) in begun.iter().enumerate() {
            @let (left, _) = frame.at(logged.begin as f64, 0.0);
            @let (right, _) = frame.at(logged.end as f64, 0.0);
            @let number = stage.name.split('-').next().unwrap_or_default();
            @let label = [stage.name.as_str(), number].into_iter().find(|label| width(label) <= right - left);
            rect class={ "stage " (["even", "odd"][i % 2]) } x=(px(left)) y=(px(top)) width=(px(right - left)) height=(px(bottom - top)) {
                title { "stage " (stage.name) ", steps " (logged.begin) " to " (logged.end) }
            }
            @if i > 0 { line.border x1=(px(left)) x2=(px(left)) y1=(px(top - 14.0)) y2=(px(bottom)) {} }
            @if let Some(label) = label {
                text.stage-name x=(px(f64::midpoint(left, right))) y=(px(top - 6.0)) text-anchor="middle" { (label) }
            }
        }
    }
}
