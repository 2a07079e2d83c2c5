//! The report as one HTML page without outside parts: no script, no font, no picture to fetch.

use elastic_space::budget::Quantity;
use elastic_trainer::Model;
use elastic_trainer::config::{Distillation, Reduce, Teacher};
use elastic_trainer::health::{Health, SubnetHealth};
use elastic_trainer::metrics::{self, Record, Spread};
use elastic_trainer::plan::PlannedStage;
use maud::{Markup, html};

use super::chart::whole;
use super::curves::{self, names};
use super::document::document;
use super::{RunReport, StageReport, in_words, scatter};
use crate::health;
use crate::table::percent;

/// The whole page; in a site with a link to its `index`. Every text of the run is escaped.
pub(crate) fn html(report: &RunReport, index: Option<&str>) -> String {
    let body = html! {
        h1 { "Training report: " (report.name) }
        (status(report))
        (facts(report))
        h2 { "Health of the subnets" @if report.health.is_some() { " after step " (evaluated(report)) } }
        @match &report.health {
            Some(health) => (health_table(report, health)),
            None => p { "No evaluation yet." },
        }
        h2 { "Accuracy" }
        div.charts {
            @if !names(report).is_empty() {
                figure { h3 { "Over the steps" } (curves::accuracy(report)) }
            }
            @if let Some(health) = &report.health {
                figure { h3 { "Against MACs, after step " (evaluated(report)) } (scatter::chart(report, health)) }
            }
        }
        (evaluations(report))
        h2 { "Training" }
        div.charts {
            figure { h3 { "Loss" } (curves::loss(report)) }
            figure { h3 { "Learning rate" } (curves::learning_rate(report)) }
        }
        h2 { "Stages" }
        (stages(report))
        h2 { "Configuration" }
        details { summary { "config.yaml, with everything resolved" } pre { (report.config) } }
        p.quiet { "Made by elastic " (env!("CARGO_PKG_VERSION")) " from config.yaml and metrics.jsonl. Accuracies are on validation images; 1 MAC = 2 FLOPs. Point at a mark to see its numbers." }
    };
    document(&format!("{} - training report", report.name), index, &body)
}

fn status(report: &RunReport) -> Markup {
    let step = number(report.step());
    if report.finished {
        return html! { p.quiet { "Finished after step " (step) "." } };
    }
    let stage = report.records.last().map_or("", Record::stage);
    html! {
        p.notice {
            "Not finished: the log ends at step " (step) ", in stage " (stage)
            ". If it is not training now, it goes on with: " code { "elastic train --out " (report.folder.display()) " --resume" }
        }
    }
}

fn facts(report: &RunReport) -> Markup {
    let model = &report.model;
    let ([channels, height, width], classes) = (model.space.input(), model.space.classes());
    let input = match model.space.vocabulary() {
        Some(vocabulary) => {
            format!("up to {width} of {} tokens, {classes} classes", number(vocabulary as u64))
        }
        None => format!("{channels} x {height} x {width}, {classes} classes"),
    };
    let choices = |dimension: &elastic_space::Dimension| dimension.name();
    let elastic = model.space.dimensions().iter().map(choices).collect::<Vec<_>>().join(", ");
    let init =
        model.init.as_ref().map_or_else(|| "random".to_owned(), |init| init.from.display().to_string());
    let largest = model.space.cost(&model.space.largest());
    let facts = [
        ("Family", model.space.family().to_owned()),
        ("Search space", format!("{} subnets", grouped(model.space.size()))),
        ("Elastic dimensions", elastic),
        ("Largest subnet", format!("{}, {}", parameters(largest.params), macs(largest.macs))),
        ("Seed", model.seed.to_string()),
        ("Data", model.data.source.path().display().to_string()),
        ("Input", input),
        ("Validation", validation(model)),
        ("Batch size", model.training.batch_size.to_string()),
        ("First weights", init),
        ("Peak memory", peak(report).map_or_else(|| "not known".to_owned(), memory)),
    ];
    html! { dl { @for (name, value) in facts { div { dt { (name) } dd { (value) } } } } }
}

/// How many images there are to judge by; the size of a validation set that the data brings is not in the run.
fn validation(model: &Model) -> String {
    let during = model.training.evaluate_images;
    match model.data.validation {
        Some(images) => {
            format!(
                "{} images, {} of them during training",
                number(images as u64),
                number(during.min(images) as u64)
            )
        }
        None => format!("the data's own images, at most {} of them during training", number(during as u64)),
    }
}

fn health_table(report: &RunReport, health: &Health) -> Markup {
    let threshold = health.threshold;
    let origin = match report.model.training.collapse_margin {
        Some(_) => "the recipe's collapse-margin",
        None => "the report's, as the recipe has no collapse-margin",
    };
    let row = |subnet: &SubnetHealth| {
        html! {
            tr {
                th scope="row" title=(subnet.subnet) { (subnet.name) }
                td.number { (parameters(subnet.cost.params)) }
                td.number { (macs(subnet.cost.macs)) }
                td.number { (percent(subnet.accuracy)) }
                (word(subnet.collapsed))
            }
        }
    };
    html! {
        @if let Some(warning) = health::warning(health) { p.warning { strong { "Warning: " } (warning) "." } }
        div.table {
            table {
                thead {
                    tr {
                        th scope="col" { "Subnet" } th.number scope="col" { "Parameters" } th.number scope="col" { "MACs" }
                        th.number scope="col" { "Accuracy" } th scope="col" { "Health" }
                    }
                }
                tbody {
                    @for name in names(report) {
                        @for subnet in health.named.iter().filter(|subnet| subnet.name == name) { (row(subnet)) }
                    }
                    (random_rows(&health.random))
                }
            }
        }
        p.quiet {
            "A subnet has collapsed if its accuracy is below " (percent(threshold.chance + threshold.margin))
            ": chance " (percent(threshold.chance)) " and the margin " (percent(threshold.margin)) " (" (origin) ")."
            @if !health.random.is_empty() { " The rows of random subnets hold the least, the median and the greatest of each column by itself." }
        }
    }
}

/// The spread of the random subnets, each column by itself.
fn random_rows(random: &[SubnetHealth]) -> Markup {
    let spread = |value: fn(&SubnetHealth) -> f64| Spread::of(&random.iter().map(value).collect::<Vec<_>>());
    let columns = [
        spread(|subnet| subnet.cost.params as f64),
        spread(|subnet| subnet.cost.macs as f64),
        spread(|subnet| subnet.accuracy),
    ];
    let [Some(params), Some(macs), Some(accuracy)] = columns else { return html! {} };
    let collapsed = random.iter().filter(|subnet| subnet.collapsed).count();
    let rows = [
        ("least", params.min, macs.min, accuracy.min),
        ("median", params.median, macs.median, accuracy.median),
        ("greatest", params.max, macs.max, accuracy.max),
    ];
    html! {
        @for (i, (name, params, macs, accuracy)) in rows.into_iter().enumerate() {
            tr {
                th scope="row" { (random.len()) " random: " (name) }
                td.number { (Quantity::Params.format(params)) }
                td.number { (Quantity::Macs.format(macs)) }
                td.number { (percent(accuracy)) }
                @match (i, collapsed) {
                    (0, 0) => (word(false)),
                    (0, some) => td.bad { (some) " collapsed" },
                    _ => td {},
                }
            }
        }
    }
}

fn word(collapsed: bool) -> Markup {
    html! { td class=(if collapsed { "bad" } else { "good" }) { (health::word(collapsed)) } }
}

/// The evaluations in numbers, for those who do not see the chart.
fn evaluations(report: &RunReport) -> Markup {
    let names = names(report);
    if names.is_empty() {
        return html! {};
    }
    html! {
        details {
            summary { "Every evaluation in numbers" }
            div.table {
                table {
                    thead {
                        tr {
                            th.number scope="col" { "Step" } th scope="col" { "Stage" }
                            @for name in &names { th.number scope="col" { (name) } }
                            @for name in ["least", "median", "greatest"] { th.number scope="col" { "random: " (name) } }
                        }
                    }
                    tbody {
                        @for record in &report.records {
                            @if let Record::Validation { stage, step, accuracy, random_accuracy, .. } = record {
                                @let random = Spread::of(random_accuracy).map(|spread| [spread.min, spread.median, spread.max]);
                                tr {
                                    td.number { (number(*step)) } td { (stage) }
                                    @for name in &names { td.number { @if let Some(value) = accuracy.get(name) { (percent(*value)) } } }
                                    @for i in 0..3 { td.number { @if let Some(values) = random { (percent(values[i])) } } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn stages(report: &RunReport) -> Markup {
    html! {
        div.table {
            table.stages {
                thead {
                    tr {
                        th scope="col" { "Stage" } th scope="col" { "Open dimensions" } th scope="col" { "Steps" }
                        th scope="col" { "Learning rate" } th.number scope="col" { "Subnets (m)" }
                        th scope="col" { "Sampling" } th scope="col" { "Reduce" } th scope="col" { "Distillation" }
                        th.number scope="col" { "Images/s" } th.number scope="col" { "Subnet updates/s" }
                        th.number scope="col" { "Peak memory" }
                    }
                }
                tbody { @for (i, stage) in report.stages.iter().enumerate() { (stage_row(report, i, stage)) } }
            }
        }
        p.quiet { "Learning rates are the peak, the last, and the steps of warm-up; m subnets are trained in every step. Images and subnet updates per second are medians over the log's lines; every image is seen by all subnets of a step. Peak memory is the process's highest resident memory so far." }
    }
}

fn stage_row(report: &RunReport, index: usize, stage: &StageReport) -> Markup {
    let StageReport { planned, logged } = stage;
    let open: Vec<&str> = planned.open.iter().map(|dimension| dimension.name()).collect();
    let rate = &planned.learning_rate;
    let per_second = |value: Option<f64>, decimals: usize| value.map(|value| format!("{value:.decimals$}"));
    let logged = logged.as_ref();
    html! {
        tr {
            th scope="row" { (planned.name) }
            td { @if open.is_empty() { "none" } @else { (open.join(", ")) } }
            td { (steps(report, index, planned)) }
            td.rate { (rate.peak) " to " (rate.last) ", " (rate.warm_up_steps) }
            td.number { (planned.subnets) }
            td { (in_words(&planned.sampling)) }
            td { (match planned.reduce { Reduce::Sum => "sum", Reduce::Mean => "mean" }) }
            td { (distillation(planned.distillation.as_ref())) }
            td.number { (logged.and_then(|l| per_second(l.images_per_second, 0)).unwrap_or_default()) }
            td.number { (logged.and_then(|l| per_second(l.subnet_updates_per_second, 1)).unwrap_or_default()) }
            td.number { (logged.and_then(|l| l.peak_memory_bytes).map(memory).unwrap_or_default()) }
        }
    }
}

/// How many steps of a stage are done.
fn steps(report: &RunReport, index: usize, planned: &PlannedStage) -> String {
    let total = number(planned.steps);
    let begun = |stage: &StageReport| stage.logged.is_some();
    let is_over = report.finished || report.stages[index + 1..].iter().any(begun);
    match &report.stages[index].logged {
        None if is_over => "in another run".to_owned(),
        None => format!("0 of {total}"),
        Some(logged) if logged.end - logged.begin == planned.steps => total,
        Some(logged) => {
            let done = number(logged.end - logged.begin);
            let why = if is_over { " (it had converged)" } else { "" };
            format!("{done} of {total}{why}")
        }
    }
}

fn distillation(distillation: Option<&Distillation>) -> String {
    match distillation {
        None => "none".to_owned(),
        Some(Distillation { weight, teacher: Teacher::InPlace }) => format!("in place, weight {weight}"),
        Some(Distillation { weight, teacher: Teacher::Onnx(path) | Teacher::Supernet(path) }) => {
            format!("{}, weight {weight}", path.display())
        }
    }
}

/// The step of the last evaluation.
fn evaluated(report: &RunReport) -> String {
    number(metrics::last_validation(&report.records).map_or(0, Record::step))
}

fn peak(report: &RunReport) -> Option<u64> {
    report.begun().filter_map(|(_, logged)| logged.peak_memory_bytes).max()
}

fn memory(bytes: u64) -> String {
    Quantity::FileSize.format(bytes as f64)
}

fn parameters(params: u64) -> String {
    Quantity::Params.format(params as f64)
}

fn macs(macs: u64) -> String {
    Quantity::Macs.format(macs as f64)
}

fn number(value: u64) -> String {
    whole(value as f64, 1.0)
}

/// The size of a search space: exact as long as a reader can take it in.
fn grouped(size: u128) -> String {
    if size < 1_000_000_000_000 { whole(size as f64, 1.0) } else { format!("{:.2e}", size as f64) }
}
