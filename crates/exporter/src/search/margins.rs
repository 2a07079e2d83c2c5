//! What a subnet answered to each validation example.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Steps of a logit's unit.
const STEPS: f32 = 32.0;

/// By how much the logit of each example's label is above the highest of the others, in steps of 1/32, up to 4 either way.
///
/// What is farther from zero says no more about an answer's change from one subnet to another. A margin that is above zero
/// stays so, however small: the answer is right.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Margins(Vec<i8>);

impl Margins {
    /// Of margins in units of a logit.
    pub fn new(margins: &[f32]) -> Self {
        Self(margins.iter().map(|margin| rounded(margin * STEPS)).collect())
    }

    /// With those of the examples that follow.
    pub fn append(&mut self, mut following: Self) {
        self.0.append(&mut following.0);
    }

    /// The number of examples.
    pub fn examples(&self) -> usize {
        self.0.len()
    }

    /// The share of examples that are answered rightly, 0 to 1.
    pub fn accuracy(&self) -> f64 {
        self.0.iter().filter(|&&margin| margin > 0).count() as f64 / self.0.len() as f64
    }

    /// Whether an example is answered rightly.
    pub(super) fn is_right(&self, example: usize) -> bool {
        self.0[example] > 0
    }

    /// Those of the first examples.
    pub(super) fn first(&self, examples: usize) -> Self {
        Self(self.0[..examples].to_vec())
    }

    /// In units of a logit.
    pub(super) fn of(&self, example: usize) -> f64 {
        f64::from(self.0[example]) / f64::from(STEPS)
    }
}

/// To a whole number of steps; what is above zero stays so.
fn rounded(steps: f32) -> i8 {
    let rounded = steps.round().clamp(-f32::from(i8::MAX), f32::from(i8::MAX)) as i8;
    if steps > 0.0 { rounded.max(1) } else { rounded.min(0) }
}

/// One byte an example, in base 64.
impl Serialize for Margins {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> = self.0.iter().map(|margin| margin.cast_unsigned()).collect();
        serializer.serialize_str(&STANDARD.encode(bytes))
    }
}

impl<'de> Deserialize<'de> for Margins {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = STANDARD.decode(text).map_err(serde::de::Error::custom)?;
        Ok(Self(bytes.into_iter().map(u8::cast_signed).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_right_answer_stays_right() {
        let margins = Margins::new(&[0.001, -0.001, 0.0, 1.0, 100.0, -100.0, f32::NAN]);
        assert_eq!(margins.0, [1, 0, 0, 32, 127, -127, 0]);
        assert_eq!(margins.accuracy(), 3.0 / 7.0);
        assert_eq!((margins.of(3), margins.of(5)), (1.0, -127.0 / 32.0));
    }

    #[test]
    fn the_first_of_them_and_those_that_follow() {
        let mut margins = Margins(vec![4, -10]);
        margins.append(Margins(vec![29, 7]));
        assert_eq!(margins, Margins(vec![4, -10, 29, 7]));
        assert_eq!(margins.first(3), Margins(vec![4, -10, 29]));
        assert!(margins.is_right(0) && !margins.is_right(1));
    }

    #[test]
    fn margins_as_text() {
        let margins = Margins(vec![1, 0, -1, 127, -127]);
        let text = serde_json::to_string(&margins).expect("plain data");
        assert_eq!(text, r#""AQD/f4E=""#);
        assert_eq!(serde_json::from_str::<Margins>(&text).expect("margins"), margins);
        assert!(serde_json::from_str::<Margins>(r#""no base 64""#).is_err());
    }
}
