//! The matrix product, on matrices of any strides.

use std::mem::MaybeUninit;

use burn_flex::FlexTensor;

/// Multiplications from which a product is shared out to all threads.
const PARALLEL: usize = 192 * 192 * 192;

/// What a product is added to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Onto {
    /// The result has no values yet.
    Nothing,
    /// The values of the result.
    Values,
}

/// A matrix inside a slice.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    /// Distance of rows and of columns.
    strides: (usize, usize),
}

impl<'a> Matrix<'a> {
    fn strided(values: &'a [f32], rows: usize, columns: usize, strides: (usize, usize)) -> Self {
        // What the product relies on: the last element is in the slice.
        assert!(rows > 0 && columns > 0, "a matrix has rows and columns");
        let last = (rows - 1).checked_mul(strides.0).zip((columns - 1).checked_mul(strides.1));
        let last = last.and_then(|(row, column)| row.checked_add(column));
        assert!(last.is_some_and(|last| last < values.len()), "a matrix ends within its values");
        Self { values, rows, columns, strides }
    }

    /// The product with another matrix.
    #[expect(unsafe_code, reason = "filling the result first would cost a pass over memory")]
    pub(super) fn times(self, other: Self) -> Vec<f32> {
        let length = self.rows * other.columns;
        let mut result = Vec::with_capacity(length);
        self.multiply(other, result.spare_capacity_mut(), Onto::Nothing);
        // SAFETY: a product that adds to nothing writes all of its values, which `multiply` asserts to be as many.
        unsafe { result.set_len(length) };
        result
    }

    /// Adds the product with another matrix to `sum`, `[rows, other's columns]`.
    #[expect(unsafe_code, reason = "values may be written where they are")]
    pub(super) fn add_product(self, other: Self, sum: &mut [f32]) {
        // SAFETY: both types have the same layout, and `multiply` writes no value that isn't one.
        let sum = unsafe { &mut *(std::ptr::from_mut(sum) as *mut [MaybeUninit<f32>]) };
        self.multiply(other, sum, Onto::Values);
    }

    #[expect(
        unsafe_code,
        reason = "gemm takes pointers; the sizes are asserted where matrices are made and here"
    )]
    fn multiply(self, other: Self, result: &mut [MaybeUninit<f32>], onto: Onto) {
        let (rows, depth, columns) = (self.rows, self.columns, other.columns);
        assert_eq!(depth, other.rows, "inner sizes of a product are equal");
        assert!(result.len() >= rows * columns, "a product fits into its result");
        let parallelism = if rows * depth * columns < PARALLEL {
            gemm::Parallelism::None
        } else {
            gemm::Parallelism::Rayon(0)
        };
        let strides = |(rows, columns): (usize, usize)| (columns as isize, rows as isize);
        let ((left_columns, left_rows), (right_columns, right_rows)) =
            (strides(self.strides), strides(other.strides));
        // SAFETY: every element that the sizes and strides reach lies within the three slices, by the assertions
        // above and in `strided`; `result` is borrowed mutably, so it overlaps neither factor. It is read only if
        // `add_product` gave it, and then holds values.
        unsafe {
            gemm::gemm(
                rows,
                columns,
                depth,
                result.as_mut_ptr().cast(),
                1,
                columns as isize,
                onto == Onto::Values,
                self.values.as_ptr(),
                left_columns,
                left_rows,
                other.values.as_ptr(),
                right_columns,
                right_rows,
                1.0,
                1.0,
                false,
                false,
                false,
                parallelism,
            );
        }
    }
}

/// Runs `body` on a tensor of two dimensions as a matrix, whatever its layout.
pub(super) fn with_matrix<T>(tensor: &FlexTensor, body: impl FnOnce(Matrix<'_>) -> T) -> T {
    let layout = tensor.layout();
    let (shape, strides) = (layout.shape(), layout.strides());
    let [rows, columns] = [shape[0], shape[1]];
    match (usize::try_from(strides[0]), usize::try_from(strides[1])) {
        (Ok(row), Ok(column)) => {
            let values = &tensor.storage::<f32>()[layout.start_offset()..];
            body(Matrix::strided(values, rows, columns, (row, column)))
        }
        _ => with_matrix(&tensor.to_contiguous(), body),
    }
}
