//! How the search went: the cloud of what it saw, and what it had reached after each evaluation.

use elastic_exporter::search::{Objectives, hypervolume, usage};
use elastic_profiler::ProfileFile;
use elastic_space::SearchSpace;
use elastic_space::budget::Quantity;
use maud::{Markup, html};

use super::{Exported, Limit, Seen};
use crate::report::chart::{AREA, Axis, Frame, decimal, mark, path, percent, px, whole};
use crate::report::front::{front, stairs};
use crate::report::scatter::unit;

/// Accuracy against each quantity that has a budget, or against MACs.
pub(super) fn clouds(exported: &Exported, space: &SearchSpace, profile: Option<&ProfileFile>) -> Markup {
    let mut quantities: Vec<Quantity> = exported.budgets.iter().map(|limit| limit.asked.quantity).collect();
    // A front has objectives besides.
    for (quantity, _) in exported.search.evaluated.iter().take(1).flat_map(|seen| &seen.costs) {
        if !quantities.contains(quantity) {
            quantities.push(*quantity);
        }
    }
    if quantities.is_empty() {
        quantities.push(Quantity::Macs);
    }
    html! {
        @for quantity in quantities {
            figure {
                h3 { "Accuracy against " (name(quantity)) }
                (cloud(&[exported], quantity, space, profile))
            }
        }
    }
}

/// What the searches of some exports saw, with the front, the chosen subnets and the budgets.
pub(in crate::report) fn cloud(
    exports: &[&Exported],
    quantity: Quantity,
    space: &SearchSpace,
    profile: Option<&ProfileFile>,
) -> Markup {
    let cost = |seen: &Seen| cost(seen, quantity, space, profile);
    let mut points: Vec<(f64, &Seen)> = Vec::new();
    let mut chosen: Vec<(f64, &Exported)> = Vec::new();
    for exported in exports {
        points.extend(exported.search.evaluated.iter().filter_map(|seen| Some((cost(seen)?, seen))));
        let is_chosen = |(_, seen): &&(f64, &Seen)| seen.subnet == exported.subnet;
        chosen.extend(points.iter().find(is_chosen).map(|(cost, _)| (*cost, *exported)));
    }
    if points.is_empty() {
        return html! { p { "The search saw nothing whose " (name(quantity)) " is known." } };
    }
    let limits: Vec<&Limit> = exports
        .iter()
        .flat_map(|exported| &exported.budgets)
        .filter(|limit| limit.asked.quantity == quantity)
        .collect();
    let largest = points.iter().map(|(cost, _)| *cost).fold(0.0, f64::max);
    let (scale, label) = unit(quantity, largest);
    let all = points.iter().map(|(cost, _)| *cost).chain(limits.iter().map(|limit| limit.asked.limit));
    let frame = Frame {
        x: Axis::around(all.map(|cost| cost / scale), &label, decimal),
        y: Axis::around(points.iter().map(|(_, seen)| seen.accuracy), "validation accuracy", percent),
    };
    let full = points.iter().filter(|(_, seen)| seen.stopped_after.is_none());
    let pairs: Vec<(f64, f64)> = full.map(|(cost, seen)| (*cost, seen.accuracy)).collect();
    let on_front: Vec<(f64, f64)> =
        front(&pairs).into_iter().map(|place| frame.at(pairs[place].0 / scale, pairs[place].1)).collect();
    let line = stairs(&on_front);
    let [_, top, _, bottom] = AREA;
    let content = html! {
        @for (cost, seen) in &points {
            @let (x, y) = frame.at(cost / scale, seen.accuracy);
            circle.random.ended[seen.stopped_after.is_some()] cx=(px(x)) cy=(px(y)) r="3.2" { title { (describe(seen, quantity, *cost)) } }
        }
        polyline.front points=(path(&line)) {}
        @for limit in &limits {
            @let (x, _) = frame.at(limit.asked.limit / scale, 0.0);
            line.limit x1=(px(x)) x2=(px(x)) y1=(px(top)) y2=(px(bottom)) { title { "budget " (limit.asked) } }
        }
        @for (place, (cost, exported)) in chosen.iter().enumerate() {
            (mark(place + 1, frame.at(cost / scale, exported.validation_accuracy), &chosen_text(exported, quantity, *cost)))
        }
    };
    let summary = format!("validation accuracy against {} of {} subnets", name(quantity), points.len());
    html! {
        (frame.draw(&summary, &html! {}, &content))
        ul.legend {
            li { svg viewBox="0 0 30 12" aria-hidden="true" { circle.random cx="15" cy="6" r="4" {} } "seen by the search" }
            @if points.iter().any(|(_, seen)| seen.stopped_after.is_some()) {
                li { svg viewBox="0 0 30 12" aria-hidden="true" { circle.random.ended cx="15" cy="6" r="4" {} } "ended early: about so accurate" }
            }
            li { svg viewBox="0 0 30 12" aria-hidden="true" { line.front x1="0" x2="30" y1="6" y2="6" {} } "Pareto front" }
            @for (place, (_, exported)) in chosen.iter().enumerate() {
                li { svg viewBox="0 0 30 12" aria-hidden="true" { (mark(place + 1, (15.0, 6.0), "")) } (if exports.len() == 1 { "chosen" } else { exported.file.trim_end_matches(".onnx") }) }
            }
            @if !limits.is_empty() {
                li { svg viewBox="0 0 30 12" aria-hidden="true" { line.limit x1="15" x2="15" y1="0" y2="12" {} } "budget" }
            }
        }
    }
}

/// What the search had reached after each of its evaluations.
pub(super) fn history(exported: &Exported) -> Markup {
    let seen = &exported.search.evaluated;
    let known = seen.len().saturating_sub(exported.search.evaluations);
    let budgets = || exported.budgets.iter().map(|limit| &limit.asked);
    let used = |one: &Seen| usage(&one.costs, budgets()).unwrap_or_default();
    let mut best = Vec::new();
    let mut volumes = Vec::new();
    let mut members: Vec<Objectives> = Vec::new();
    for (place, one) in seen.iter().enumerate() {
        if one.stopped_after.is_none() {
            members.push(Objectives { accuracy: one.accuracy, costs: [used(one), 0.0] });
        }
        if place >= known {
            let held = members.iter().filter(|member| member.costs[0] <= 1.0);
            best.push(held.map(|member| member.accuracy).fold(f64::NAN, f64::max));
            volumes.push(hypervolume(&members, Objectives { accuracy: 0.0, costs: [1.0; 2] }));
        }
    }
    let has_budget = !exported.budgets.is_empty();
    html! {
        figure {
            h3 { "Best accuracy within the budgets" }
            (curve(&best, "validation accuracy", percent))
        }
        @if has_budget {
            figure {
                h3 { "Hypervolume" }
                (curve(&volumes, "accuracy x share of the budget that is left", decimal))
            }
        }
    }
}

/// A line over the number of evaluations.
fn curve(values: &[f64], label: &str, write: fn(f64, f64) -> String) -> Markup {
    let finite: Vec<(usize, f64)> =
        values.iter().copied().enumerate().filter(|(_, value)| value.is_finite()).collect();
    if finite.is_empty() {
        return html! { p { "Nothing that was seen holds the budgets." } };
    }
    let frame = Frame {
        x: Axis::around([1.0, values.len() as f64].into_iter(), "evaluations", whole),
        y: Axis::around(finite.iter().map(|(_, value)| *value), label, write),
    };
    let places: Vec<(f64, f64)> =
        finite.iter().map(|(place, value)| frame.at((place + 1) as f64, *value)).collect();
    let content = html! { polyline.curve.c0 points=(path(&stairs(&places))) {} };
    frame.draw(&format!("{label} against evaluations"), &html! {}, &content)
}

/// A quantity of a subnet, as the search knew it or as it can be counted.
fn cost(seen: &Seen, quantity: Quantity, space: &SearchSpace, profile: Option<&ProfileFile>) -> Option<f64> {
    if let Some((_, cost)) = seen.costs.iter().find(|(known, _)| *known == quantity) {
        return Some(*cost);
    }
    // The subnet of another space has no cost here.
    space.encode(&seen.subnet).ok()?;
    let cost = space.cost(&seen.subnet);
    match quantity {
        Quantity::Flops => Some(cost.flops() as f64),
        Quantity::Macs => Some(cost.macs as f64),
        Quantity::Params => Some(cost.params as f64),
        Quantity::Latency | Quantity::Memory | Quantity::Energy => {
            let model = profile.and_then(|profile| profile.model(quantity));
            model.map(|model| model.predict(&space.cost_features().of(&seen.subnet)))
        }
        Quantity::FileSize => None,
    }
}

fn describe(seen: &Seen, quantity: Quantity, cost: f64) -> String {
    let accuracy = crate::table::percent(seen.accuracy);
    let accuracy = match seen.stopped_after {
        Some(images) => format!("about {accuracy} (ended after {images} images)"),
        None => accuracy,
    };
    format!("{accuracy}, {}: {}", quantity.format(cost), seen.subnet)
}

fn chosen_text(exported: &Exported, quantity: Quantity, cost: f64) -> String {
    let cost = quantity.format(cost);
    format!("chosen: {}, {cost}: {}", crate::table::percent(exported.validation_accuracy), exported.subnet)
}

/// A quantity in words.
pub(in crate::report) fn name(quantity: Quantity) -> &'static str {
    match quantity {
        Quantity::Flops => "FLOPs",
        Quantity::Macs => "MACs",
        Quantity::Params => "parameters",
        Quantity::FileSize => "size of the file",
        Quantity::Latency => "predicted latency",
        Quantity::Memory => "predicted memory",
        Quantity::Energy => "predicted energy",
    }
}
