//! The table of what the last evaluation says of each subnet.

use elastic_space::budget::Quantity;
use elastic_trainer::health::{Health, SubnetHealth};

use crate::table::{self, percent};

/// Prints a row a subnet, and a warning if one has collapsed.
pub(crate) fn print(health: &Health, accuracy_title: &str) {
    let row = |subnet: &SubnetHealth| {
        vec![
            subnet.name.clone(),
            Quantity::Params.format(subnet.cost.params as f64),
            Quantity::Macs.format(subnet.cost.macs as f64),
            percent(subnet.accuracy),
            word(subnet.collapsed).to_owned(),
        ]
    };
    let rows: Vec<Vec<String>> = health.subnets().map(row).collect();
    table::print(&["subnet", "parameters", "MACs", accuracy_title, "health"], &rows);
    if let Some(warning) = warning(health) {
        println!("\nwarning: {warning}");
    }
}

/// How a subnet is, in a word.
pub(crate) fn word(collapsed: bool) -> &'static str {
    if collapsed { "collapsed" } else { "ok" }
}

/// What is wrong and what to do, if a subnet has collapsed.
pub(crate) fn warning(health: &Health) -> Option<String> {
    let collapsed = health.collapsed();
    if collapsed.is_empty() {
        return None;
    }
    Some(format!(
        "{} of {} subnets collapsed, with an accuracy below {} (chance {} + margin {}): {}; lower the learning-rate, set clip-gradient-norm, or train longer",
        collapsed.len(),
        health.subnets().count(),
        percent(health.threshold.chance + health.threshold.margin),
        percent(health.threshold.chance),
        percent(health.threshold.margin),
        collapsed.join(", ")
    ))
}
