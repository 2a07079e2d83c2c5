//! Where the time of a model goes, operator by operator.

use std::collections::BTreeMap;

use elastic_profiler::Environment;
use elastic_runtime::NodeTime;

use crate::table;

/// What is said where no nodes were timed.
pub(crate) const NONE: &str = "This runtime does not time operators.";

/// All nodes of a graph that run one operator.
pub(crate) struct Operator<'a> {
    pub(crate) name: &'a str,
    pub(crate) nodes: usize,
    /// Microseconds of one run, of all of them together.
    pub(crate) us: f64,
    /// Their share of the time of all nodes, 0 to 1.
    pub(crate) share: f64,
}

/// The operators of a graph, the one that takes longest first.
pub(crate) fn by_operator(nodes: &[NodeTime]) -> Vec<Operator<'_>> {
    let mut operators: BTreeMap<&str, (usize, f64)> = BTreeMap::new();
    for node in nodes {
        let (count, us) = operators.entry(&node.operator).or_default();
        (*count, *us) = (*count + 1, *us + node.median_us);
    }
    let total: f64 = operators.values().map(|(_, us)| us).sum();
    let operator = |(name, (nodes, us))| {
        let share = if total > 0.0 { us / total } else { 0.0 };
        Operator { name, nodes, us, share }
    };
    let mut operators: Vec<Operator<'_>> = operators.into_iter().map(operator).collect();
    operators.sort_by(|a, b| b.us.total_cmp(&a.us));
    operators
}

/// Prints the time of each operator in one run.
pub(crate) fn print(title: &str, nodes: &[NodeTime], environment: &Environment) {
    let mut providers: BTreeMap<&str, usize> = BTreeMap::new();
    for node in nodes {
        *providers.entry(&node.provider).or_default() += 1;
    }
    let row = |Operator { name, nodes, us, share }: Operator<'_>| {
        vec![name.to_owned(), nodes.to_string(), format!("{us:.0}"), format!("{:.1} %", 100.0 * share)]
    };
    let placed: Vec<String> =
        providers.into_iter().map(|(provider, count)| format!("{count} on {provider}")).collect();
    println!("{title}: nodes: {} (asked: {})", placed.join(", "), environment.provider);
    let rows: Vec<Vec<String>> = by_operator(nodes).into_iter().map(row).collect();
    table::print(&["operator", "nodes", "us", "share"], &rows);
    println!("Timed in runs of their own, which are slower; whole microseconds.\n");
}
