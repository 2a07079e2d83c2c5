//! The report of a profile as one HTML page: how well the latency model predicts, where the time goes, how steady the device was.

use elastic_profiler::{MeasuredSubnet, ProfileFile, SubnetNodes};
use elastic_space::budget::Quantity;
use maud::{Markup, html};

use super::chart::{Axis, Frame, decimal, path, px, whole};
use super::document::document;
use crate::operators::{Operator, by_operator};

/// The whole page; in a site with a link to its `index`. Every text of the profile is escaped.
pub(crate) fn html(profile: &ProfileFile, index: Option<&str>) -> String {
    let body = html! {
        h1 { "Profile: " (profile.name) }
        p.quiet { (profile.platform.description) }
        (warnings(profile))
        (environment(profile))
        h2 { "Latency model" }
        (model(profile))
        div.charts {
            figure { h3 { "Predicted against measured" } (predicted(profile)) }
            figure { h3 { "Residuals" } (residuals(profile)) }
        }
        h2 { "Drift" }
        div.charts { figure { h3 { "The reference, round by round" } (drift(profile)) } }
        h2 { "Where the time goes" }
        @if profile.nodes.is_empty() { p { "This runtime does not time operators." } }
        div.charts { @for nodes in &profile.nodes { (operators(profile, nodes)) } }
        h2 { "Measured subnets" }
        (subnets(profile))
        p.quiet { "Made by elastic " (env!("CARGO_PKG_VERSION")) " from the profile. Point at a mark to see its numbers." }
    };
    document(&format!("{} - profile", profile.name), index, &body)
}

fn warnings(profile: &ProfileFile) -> Markup {
    let unsteady = profile.measurements.iter().filter(|measured| measured.latency.unsteady).count();
    html! {
        @if unsteady > 0 {
            p.warning {
                "The device was unsteady while " (unsteady) " of " (profile.measurements.len())
                " subnets were measured: more than half of their visits had something against them, so all of them count."
            }
        }
    }
}

fn environment(profile: &ProfileFile) -> Markup {
    let environment = &profile.environment;
    let course = &profile.course;
    let known = |text: &Option<String>| text.clone().unwrap_or_else(|| "not known".to_owned());
    let load = |load: Option<f64>| load.map_or_else(|| "not known".to_owned(), |load| format!("{load:.2}"));
    let facts = [
        ("Processor", known(&environment.cpu_model)),
        ("System", format!("{} {}, kernel {}", environment.os, environment.arch, known(&environment.kernel))),
        ("Runtime", environment.runtime_version.clone()),
        ("Execution provider", format!("{} x {}", environment.provider, environment.threads)),
        (
            "Load before and after",
            format!("{}, {}", load(environment.load_before), load(environment.load_after)),
        ),
        ("Time", environment.time.clone()),
        ("Sessions and rounds", format!("{}, {}", course.sessions, course.rounds)),
        ("Blocks measured again because of drift", course.voided_blocks.to_string()),
        ("Warm-ups without an end", course.unsettled.to_string()),
        (
            "Peak memory of a session",
            course
                .peak_memory_bytes
                .map_or_else(|| "not known".to_owned(), |bytes| Quantity::FileSize.format(bytes as f64)),
        ),
        ("Drift of the reference", format!("{:.1} %", profile.drift_percent)),
        ("Seed", profile.seed.to_string()),
    ];
    html! { dl { @for (name, value) in facts { div { dt { (name) } dd { (value) } } } } }
}

fn model(profile: &ProfileFile) -> Markup {
    let model = &profile.latency_model;
    let kind = match (&model.transferred_from, &model.residual) {
        (Some(name), _) => format!("scaled from that of {name}"),
        (None, Some(residual)) => {
            format!("additive, with {} trees for what that leaves over", residual.trees.len())
        }
        (None, None) => "additive".to_owned(),
    };
    let facts = [
        ("Kind", kind),
        ("Measured subnets", model.rows.to_string()),
        ("Mean error", format!("{:.2} %", model.cv.mape_percent)),
        ("90 % of errors below", format!("{:.2} %", model.cv.p90_abs_percent)),
        ("Rank correlation", format!("{:.3}", model.cv.spearman)),
        ("Upper bound above the prediction", format!("{:.1} %", 100.0 * model.upper_relative)),
    ];
    html! {
        dl { @for (name, value) in facts { div { dt { (name) } dd { (value) } } } }
        p.quiet { "By cross-validation in " (model.cv.folds) " folds: each subnet is predicted by a model that saw nothing of its fold." }
    }
}

/// Measured and predicted latency of each subnet, in microseconds.
fn pairs(profile: &ProfileFile) -> Vec<(&MeasuredSubnet, f64, f64)> {
    let predictions = &profile.latency_model.cv_predictions;
    let all = profile.measurements.iter().zip(predictions);
    all.map(|(measured, predicted)| (measured, measured.latency.p50_us, *predicted)).collect()
}

fn describe((measured, us, predicted): &(&MeasuredSubnet, f64, f64)) -> String {
    let error = 100.0 * (predicted / us - 1.0);
    format!("{}: measured {us:.1} us, predicted {predicted:.1} us ({error:+.1} %)", measured.subnet)
}

fn predicted(profile: &ProfileFile) -> Markup {
    let pairs = pairs(profile);
    let all = || pairs.iter().flat_map(|(_, measured, predicted)| [*measured, *predicted]);
    let frame = Frame {
        x: Axis::around(all(), "measured, us", decimal),
        y: Axis::around(all(), "predicted, us", decimal),
    };
    let (low, high) = all().fold((f64::INFINITY, 0.0), |(low, high), us| (us.min(low), us.max(high)));
    let content = html! {
        polyline.front points=(path(&[frame.at(low, low), frame.at(high, high)])) {}
        @for pair in &pairs {
            @let (x, y) = frame.at(pair.1, pair.2);
            circle.random cx=(px(x)) cy=(px(y)) r="4" { title { (describe(pair)) } }
        }
    };
    frame.draw(&format!("predicted against measured latency of {} subnets", pairs.len()), &html! {}, &content)
}

fn residuals(profile: &ProfileFile) -> Markup {
    let pairs = pairs(profile);
    let error = |pair: &(&MeasuredSubnet, f64, f64)| 100.0 * (pair.2 / pair.1 - 1.0);
    let frame = Frame {
        x: Axis::around(pairs.iter().map(|pair| pair.1), "measured, us", decimal),
        y: Axis::around(pairs.iter().map(error).chain([0.0]), "predicted above measured, %", decimal),
    };
    let ends =
        pairs.iter().fold((f64::INFINITY, 0.0), |(low, high): (f64, f64), p| (low.min(p.1), high.max(p.1)));
    let content = html! {
        polyline.front points=(path(&[frame.at(ends.0, 0.0), frame.at(ends.1, 0.0)])) {}
        @for pair in &pairs {
            @let (x, y) = frame.at(pair.1, error(pair));
            circle.random cx=(px(x)) cy=(px(y)) r="4" { title { (describe(pair)) } }
        }
    };
    frame.draw("relative error of each prediction", &html! {}, &content)
}

fn drift(profile: &ProfileFile) -> Markup {
    let Some(reference) = profile.measurements.first() else { return html! {} };
    let middle = |round: &Vec<f64>| {
        let mut runs = round.clone();
        runs.sort_by(f64::total_cmp);
        runs.get(runs.len() / 2).copied().unwrap_or_default()
    };
    let medians: Vec<f64> = reference.latency.samples_us.iter().map(middle).collect();
    if medians.is_empty() {
        return html! { p { "No rounds." } };
    }
    let frame = Frame {
        x: Axis::around((1..=medians.len()).map(|round| round as f64), "round", whole),
        y: Axis::around(medians.iter().copied(), "median run, us", decimal),
    };
    let places: Vec<(f64, f64)> =
        medians.iter().enumerate().map(|(round, &us)| frame.at((round + 1) as f64, us)).collect();
    let content = html! {
        polyline.curve.c0 points=(path(&places)) {}
        @for (place, us) in places.iter().zip(&medians) {
            circle.random cx=(px(place.0)) cy=(px(place.1)) r="3" { title { (format!("{us:.1} us")) } }
        }
    };
    frame.draw("median run of the reference in each round", &html! {}, &content)
}

pub(super) fn operators(profile: &ProfileFile, SubnetNodes { subnet, nodes }: &SubnetNodes) -> Markup {
    let which = if *subnet == profile.space.largest() { "Largest" } else { "Smallest" };
    html! {
        figure {
            h3 { (which) ": " (subnet) }
            div.table {
                table {
                    thead { tr { th { "operator" } th.number { "nodes" } th.number { "us" } th.number { "share" } } }
                    tbody {
                        @for Operator { name, nodes, us, share } in by_operator(nodes) {
                            tr { th { (name) } td.number { (nodes) } td.number { (format!("{us:.0}")) } td.number { (format!("{:.1} %", 100.0 * share)) } }
                        }
                    }
                }
            }
            p.quiet { (nodes.len()) " nodes, timed in runs of their own, which are slower." }
        }
    }
}

fn subnets(profile: &ProfileFile) -> Markup {
    let number = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.1}"));
    let weighed = profile.memory_model.is_some();
    let memory = |bytes: u64| Quantity::Memory.format(bytes as f64);
    html! {
        div.table {
            table {
                thead { tr {
                    th { "subnet" } th.number { "p50 us" } th.number { "p90 us" } th.number { "ratio" } th.number { "95 % interval" }
                    th.number { "predicted us" } th.number { "load ms" } th.number { "first run ms" } @if weighed { th.number { "memory" } } th.number { "MACs" } th.number { "flagged" }
                } }
                tbody {
                    @for pair in pairs(profile) {
                        @let MeasuredSubnet { subnet, latency, load_us, first_run_us, memory_bytes } = pair.0;
                        @let interval = latency.ratio_interval.map_or_else(String::new, |[low, high]| format!("{low:.3} - {high:.3}"));
                        @let flagged = latency.flagged;
                        tr {
                            th { (subnet) }
                            td.number { (format!("{:.1}", latency.p50_us)) }
                            td.number { (number(latency.p90_us)) }
                            td.number { (format!("{:.3}", latency.ratio_to_reference)) }
                            td.number { (interval) }
                            td.number { (format!("{:.1}", pair.2)) }
                            td.number { (format!("{:.1}", load_us / 1e3)) }
                            td.number { (format!("{:.2}", first_run_us / 1e3)) }
                            @if weighed { td.number { (memory_bytes.map(memory).unwrap_or_default()) } }
                            td.number { (Quantity::Macs.format(profile.space.cost(subnet).macs as f64)) }
                            td.number { (format!("{} / {} / {}", flagged.drift, flagged.contended, flagged.slowed)) }
                        }
                    }
                }
            }
        }
        p.quiet { "Flagged: visits that count nowhere, because of drift / other work / a lower clock or heat." }
    }
}
