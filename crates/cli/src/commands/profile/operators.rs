//! Where the time of a model goes, operator by operator.

use std::collections::BTreeMap;

use elastic_profiler::Environment;
use elastic_runtime::NodeTime;

use crate::table;

/// What is said where no nodes were timed.
pub(super) const NONE: &str = "This runtime does not time operators.";

/// Prints the time of each operator in one run; of all nodes that run it together.
pub(super) fn print(title: &str, nodes: &[NodeTime], environment: &Environment) {
    let mut operators: BTreeMap<&str, (usize, f64)> = BTreeMap::new();
    let mut providers: BTreeMap<&str, usize> = BTreeMap::new();
    for node in nodes {
        let (count, us) = operators.entry(&node.operator).or_default();
        (*count, *us) = (*count + 1, *us + node.median_us);
        *providers.entry(&node.provider).or_default() += 1;
    }
    let total: f64 = operators.values().map(|(_, us)| us).sum();
    let mut operators: Vec<_> = operators.into_iter().collect();
    operators.sort_by(|(_, (_, a)), (_, (_, b))| b.total_cmp(a));
    let row = |(operator, (count, us)): (&str, (usize, f64))| {
        let share = if total > 0.0 { 100.0 * us / total } else { 0.0 };
        vec![operator.to_owned(), count.to_string(), format!("{us:.0}"), format!("{share:.1} %")]
    };
    let placed: Vec<String> =
        providers.into_iter().map(|(provider, count)| format!("{count} on {provider}")).collect();
    println!("{title}: nodes: {} (asked: {})", placed.join(", "), environment.provider);
    table::print(&["operator", "nodes", "us", "share"], &operators.into_iter().map(row).collect::<Vec<_>>());
    println!("Timed in runs of their own, which are slower; whole microseconds.\n");
}
