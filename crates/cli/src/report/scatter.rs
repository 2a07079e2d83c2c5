//! Accuracy against MACs: what each size of network is worth.

use elastic_space::budget::Quantity;
use elastic_trainer::health::{Health, SubnetHealth};
use maud::{Markup, html};

use super::RunReport;
use super::chart::{AREA, Axis, Frame, decimal, mark, path, percent, px, width};
use super::curves::names;
use super::front::{front, stairs};

/// The place of a text: left, top, right, bottom.
type Area = [f64; 4];

/// All subnets of the last evaluation.
pub(super) fn chart(report: &RunReport, health: &Health) -> Markup {
    let subnets: Vec<&SubnetHealth> = health.subnets().collect();
    let largest = subnets.iter().map(|subnet| subnet.cost.macs).max().unwrap_or(0);
    let (unit, label) = unit(Quantity::Macs, largest as f64);
    let macs = |subnet: &SubnetHealth| subnet.cost.macs as f64 / unit;
    let frame = Frame {
        x: Axis::around(subnets.iter().map(|subnet| macs(subnet)), &format!("{label} of one input"), decimal),
        y: Axis::around(subnets.iter().map(|subnet| subnet.accuracy), "validation accuracy", percent),
    };
    let place = |subnet: &SubnetHealth| frame.at(macs(subnet), subnet.accuracy);
    let points: Vec<(f64, f64)> =
        subnets.iter().map(|subnet| (subnet.cost.macs as f64, subnet.accuracy)).collect();
    let front: Vec<&SubnetHealth> = front(&points).into_iter().map(|place| subnets[place]).collect();
    let order = names(report);
    let series = |name: &str| order.iter().position(|known| known == name).unwrap_or(0);
    let marks: Vec<(f64, f64)> = subnets.iter().map(|subnet| place(subnet)).collect();
    let on_front: Vec<&str> = front.iter().map(|subnet| subnet.name.as_str()).collect();
    let summary = format!(
        "validation accuracy against MACs of {} subnets; on the Pareto front, from small to large: {}",
        subnets.len(),
        on_front.join(", ")
    );
    let line = stairs(&front.iter().map(|subnet| place(subnet)).collect::<Vec<_>>());
    let mut taken: Vec<Area> = marks.iter().map(|(x, y)| [x - 4.0, y - 4.0, x + 4.0, y + 4.0]).collect();
    taken.extend(line.windows(2).map(|ends| segment(ends[0], ends[1])));
    let content = html! {
        polyline.front points=(path(&line)) {}
        @for subnet in &health.random {
            @let (x, y) = place(subnet);
            circle.random cx=(px(x)) cy=(px(y)) r="4" { title { (describe(subnet)) } }
        }
        @for subnet in &health.named {
            (mark(series(&subnet.name), place(subnet), &describe(subnet)))
        }
        @for subnet in &health.named {
            @if let Some([left, _, _, bottom]) = free(place(subnet), width(&subnet.name), &mut taken) {
                text.point-name x=(px(left)) y=(px(bottom - 3.0)) { (subnet.name) }
            }
        }
    };
    html! {
        (frame.draw(&summary, &html! {}, &content))
        ul.legend {
            li { svg viewBox="0 0 30 12" aria-hidden="true" { line.front x1="0" x2="30" y1="6" y2="6" {} } "Pareto front: no other subnet judged is better and no larger" }
            @if !health.random.is_empty() {
                li { svg viewBox="0 0 30 12" aria-hidden="true" { circle.random cx="15" cy="6" r="4" {} } "random subnet" }
            }
        }
    }
}

fn describe(subnet: &SubnetHealth) -> String {
    format!(
        "{}: {}, {}, {}; {}",
        subnet.name,
        crate::table::percent(subnet.accuracy),
        Quantity::Macs.format(subnet.cost.macs as f64),
        Quantity::Params.format(subnet.cost.params as f64),
        subnet.subnet
    )
}

/// What a quantity is counted in, given its largest value, and the name of that.
pub(super) fn unit(quantity: Quantity, largest: f64) -> (f64, String) {
    let (scale, prefix) = match largest {
        1e9.. => (1e9, "G"),
        1e6.. => (1e6, "M"),
        1e3.. => (1e3, "k"),
        _ => (1.0, ""),
    };
    let name = match quantity {
        Quantity::Flops => "FLOPs",
        Quantity::Macs => "MACs",
        Quantity::Params => "parameters",
        Quantity::FileSize | Quantity::Memory => "B",
        Quantity::Latency if largest >= 1e3 => return (1e3, "ms".to_owned()),
        Quantity::Latency => return (1.0, "us".to_owned()),
        Quantity::Energy if largest >= 1e3 => return (1e3, "mJ".to_owned()),
        Quantity::Energy => return (1.0, "uJ".to_owned()),
    };
    let prefix = if quantity == Quantity::Params && !prefix.is_empty() {
        format!("{prefix} ")
    } else {
        prefix.to_owned()
    };
    (scale, format!("{prefix}{name}"))
}

/// What a level or upright line takes.
fn segment(a: (f64, f64), b: (f64, f64)) -> Area {
    [a.0.min(b.0) - 1.0, a.1.min(b.1) - 1.0, a.0.max(b.0) + 1.0, a.1.max(b.1) + 1.0]
}

/// A place beside a point for a text of some width that nothing takes yet; takes it.
fn free((x, y): (f64, f64), width: f64, taken: &mut Vec<Area>) -> Option<Area> {
    let [left, top, right, bottom] = AREA;
    let lines = [-6.5, -19.0, 6.0, -31.0, 18.0];
    let places = [x + 8.0, x - 8.0 - width, x - width / 2.0]
        .into_iter()
        .flat_map(|left| lines.map(|line| [left, y + line, left + width, y + line + 13.0]));
    let inside = |a: &Area| a[0] >= left && a[1] >= top && a[2] <= right && a[3] <= bottom;
    let overlap = |a: &Area, b: &Area| a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];
    let place = places.into_iter().find(|a| inside(a) && !taken.iter().any(|b| overlap(a, b)))?;
    taken.push(place);
    Some(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_do_not_overlap() {
        let mut taken = Vec::new();
        let first = free((300.0, 100.0), 40.0, &mut taken).expect("all is free");
        assert_eq!(first, [308.0, 93.5, 348.0, 106.5]);
        let second = free((302.0, 100.0), 40.0, &mut taken).expect("other lines are free");
        assert!(second[3] <= first[1] || second[1] >= first[3] || second[2] <= first[0], "{second:?}");
        let edge = free((AREA[2], 200.0), 40.0, &mut taken).expect("the left is free");
        assert!(edge[2] <= AREA[2], "{edge:?}");
    }
}
