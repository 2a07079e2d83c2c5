//! The report of an exported model as one HTML page: its architecture, how it was found, what it costs as predicted and as measured.
//!
//! It is made from the report that lies beside the model, so that it can be made again.

mod search;

use std::path::PathBuf;

use elastic_profiler::ProfileFile;
use elastic_space::budget::Quantity;
use elastic_space::{Budget, SearchSpace, Subnet};
use maud::{Markup, html};
use serde::Deserialize;

use super::document::document;
use super::{profile, strip};
use crate::table::percent;

pub(super) use search::{cloud, name};

/// What the page shows of `NAME.json`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Exported {
    pub(crate) file: String,
    pub(crate) sha256: String,
    pub(crate) file_bytes: u64,
    pub(crate) form: String,
    pub(crate) opset: i64,
    pub(crate) precision: String,
    pub(crate) forms: Vec<Tried>,
    pub(crate) platform: Option<String>,
    pub(crate) subnet: Subnet,
    pub(crate) params: u64,
    pub(crate) macs: u64,
    pub(crate) flops: u64,
    pub(crate) validation_accuracy: f64,
    pub(crate) validation_images: u64,
    pub(crate) predicted_latency_us: Option<f64>,
    pub(crate) measured_latency_us: Option<f64>,
    pub(crate) budgets: Vec<Limit>,
    pub(crate) proof: Proved,
    pub(crate) search: Searched,
    pub(crate) checkpoint: String,
    pub(crate) run: PathBuf,
    pub(crate) elastic_version: String,
}

/// A form and precision that was tried on the platform.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Tried {
    form: String,
    opset: i64,
    precision: String,
    #[serde(default)]
    p50_us: Option<f64>,
    #[serde(default)]
    refused: Option<String>,
}

/// A budget and what it came to.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Limit {
    pub(crate) asked: Budget,
    pub(crate) predicted: f64,
    pub(crate) measured: f64,
}

/// What was proven.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Proved {
    agreement: Vec<Agreement>,
    pub(crate) test_accuracy: f64,
    test_images: u64,
}

#[derive(Debug, Clone, Deserialize)]
struct Agreement {
    runtime: String,
    max_abs_difference: Option<f64>,
    same_top1: u64,
    samples: u64,
}

/// How the subnet was found.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Searched {
    strategy: String,
    evaluations: usize,
    seed: u64,
    /// The known ones first, then those of the search in their order.
    pub(crate) evaluated: Vec<Seen>,
}

/// A subnet whose accuracy was measured.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Seen {
    pub(crate) subnet: Subnet,
    pub(crate) accuracy: f64,
    /// Images after which its evaluation was ended: less accurate than one that costs no more.
    #[serde(default)]
    stopped_after: Option<u64>,
    costs: Vec<(Quantity, f64)>,
}

/// The whole page; in a site with a link to its `index`. Every text is escaped.
pub(crate) fn html(
    exported: &Exported,
    space: &SearchSpace,
    profile: Option<&ProfileFile>,
    index: Option<&str>,
) -> String {
    let name = exported.file.trim_end_matches(".onnx");
    let body = html! {
        h1 { "Exported model: " (name) }
        p.quiet { (exported.subnet) }
        (facts(exported))
        h2 { "Architecture" }
        p.quiet { "From input to output; every bar is a choice, its outline the largest that the search space has." }
        (strip::strip(space, &exported.subnet))
        @if !exported.budgets.is_empty() { h2 { "Budgets" } (budgets(exported)) }
        @if exported.search.evaluated.len() > 1 {
            h2 { "Search" }
            p.quiet { (exported.search.evaluations) " accuracies asked for by " (exported.search.strategy) ", seed " (exported.search.seed) ", on " (exported.validation_images) " validation images." (ended_early(exported)) }
            div.charts {
                (search::clouds(exported, space, profile))
                (search::history(exported))
            }
        }
        @if !exported.forms.is_empty() { h2 { "Forms and precisions, measured" } (forms(exported)) }
        @if let Some(profile) = profile.filter(|profile| !profile.nodes.is_empty()) {
            h2 { "Where the time goes on " (profile.name) }
            div.charts { @for nodes in &profile.nodes { (profile::operators(profile, nodes)) } }
        }
        h2 { "Proof" }
        (proof(exported))
        p.quiet { "Made by elastic " (exported.elastic_version) " from the report beside the model. Point at a mark to see its numbers." }
    };
    document(&format!("{name} - exported model"), index, &body)
}

/// How many evaluations were ended before their last image, and what that saved.
fn ended_early(exported: &Exported) -> String {
    let stopped: Vec<u64> = exported.search.evaluated.iter().filter_map(|seen| seen.stopped_after).collect();
    if stopped.is_empty() {
        return String::new();
    }
    let left_out: u64 = stopped.iter().map(|seen| exported.validation_images.saturating_sub(*seen)).sum();
    let all = exported.validation_images * exported.search.evaluations as u64;
    let (count, share) = (stopped.len(), percent(left_out as f64 / all.max(1) as f64));
    let were = if count == 1 { "was" } else { "were" };
    format!(
        " {count} of them {were} ended early, since a subnet that costs no more was clearly more accurate: {share} of the images were left out."
    )
}

fn facts(exported: &Exported) -> Markup {
    let latency = |us: Option<f64>| us.map(|us| Quantity::Latency.format(us));
    let mut facts = vec![
        ("Platform", exported.platform.clone().unwrap_or_else(|| "any".to_owned())),
        (
            "Accuracy on test images",
            format!("{} of {}", percent(exported.proof.test_accuracy), exported.proof.test_images),
        ),
        ("Accuracy on validation images", percent(exported.validation_accuracy)),
    ];
    facts.extend(latency(exported.measured_latency_us).map(|text| ("Measured latency", text)));
    facts.extend(
        latency(exported.predicted_latency_us).map(|text| ("Predicted latency of the portable form", text)),
    );
    facts.extend([
        ("FLOPs", Quantity::Flops.format(exported.flops as f64)),
        ("MACs", Quantity::Macs.format(exported.macs as f64)),
        ("Parameters", Quantity::Params.format(exported.params as f64)),
        ("File", Quantity::FileSize.format(exported.file_bytes as f64)),
        ("Written as", format!("{}, {}, opset {}", exported.precision, exported.form, exported.opset)),
        ("Run", exported.run.display().to_string()),
        ("SHA-256", exported.sha256.clone()),
        ("Supernet's SHA-256", exported.checkpoint.clone()),
    ]);
    html! { dl { @for (name, value) in facts { div { dt { (name) } dd { (value) } } } } }
}

fn budgets(exported: &Exported) -> Markup {
    html! {
        div.table { table {
            thead { tr { th { "budget" } th.number { "asked" } th.number { "predicted" } th.number { "of the written file" } th.number { "used" } } }
            tbody {
                @for Limit { asked, predicted, measured } in &exported.budgets {
                    @let text = |value: f64| asked.quantity.format(value);
                    tr {
                        th { (asked.quantity.name()) }
                        td.number { (text(asked.limit)) }
                        td.number { (text(*predicted)) }
                        td.number { (text(*measured)) }
                        td.number { (percent(measured / asked.limit)) }
                    }
                }
            }
        } }
    }
}

fn forms(exported: &Exported) -> Markup {
    let mut tried: Vec<&Tried> = exported.forms.iter().collect();
    let time = |one: &Tried| one.p50_us.unwrap_or(f64::INFINITY);
    tried.sort_by(|a, b| time(a).total_cmp(&time(b)));
    let is_written = |one: &Tried| one.form == exported.form && one.precision == exported.precision;
    html! {
        div.table { table {
            thead { tr { th { "form" } th { "precision" } th.number { "opset" } th.number { "median" } th { "" } } }
            tbody {
                @for one in tried {
                    tr {
                        th { (one.form) } td { (one.precision) } td.number { (one.opset) }
                        td.number { @if let Some(us) = one.p50_us { (Quantity::Latency.format(us)) } }
                        @if is_written(one) { td.good { "written" } }
                        @else { td { @if let Some(why) = &one.refused { "refused: " (why) } } }
                    }
                }
            }
        } }
    }
}

fn proof(exported: &Exported) -> Markup {
    html! {
        div.table { table {
            thead { tr { th { "runtime" } th.number { "largest difference of a logit" } th.number { "same class" } } }
            tbody {
                @for Agreement { runtime, max_abs_difference, same_top1, samples } in &exported.proof.agreement {
                    tr {
                        th { (runtime) }
                        td.number { @if let Some(difference) = max_abs_difference { (format!("{difference:.1e}")) } @else { "infinite" } }
                        td.number { (same_top1) " of " (samples) }
                    }
                }
            }
        } }
    }
}
