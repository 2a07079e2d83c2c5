//! Tensors that do not fit a supernet, all of them.

use std::fmt;

/// The tensors of a file that do not fit a supernet, by what is wrong with them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Misfit {
    /// Those that the supernet does not have.
    pub unknown: Vec<String>,
    /// Those that the file does not have.
    pub missing: Vec<String>,
    /// Those of another shape.
    pub misshapen: Vec<Misshapen>,
    /// Those that hold no floats of 16 or 32 bits.
    pub mistyped: Vec<Mistyped>,
}

/// A tensor of another shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misshapen {
    /// Its name in the supernet.
    pub name: String,
    /// Its shape in the file.
    pub found: Vec<usize>,
    /// The shape that it should have there.
    pub expected: Vec<usize>,
}

/// A tensor of another type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistyped {
    /// Its name in the supernet.
    pub name: String,
    /// The type, as the file calls it.
    pub kind: String,
}

impl Misfit {
    /// Whether everything fits.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let misshapen =
            self.misshapen.iter().map(|t| format!("{} is {:?} instead of {:?}", t.name, t.found, t.expected));
        let mistyped = self.mistyped.iter().map(|t| format!("{} is {}", t.name, t.kind));
        let lists: [(&str, Vec<String>); 4] = [
            ("unknown tensors", self.unknown.clone()),
            ("missing tensors", self.missing.clone()),
            ("misshapen tensors", misshapen.collect()),
            ("tensors that are no floats of 16 or 32 bits", mistyped.collect()),
        ];
        let texts: Vec<String> = lists
            .into_iter()
            .filter(|(_, names)| !names.is_empty())
            .map(|(title, names)| format!("{title}: {}", names.join(", ")))
            .collect();
        formatter.write_str(&texts.join("; "))
    }
}
