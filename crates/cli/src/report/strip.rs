//! The architecture of a subnet as a drawing: every decision of the space as a bar in the outline of its largest choice.
//!
//! It is drawn from the slots of the space, so that it knows no family.

use elastic_space::slot::Place;
use elastic_space::{Dimension, SearchSpace, Slot, Subnet};
use maud::{Markup, html};

use super::chart::{px, width};

/// Height of a bar of the largest choice.
const HEIGHT: f64 = 84.0;
/// Above the bars: the titles.
const TOP: f64 = 34.0;
/// Width of a bar, and of the space beside it.
const BAR: (f64, f64) = (26.0, 12.0);
/// How much wider than guessed a title may be: it has room for that, or the first one would be cut at the edge.
const TITLE: f64 = 1.4;
/// The space between columns.
const GAP: f64 = 10.0;
/// Below the bars: what was chosen of how much.
const BOTTOM: f64 = 36.0;

/// One decision.
#[derive(Debug, PartialEq)]
struct Bar {
    name: String,
    dimension: Dimension,
    /// Nothing where the layer is left out.
    value: Option<usize>,
    largest: usize,
}

/// What is decided of one part of the network.
#[derive(Debug, PartialEq)]
struct Column {
    title: String,
    /// Whether the subnet has the part.
    kept: bool,
    bars: Vec<Bar>,
}

/// The drawing of a subnet of the space; nothing if it is of another.
pub(super) fn strip(space: &SearchSpace, subnet: &Subnet) -> Markup {
    let Some(columns) = columns(space, subnet) else { return html! {} };
    let width_of = |column: &Column| of_bars(column).max(TITLE * width(&column.title)) + GAP;
    let total: f64 = columns.iter().map(width_of).sum();
    let mut lefts = Vec::with_capacity(columns.len());
    let mut left = 0.0;
    for column in &columns {
        lefts.push(left);
        left += width_of(column);
    }
    let mut dimensions: Vec<Dimension> = Vec::new();
    for bar in columns.iter().flat_map(|column| &column.bars) {
        if !dimensions.contains(&bar.dimension) {
            dimensions.push(bar.dimension);
        }
    }
    html! {
        div.plot {
            svg.strip viewBox=(format!("0 0 {} {}", px(total), px(TOP + HEIGHT + BOTTOM))) width=(px(total)) role="img" aria-label=(format!("architecture: {subnet}")) {
                @for (column, left) in columns.iter().zip(&lefts) { (draw(column, *left, width_of(column) - GAP)) }
            }
        }
        ul.legend {
            @for dimension in dimensions {
                li { svg viewBox="0 0 30 12" aria-hidden="true" { rect.mark.(colour(dimension)) x="8" y="0" width="14" height="12" {} } (dimension.name()) }
            }
            li { svg viewBox="0 0 30 12" aria-hidden="true" { rect.outline x="8" y="0" width="14" height="12" {} } "the largest choice" }
            @if columns.iter().any(|column| !column.kept) {
                li { svg viewBox="0 0 30 12" aria-hidden="true" { rect.absent x="8" y="0" width="14" height="12" {} } "left out" }
            }
        }
    }
}

/// What the bars of a column take.
fn of_bars(column: &Column) -> f64 {
    column.bars.len().max(1) as f64 * (BAR.0 + BAR.1)
}

fn draw(column: &Column, left: f64, wide: f64) -> Markup {
    let inner = left + (wide - of_bars(column)) / 2.0;
    let base = TOP + HEIGHT;
    html! {
        rect.column.absent[!column.kept] x=(px(left)) y=(px(TOP - 6.0)) width=(px(wide)) height=(px(HEIGHT + BOTTOM)) rx="4" {}
        text.name x=(px(left + wide / 2.0)) y=(px(TOP - 14.0)) text-anchor="middle" { (column.title) }
        @for (place, bar) in column.bars.iter().enumerate() {
            @let x = inner + (BAR.0 + BAR.1) * place as f64 + BAR.1 / 2.0;
            @let middle = px(x + BAR.0 / 2.0);
            rect.outline.absent[bar.value.is_none()] x=(px(x)) y=(px(TOP)) width=(px(BAR.0)) height=(px(HEIGHT)) {}
            @if let Some(value) = bar.value {
                @let high = HEIGHT * value as f64 / bar.largest as f64;
                rect.mark.(colour(bar.dimension)) x=(px(x)) y=(px(base - high)) width=(px(BAR.0)) height=(px(high)) {
                    title { (column.title) ": " (bar.name) " " (value) " of " (bar.largest) }
                }
                text x=(middle) y=(px(base + 14.0)) text-anchor="middle" { (value) }
                text.name x=(middle) y=(px(base + 27.0)) text-anchor="middle" { "/" (bar.largest) }
            }
        }
        @if column.bars.is_empty() && column.kept {
            rect.mark.(colour(Dimension::Depth)) x=(px(inner + BAR.1 / 2.0)) y=(px(TOP)) width=(px(BAR.0)) height=(px(HEIGHT)) {}
        }
    }
}

fn colour(dimension: Dimension) -> String {
    let place = Dimension::ALL.iter().position(|one| *one == dimension).unwrap_or(0);
    format!("c{place}")
}

/// The parts from input to output, each with its decisions.
fn columns(space: &SearchSpace, subnet: &Subnet) -> Option<Vec<Column>> {
    let slots = space.slots();
    let values = space.values(subnet)?;
    let decided: Vec<(&Slot, Option<usize>)> = slots.iter().zip(values).collect();
    let bars = |of: &dyn Fn(&Slot) -> bool| -> Vec<Bar> {
        let of_part = decided.iter().filter(|(slot, _)| slot.dimension != Dimension::Depth && of(slot));
        of_part.map(|(slot, value)| bar(slot, *value)).collect()
    };
    let whole = |slot: &Slot| slot.place == Place::Network;
    let inner = |slot: &&Slot| !whole(slot) || slot.dimension == Dimension::Depth;
    let first = slots.iter().position(|slot| inner(&slot)).unwrap_or(slots.len());
    let last = slots.iter().rposition(|slot| !whole(slot)).unwrap_or(slots.len());
    let name_of = |slot: &Slot| slot.name.clone();
    let before: Vec<String> =
        slots.iter().take(last.max(first)).filter(|slot| whole(slot)).map(name_of).collect();
    let after: Vec<String> = slots.iter().skip(last).filter(|slot| whole(slot)).map(name_of).collect();
    let mut columns = Vec::new();
    let mut push = |title: String, kept: bool, bars: Vec<Bar>| columns.push(Column { title, kept, bars });
    let network = bars(&|slot| before.contains(&slot.name));
    if !network.is_empty() {
        push(title(&network), true, network);
    }
    for (depth, mask) in decided.iter().filter(|(slot, _)| slot.dimension == Dimension::Depth) {
        let in_part = |place: Place| match depth.place {
            Place::Stage(stage) => place == Place::Stage(stage),
            _ => matches!(place, Place::Stage(_)),
        };
        let of_stage = bars(&|slot| in_part(slot.place));
        if !of_stage.is_empty() {
            let title = match depth.place {
                Place::Stage(stage) => format!("stage {}", stage + 1),
                _ => "stages".to_owned(),
            };
            push(title, true, of_stage);
        }
        let all = depth.choices[depth.largest()];
        for number in (0..usize::BITS as usize).filter(|number| all >> number & 1 == 1) {
            let kept = mask.is_some_and(|mask| mask >> number & 1 == 1);
            let of_layer = bars(&|slot| match (slot.place, depth.place) {
                (Place::Layer { layer, stage }, Place::Stage(own)) => layer == number && stage == own,
                (Place::Layer { layer, .. }, _) => layer == number,
                _ => false,
            });
            push((number + 1).to_string(), kept, of_layer);
        }
    }
    let head = bars(&|slot| after.contains(&slot.name));
    if !head.is_empty() {
        push(title(&head), true, head);
    }
    Some(columns)
}

/// What decisions for the whole network are of.
fn title(bars: &[Bar]) -> String {
    let of_head = bars.iter().all(|bar| bar.name.starts_with("head."));
    if of_head { "head".to_owned() } else { "network".to_owned() }
}

fn bar(slot: &Slot, value: Option<usize>) -> Bar {
    let name = match slot.place {
        Place::Network => slot.field.clone(),
        // The part is told by the column.
        _ => slot.field.rsplit('.').next().unwrap_or(&slot.field).to_owned(),
    };
    Bar { name, dimension: slot.dimension, value, largest: slot.choices[slot.largest()] }
}

#[cfg(test)]
mod tests {
    use elastic_trainer::Model;

    use super::*;

    fn space(model: &str) -> SearchSpace {
        let path = format!("{}/../../models/{model}.yaml", env!("CARGO_MANIFEST_DIR"));
        Model::read(path.as_ref()).expect("the model files are in the repository").space
    }

    /// Each column as its title, what it decides, and `-` where it is left out.
    fn written(space: &SearchSpace, subnet: &Subnet) -> Vec<String> {
        let of = |bar: &Bar| {
            let value = bar.value.map_or_else(|| "none".to_owned(), |value| value.to_string());
            format!(" {} {value}/{}", bar.name, bar.largest)
        };
        let column = |column: &Column| {
            let left_out = if column.kept { "" } else { " -" };
            format!("{}{left_out}{}", column.title, column.bars.iter().map(of).collect::<String>())
        };
        columns(space, subnet).expect("a subnet of the space").iter().map(column).collect()
    }

    #[test]
    fn the_smallest_vit_against_the_largest() {
        let space = space("vit-fashion");
        let left_out = " - heads none/4 mlp-width none/192";
        assert_eq!(
            written(&space, &space.smallest()),
            [
                "network embed-dim 32/64",
                "1 heads 2/4 mlp-width 64/192",
                "2 heads 2/4 mlp-width 64/192",
                &format!("3{left_out}"),
                &format!("4{left_out}"),
            ]
        );
    }

    #[test]
    fn every_family_is_drawn_whole() {
        for model in ["vit-fashion", "conv-fashion", "swin-fashion", "bert-minilm"] {
            let space = space(model);
            let decided = space.slots().iter().filter(|slot| slot.dimension != Dimension::Depth).count();
            for subnet in [space.largest(), space.smallest()] {
                let columns = columns(&space, &subnet).expect("a subnet of the space");
                let drawn: usize = columns.iter().map(|column| column.bars.len()).sum();
                assert_eq!(drawn, decided, "{model}: {columns:#?}");
                let left_out = columns.iter().any(|column| !column.kept);
                assert_eq!(left_out, subnet != space.largest(), "{model}: {subnet}");
            }
        }
    }
}
