//! How many examples each class has.

use std::fmt;

use crate::config::DataConfig;
use crate::examples::Examples;
use crate::load::Splits;

/// The sizes of the classes of training and validation examples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassSizes {
    /// The classes, in the order of the labels.
    pub names: Vec<String>,
    /// Training examples of each class.
    pub train: Vec<usize>,
    /// Validation examples of each class.
    pub validation: Vec<usize>,
    /// What the examples are: `images` or `texts`.
    pub kind: &'static str,
}

impl ClassSizes {
    /// Counts the labels.
    ///
    /// # Panics
    ///
    /// If a label has no name: reading the data refuses that.
    pub fn of(splits: &Splits, config: &DataConfig) -> Self {
        let names = config.class_names.clone();
        let count = |examples: &Examples| {
            let mut sizes = vec![0; names.len()];
            examples.labels().iter().for_each(|&label| sizes[usize::from(label)] += 1);
            sizes
        };
        let kind = splits.train.kind();
        Self { train: count(&splits.train), validation: count(&splits.validation), names, kind }
    }
}

/// One line: the smallest and the largest class, and the accuracy of always answering the latter.
impl fmt::Display for ClassSizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (classes, kind) = (0..self.names.len(), self.kind);
        let by_size = |&class: &usize| self.train[class];
        let (Some(least), Some(most)) =
            (classes.clone().min_by_key(by_size), classes.rev().max_by_key(by_size))
        else {
            return f.write_str("no classes");
        };
        let (few, many) = (self.train[least], self.train[most]);
        if few == many {
            return write!(f, "{} classes of {many} training {kind} each", self.names.len());
        }
        write!(
            f,
            "{} classes of {few} ({}) to {many} ({}) training {kind}",
            self.names.len(),
            self.names[least],
            self.names[most]
        )?;
        if few > 0 {
            write!(f, ", 1 to {:.1}", many as f64 / few as f64)?;
        }
        let all = self.validation.iter().sum::<usize>().max(1);
        let share = 100.0 * self.validation[most] as f64 / all as f64;
        write!(
            f,
            "; always answering {} is right for {share:.2} % of the validation {kind}",
            self.names[most]
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_in_one_line() {
        for (train, validation, expected) in [
            (vec![5, 5, 5], vec![1, 1, 1], "3 classes of 5 training images each"),
            (
                vec![6, 2, 7],
                vec![3, 1, 4],
                "3 classes of 2 (b) to 7 (c) training images, 1 to 3.5; always answering c is right for 50.00 % of the \
                 validation images",
            ),
            (
                vec![0, 4, 4],
                vec![0, 3, 1],
                "3 classes of 0 (a) to 4 (b) training images; always answering b is right for 75.00 % of the validation \
                 images",
            ),
            (vec![], vec![], "no classes"),
        ] {
            let names = ["a", "b", "c"][..train.len()].iter().map(|&name| name.to_owned()).collect();
            let sizes = ClassSizes { names, train, validation, kind: "images" };
            assert_eq!(sizes.to_string(), expected);
        }
    }
}
