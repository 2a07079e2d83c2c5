//! A run, its profiles and its exported models as one static site: an index and a page for each of them.
//!
//! No page has outside parts; links are relative, so the folder can be served or opened anywhere.

use std::collections::BTreeMap;
use std::path::PathBuf;

use elastic_profiler::ProfileFile;
use elastic_space::budget::Quantity;
use maud::{Markup, html};

use super::document::document;
use super::export::{Exported, cloud, name};
use super::{RunReport, export, page, profile, strip};
use crate::table::percent;

/// Where a page of a folder finds the index.
const UP: &str = "../index.html";

/// What is joined.
pub(crate) struct Site<'a> {
    pub(crate) report: &'a RunReport,
    /// Profiles of the run's supernet.
    pub(crate) profiles: Vec<ProfileFile>,
    /// Models that were cut out of it, by names that are good for a file.
    pub(crate) exports: BTreeMap<String, Exported>,
}

impl Site<'_> {
    /// Each page by its place in the site.
    pub(crate) fn pages(&self) -> BTreeMap<PathBuf, String> {
        let space = &self.report.model.space;
        let mut pages = BTreeMap::from([
            (PathBuf::from("index.html"), self.index()),
            (PathBuf::from("training.html"), page::html(self.report, Some("index.html"))),
        ]);
        for profile in &self.profiles {
            pages.insert(PathBuf::from(profile_page(profile)), profile::html(profile, Some(UP)));
        }
        for (name, exported) in &self.exports {
            let page = export::html(exported, space, self.profile_of(exported), Some(UP));
            pages.insert(PathBuf::from(model_page(name)), page);
        }
        pages
    }

    fn profile_of(&self, exported: &Exported) -> Option<&ProfileFile> {
        self.profiles.iter().find(|profile| Some(&profile.name) == exported.platform.as_ref())
    }

    fn index(&self) -> String {
        let report = self.report;
        let mut platforms: Vec<Option<String>> =
            self.profiles.iter().map(|profile| Some(profile.name.clone())).collect();
        for exported in self.exports.values() {
            if !platforms.contains(&exported.platform) {
                platforms.push(exported.platform.clone());
            }
        }
        let body = html! {
            h1 { (report.name) }
            p { a href="training.html" { "The training" } @if !report.finished { ", not finished" } ": " (report.model.space.family()) ", step " (report.step()) "." }
            @if !self.exports.is_empty() { h2 { "Models" } (self.models()) }
            @for platform in &platforms { (self.platform(platform.as_deref())) }
            @if platforms.is_empty() {
                p.notice { "No profile and no exported model of this run's supernet was found." }
            }
            p.quiet { "Made by elastic " (env!("CARGO_PKG_VERSION")) " from the run, its profiles and the reports beside its models." }
        };
        document(&format!("{} - elastic", report.name), None, &body)
    }

    fn models(&self) -> Markup {
        html! {
            div.table { table {
                thead { tr {
                    th { "model" } th { "platform" } th.number { "test accuracy" } th.number { "measured latency" }
                    th.number { "FLOPs" } th.number { "file" } th { "written as" } th { "subnet" }
                } }
                tbody {
                    @for (name, exported) in &self.exports {
                        tr {
                            th { a href=(model_page(name)) { (name) } }
                            td { (exported.platform.as_deref().unwrap_or("any")) }
                            td.number { (percent(exported.proof.test_accuracy)) }
                            td.number { @if let Some(us) = exported.measured_latency_us { (Quantity::Latency.format(us)) } }
                            td.number { (Quantity::Flops.format(exported.flops as f64)) }
                            td.number { (Quantity::FileSize.format(exported.file_bytes as f64)) }
                            td { (exported.precision) ", " (exported.form) }
                            td { (exported.subnet) }
                        }
                    }
                }
            } }
        }
    }

    /// The cloud of a platform with its chosen points, and the architecture of each.
    fn platform(&self, platform: Option<&str>) -> Markup {
        let space = &self.report.model.space;
        let profile = self.profiles.iter().find(|profile| Some(&profile.name[..]) == platform);
        let of: Vec<(&String, &Exported)> =
            self.exports.iter().filter(|(_, exported)| exported.platform.as_deref() == platform).collect();
        let exports: Vec<&Exported> = of.iter().map(|(_, exported)| *exported).collect();
        let quantity = if profile.is_some() { Quantity::Latency } else { Quantity::Macs };
        html! {
            h2 { (platform.unwrap_or("Any platform")) }
            @if let Some(profile) = profile {
                p { (profile.platform.description) ". " a href=(profile_page(profile)) { "Profile" } ": " (profile.measurements.len()) " subnets measured, mean error of the latency model " (format!("{:.1} %", profile.latency_model.cv.mape_percent)) "." }
            }
            @if !exports.is_empty() {
                div.charts {
                    figure {
                        h3 { "Accuracy against " (name(quantity)) }
                        (cloud(&exports, quantity, space, profile))
                    }
                }
                @for (name, exported) in of {
                    h3 { a href=(model_page(name)) { (name) } }
                    p.quiet { (exported.subnet) "; " (percent(exported.validation_accuracy)) " of the validation images" }
                    (strip::strip(space, &exported.subnet))
                }
            }
        }
    }
}

fn profile_page(profile: &ProfileFile) -> String {
    format!("profiles/{}.html", profile.name)
}

fn model_page(name: &str) -> String {
    format!("models/{name}.html")
}
