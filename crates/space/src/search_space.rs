//! The search space of a supernet: the choices of every elastic dimension.

use std::collections::{BTreeMap, BTreeSet};

use rand::Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::bert::{self, BertSpace, InvalidBertSpace};
use crate::conv::{ConvSpace, InvalidConvSpace};
use crate::cost::Cost;
use crate::genome::{self, Genome};
use crate::shape::{LayerShape, Shape};
use crate::slot::{Dimension, Slot};
use crate::subnet::Subnet;
use crate::swin::{InvalidSwinSpace, SwinSpace};
use crate::vit::{InvalidVitSpace, VitSpace};

/// The subnets of a space as numbers for an additive model of what they cost on a device: [`SearchSpace::features`], and the MACs of
/// each layer in millions (zero for one that is left out), as a multiply costs more in one kind of layer than in another.
#[derive(Debug, Clone)]
pub struct CostFeatures<'a> {
    space: &'a SearchSpace,
    /// The names of the layers that multiply, of the largest subnet.
    layers: Vec<String>,
}

impl CostFeatures<'_> {
    /// The name of each number.
    pub fn names(&self) -> Vec<String> {
        let layers = self.layers.iter().map(|name| format!("{name} mega-macs"));
        self.space.feature_names().into_iter().chain(layers).collect()
    }

    /// The numbers of a subnet.
    ///
    /// # Panics
    ///
    /// If the subnet is of another family.
    pub fn of(&self, subnet: &Subnet) -> Vec<f64> {
        let shape = self.space.shape(subnet);
        let macs: BTreeMap<&str, u64> =
            shape.layers.iter().map(|layer| (&layer.name[..], layer.macs())).collect();
        let of_layer = |name: &String| macs.get(&name[..]).map_or(0.0, |&macs| macs as f64 / 1e6);
        let mut features = self.space.indicators(subnet, shape.cost());
        features.extend(self.layers.iter().map(of_layer));
        features
    }
}

/// The choices of every elastic dimension of one family.
///
/// It is the only source of the supernet's largest sizes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SearchSpace {
    /// A vision transformer.
    Vit(VitSpace),
    /// Inverted residuals with depthwise convolutions.
    Conv(ConvSpace),
    /// Attention within windows that shift from layer to layer.
    Swin(SwinSpace),
    /// An encoder of texts.
    Bert(BertSpace),
}

/// Why a search space is refused.
#[derive(Debug, Error, PartialEq)]
pub enum InvalidSpace {
    /// The vision transformer's rules.
    #[error("space.vit: {0}")]
    Vit(#[from] InvalidVitSpace),
    /// The convolutional network's rules.
    #[error("space.conv: {0}")]
    Conv(#[from] InvalidConvSpace),
    /// The Swin transformer's rules.
    #[error("space.swin: {0}")]
    Swin(#[from] InvalidSwinSpace),
    /// The BERT encoder's rules.
    #[error("space.bert: {0}")]
    Bert(#[from] InvalidBertSpace),
}

/// A subnet that its space does not hold.
#[derive(Debug, Error, PartialEq)]
#[error("subnet `{subnet}` is not in the search space: {reason}")]
pub struct NotInSpace {
    /// The subnet.
    pub subnet: String,
    /// The slot and the value that do not fit.
    pub reason: String,
}

impl SearchSpace {
    /// Checks every rule that the type cannot hold.
    ///
    /// # Errors
    ///
    /// The first rule that is broken.
    pub fn validate(&self) -> Result<(), InvalidSpace> {
        match self {
            Self::Vit(space) => Ok(space.validate()?),
            Self::Conv(space) => Ok(space.validate()?),
            Self::Swin(space) => Ok(space.validate()?),
            Self::Bert(space) => Ok(space.validate()?),
        }
    }

    /// The family's name.
    pub fn family(&self) -> &'static str {
        match self {
            Self::Vit(_) => "vit",
            Self::Conv(_) => "conv",
            Self::Swin(_) => "swin",
            Self::Bert(_) => "bert",
        }
    }

    /// Channels, height and width of one input; of a text its [rows](bert::ROWS), 1, and tokens at most.
    pub fn input(&self) -> [usize; 3] {
        match self {
            Self::Vit(space) => [space.channels, space.image_size, space.image_size],
            Self::Conv(space) => [space.channels, space.image_size, space.image_size],
            Self::Swin(space) => [space.channels, space.image_size, space.image_size],
            Self::Bert(space) => [bert::ROWS, 1, space.length],
        }
    }

    /// Number of tokens that a family of texts knows; none for a family of images.
    pub fn vocabulary(&self) -> Option<usize> {
        match self {
            Self::Vit(_) | Self::Conv(_) | Self::Swin(_) => None,
            Self::Bert(space) => Some(space.vocabulary),
        }
    }

    /// Features of one attention head, for a family that has attention.
    pub fn head_dim(&self) -> Option<usize> {
        match self {
            Self::Vit(space) => Some(space.head_dim),
            Self::Conv(_) => None,
            Self::Swin(space) => Some(space.head_dim),
            Self::Bert(space) => Some(space.head_dim),
        }
    }

    /// Whether a subnet's normalisations need the statistics of images before it is judged or exported.
    pub fn needs_calibration(&self) -> bool {
        match self {
            Self::Vit(_) | Self::Swin(_) | Self::Bert(_) => false,
            Self::Conv(_) => true,
        }
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        match self {
            Self::Vit(space) => space.classes,
            Self::Conv(space) => space.classes,
            Self::Swin(space) => space.classes,
            Self::Bert(space) => space.classes,
        }
    }

    /// The decisions, in a fixed order.
    pub fn slots(&self) -> Vec<Slot> {
        match self {
            Self::Vit(space) => space.slots(),
            Self::Conv(space) => space.slots(),
            Self::Swin(space) => space.slots(),
            Self::Bert(space) => space.slots(),
        }
    }

    /// The subnet of a genome. Choices of layers that are left out disappear.
    ///
    /// # Panics
    ///
    /// If the genome was made for other slots.
    pub fn decode(&self, genome: &[usize]) -> Subnet {
        self.decode_with(&self.slots(), genome)
    }

    /// [`Self::decode`] for a loop that holds the space's [`Self::slots`] already: listing them takes
    /// longer than the rest.
    ///
    /// # Panics
    ///
    /// If the slots or the genome are of another space.
    pub fn decode_with(&self, slots: &[Slot], genome: &[usize]) -> Subnet {
        let values: Vec<usize> = slots.iter().zip(genome).map(|(slot, &index)| slot.choices[index]).collect();
        match self {
            Self::Vit(space) => Subnet::Vit(space.decode(&values)),
            Self::Conv(space) => Subnet::Conv(space.decode(&values)),
            Self::Swin(space) => Subnet::Swin(space.decode(&values)),
            Self::Bert(space) => Subnet::Bert(space.decode(&values)),
        }
    }

    /// The genome of a subnet; slots of layers that are left out hold their largest choice.
    ///
    /// # Errors
    ///
    /// [`NotInSpace`] if it is of another family, a value is not among its slot's choices, or layers that share a
    /// slot differ.
    pub fn encode(&self, subnet: &Subnet) -> Result<Genome, NotInSpace> {
        let refuse = |reason: String| NotInSpace { subnet: subnet.to_string(), reason };
        let values = self
            .values(subnet)
            .ok_or_else(|| refuse(format!("it is of another family than {}", self.family())))?;
        let genome = self
            .slots()
            .iter()
            .zip(values)
            .map(|(slot, value)| match value {
                None => Ok(slot.largest()),
                Some(value) => {
                    slot.choices.iter().position(|&c| c == value).ok_or_else(|| refuse(slot.refusal(value)))
                }
            })
            .collect::<Result<Genome, _>>()?;
        if self.decode(&genome) == *subnet {
            Ok(genome)
        } else {
            Err(refuse("its layers differ where the space shares one choice, or are out of order".into()))
        }
    }

    /// The same space with only some dimensions open: the others keep their largest choice.
    ///
    /// Its subnets are subnets of this space.
    #[must_use]
    pub fn restricted(&self, open: &BTreeSet<Dimension>) -> Self {
        match self {
            Self::Vit(space) => Self::Vit(space.restricted(open)),
            Self::Conv(space) => Self::Conv(space.restricted(open)),
            Self::Swin(space) => Self::Swin(space.restricted(open)),
            Self::Bert(space) => Self::Bert(space.restricted(open)),
        }
    }

    /// A subnet of this space with the largest choice in every dimension that is not open.
    ///
    /// # Errors
    ///
    /// [`NotInSpace`] if the subnet is none of this space.
    pub fn restrict(&self, subnet: &Subnet, open: &BTreeSet<Dimension>) -> Result<Subnet, NotInSpace> {
        let (slots, genome) = (self.slots(), self.encode(subnet)?);
        let choose = |(slot, index): (&Slot, usize)| {
            if open.contains(&slot.dimension) { index } else { slot.largest() }
        };
        let genome: Genome = slots.iter().zip(genome).map(choose).collect();
        Ok(self.decode_with(&slots, &genome))
    }

    /// The dimensions that have more than one choice.
    pub fn dimensions(&self) -> BTreeSet<Dimension> {
        self.slots().iter().filter(|slot| slot.choices.len() > 1).map(|slot| slot.dimension).collect()
    }

    /// The subnet of all largest choices.
    pub fn largest(&self) -> Subnet {
        self.decode(&self.slots().iter().map(Slot::largest).collect::<Genome>())
    }

    /// The subnet of all smallest choices.
    pub fn smallest(&self) -> Subnet {
        self.decode(&vec![0; self.slots().len()])
    }

    /// A subnet with every slot drawn by its weights.
    pub fn draw(&self, rng: &mut impl Rng) -> Subnet {
        self.decode(&genome::draw(&self.slots(), rng))
    }

    /// Up to `count` different random subnets, in the order of their drawing.
    ///
    /// Fewer only if the space seems to hold no more: 100 draws in a row brought nothing new.
    pub fn draw_distinct(&self, count: usize, rng: &mut impl Rng) -> Vec<Subnet> {
        let mut seen = std::collections::HashSet::new();
        let mut drawn = Vec::new();
        let mut misses = 0;
        while drawn.len() < count && misses < 100 {
            let subnet = self.draw(rng);
            if seen.insert(subnet.clone()) {
                drawn.push(subnet);
                misses = 0;
            } else {
                misses += 1;
            }
        }
        drawn
    }

    /// Up to `count` different random subnets in which every choice of a slot is drawn as often as its weight says, give or take one:
    /// what a model of each choice's cost is best fitted to. Subnets that are drawn twice, and choices of layers that are left out,
    /// disturb that a little.
    pub fn draw_balanced(&self, count: usize, rng: &mut impl Rng) -> Vec<Subnet> {
        let slots = self.slots();
        let columns: Vec<Vec<usize>> =
            slots.iter().map(|slot| genome::balanced(&slot.weights, count, rng)).collect();
        let mut drawn: Vec<Subnet> = Vec::with_capacity(count);
        for row in 0..count {
            let genome: Vec<usize> = columns.iter().map(|column| column[row]).collect();
            let subnet = self.decode_with(&slots, &genome);
            if !drawn.contains(&subnet) {
                drawn.push(subnet);
            }
        }
        for subnet in self.draw_distinct(2 * count, rng) {
            if drawn.len() < count && !drawn.contains(&subnet) {
                drawn.push(subnet);
            }
        }
        drawn
    }

    /// Up to `count` different subnets to measure: the largest, the smallest, then those of [`Self::draw_balanced`].
    pub fn draw_with_ends(&self, count: usize, rng: &mut impl Rng) -> Vec<Subnet> {
        let mut subnets = vec![self.largest(), self.smallest()];
        subnets.dedup();
        for subnet in self.draw_balanced(count, rng) {
            if !subnets.contains(&subnet) {
                subnets.push(subnet);
            }
        }
        subnets.truncate(count);
        subnets
    }

    /// The named subnets that every space has, and those that a model file adds.
    pub fn named(&self, extra: &BTreeMap<String, Subnet>) -> BTreeMap<String, Subnet> {
        let mut named = extra.clone();
        named.insert("largest".to_owned(), self.largest());
        named.insert("smallest".to_owned(), self.smallest());
        named
    }

    /// How many different subnets there are (saturating).
    pub fn size(&self) -> u128 {
        match self {
            Self::Vit(space) => space.size(),
            Self::Conv(space) => space.size(),
            Self::Swin(space) => space.size(),
            Self::Bert(space) => space.size(),
        }
    }

    /// The typed layers of a subnet.
    ///
    /// # Panics
    ///
    /// If the subnet is of another family.
    pub fn shape(&self, subnet: &Subnet) -> Shape {
        match (self, subnet) {
            (Self::Vit(space), Subnet::Vit(subnet)) => space.shape(subnet),
            (Self::Conv(space), Subnet::Conv(subnet)) => space.shape(subnet),
            (Self::Swin(space), Subnet::Swin(subnet)) => space.shape(subnet),
            (Self::Bert(space), Subnet::Bert(subnet)) => space.shape(subnet),
            (Self::Vit(_) | Self::Conv(_) | Self::Swin(_) | Self::Bert(_), _) => {
                panic!("subnet `{subnet}` is of another family than {}", self.family())
            }
        }
    }

    /// Parameters and MACs of a subnet.
    pub fn cost(&self, subnet: &Subnet) -> Cost {
        self.shape(subnet).cost()
    }

    /// The names of the entries of [`Self::features`].
    pub fn feature_names(&self) -> Vec<String> {
        let mut names = Vec::new();
        for slot in self.slots() {
            names.extend(slot.indicators().into_iter().map(|label| format!("{}={label}", slot.name)));
        }
        names.push("mega-macs".into());
        names
    }

    /// The subnet as numbers for an additive model: one indicator per choice of each slot (all zero
    /// for a layer that is left out; for depth one per kept layer), then its MACs in millions.
    ///
    /// # Panics
    ///
    /// If the subnet is of another family.
    pub fn features(&self, subnet: &Subnet) -> Vec<f64> {
        self.indicators(subnet, self.cost(subnet))
    }

    /// [`Self::features`] of a subnet of this cost.
    fn indicators(&self, subnet: &Subnet, cost: Cost) -> Vec<f64> {
        let values = self.values(subnet).expect("a subnet of this family");
        let mut features = Vec::new();
        for (slot, value) in self.slots().iter().zip(values) {
            features.extend(slot.indicate(value));
        }
        features.push(cost.macs as f64 / 1e6);
        features
    }

    /// What an additive model of the costs on a device sees of the space's subnets.
    pub fn cost_features(&self) -> CostFeatures<'_> {
        let multiplies = |layer: &LayerShape| layer.macs() > 0;
        let layers = self.shape(&self.largest()).layers.into_iter().filter(multiplies);
        CostFeatures { space: self, layers: layers.map(|layer| layer.name).collect() }
    }

    /// The subnet as sizes: the value of each slot over its largest choice (zero for a layer that is left out; for
    /// depth one per kept layer), then the logarithm of its MACs.
    ///
    /// Unlike [`Self::features`], they tell of choices that were never seen by those between which they lie.
    ///
    /// # Panics
    ///
    /// If the subnet is of another family.
    pub fn sizes(&self, subnet: &Subnet) -> Vec<f64> {
        let values = self.values(subnet).expect("a subnet of this family");
        let mut sizes = Vec::new();
        for (slot, value) in self.slots().iter().zip(values) {
            match slot.dimension {
                Dimension::Depth => sizes.extend(slot.indicate(value)),
                _ => sizes.push(value.unwrap_or(0) as f64 / slot.choices[slot.largest()] as f64),
            }
        }
        sizes.push((self.cost(subnet).macs as f64).ln());
        sizes
    }

    /// The value of each slot, `None` where the slot belongs to a layer that is left out; none at all for a
    /// subnet of another family.
    pub fn values(&self, subnet: &Subnet) -> Option<Vec<Option<usize>>> {
        match (self, subnet) {
            (Self::Vit(space), Subnet::Vit(subnet)) => Some(space.values(subnet)),
            (Self::Conv(space), Subnet::Conv(subnet)) => Some(space.values(subnet)),
            (Self::Swin(space), Subnet::Swin(subnet)) => Some(space.values(subnet)),
            (Self::Bert(space), Subnet::Bert(subnet)) => Some(space.values(subnet)),
            (Self::Vit(_) | Self::Conv(_) | Self::Swin(_) | Self::Bert(_), _) => None,
        }
    }
}

impl Slot {
    fn indicators(&self) -> Vec<usize> {
        match self.dimension {
            Dimension::Depth => (0..usize::BITS as usize)
                .filter(|layer| self.choices[self.largest()] >> layer & 1 == 1)
                .collect(),
            _ => self.choices.clone(),
        }
    }

    /// Why `value` is no choice. Depth is told in layers: its choices are bit masks, up to thousands.
    fn refusal(&self, value: usize) -> String {
        if self.dimension == Dimension::Depth {
            let kept: Vec<usize> =
                (0..usize::BITS as usize).filter(|layer| value >> layer & 1 == 1).collect();
            format!("the kept layers {kept:?} are not a choice of {}", self.name)
        } else {
            format!("{} is {value}, the choices are {:?}", self.name, self.choices)
        }
    }

    fn indicate(&self, value: Option<usize>) -> Vec<f64> {
        let holds = |label: usize| match (self.dimension, value) {
            (_, None) => false,
            (Dimension::Depth, Some(mask)) => mask >> label & 1 == 1,
            (_, Some(value)) => value == label,
        };
        self.indicators().into_iter().map(|label| f64::from(u8::from(holds(label)))).collect()
    }
}
