//! Functions that the compiler turns into vector instructions: no branch, no call.

/// x * Phi(x), and its derivative Phi(x) + x phi(x).
#[inline(always)]
pub(super) fn gelu(x: f32) -> (f32, f32) {
    const INVERSE_SQRT_TAU: f32 = 0.398_942_3;
    let distribution = normal_distribution(x);
    (x * distribution, distribution + x * INVERSE_SQRT_TAU * exp(-0.5 * x * x))
}

/// The standard normal distribution function.
#[inline(always)]
fn normal_distribution(x: f32) -> f32 {
    0.5 + 0.5 * erf(x * std::f32::consts::FRAC_1_SQRT_2)
}

/// The error function by a rational minimax approximation, within a few units of the last place of 1.
///
/// The coefficients are the ones of Eigen's and XLA's single-precision `erf`.
#[inline(always)]
#[allow(clippy::excessive_precision)]
fn erf(x: f32) -> f32 {
    let x = x.clamp(-4.0, 4.0);
    let x2 = x * x;
    let numerator = horner(
        x2,
        [
            -2.726_142_258_013_06e-10,
            2.770_681_424_959_02e-08,
            -2.101_024_020_825_08e-06,
            -5.692_506_394_623_46e-05,
            -7.349_906_303_268_55e-04,
            -2.954_599_808_540_25e-03,
            -1.609_603_332_624_15e-02,
        ],
    );
    let denominator = horner(
        x2,
        [
            -1.456_607_184_649_96e-05,
            -2.133_740_552_789_05e-04,
            -1.682_826_974_382_03e-03,
            -7.373_329_167_204_68e-03,
            -1.426_473_904_941_89e-02,
        ],
    );
    x * numerator / denominator
}

/// e^x for x <= 0, by 2^n times a polynomial; 0 below about -87.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // Adding and subtracting 1.5 * 2^23 rounds to the nearest integer in the default rounding mode.
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 0.0);
    let n = (x * std::f32::consts::LOG2_E + ROUND) - ROUND;
    let r = x - n * LN2_HIGH - n * LN2_LOW;
    let polynomial = horner(r, [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0]);
    polynomial * f32::from_bits(((n as i32 + 127) as u32) << 23)
}

/// A polynomial with the highest coefficient first.
#[inline(always)]
fn horner<const N: usize>(x: f32, coefficients: [f32; N]) -> f32 {
    let mut sum = coefficients[0];
    for coefficient in &coefficients[1..] {
        sum = sum * x + coefficient;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_by_hand() {
        // Phi(1) = 0.841345, phi(1) = 0.241971.
        for (name, found, expected) in [
            ("gelu(0)", gelu(0.0).0, 0.0),
            ("gelu(1)", gelu(1.0).0, 0.841_344_7),
            ("gelu(-1)", gelu(-1.0).0, -0.158_655_3),
            ("gelu(30)", gelu(30.0).0, 30.0),
            ("gelu'(0)", gelu(0.0).1, 0.5),
            ("gelu'(1)", gelu(1.0).1, 1.083_315_5),
            ("gelu'(-20)", gelu(-20.0).1, 0.0),
            ("exp(0)", exp(0.0), 1.0),
            ("exp(-1)", exp(-1.0), 0.367_879_4),
        ] {
            assert!((found - expected).abs() < 1e-6, "{name} = {found}, expected {expected}");
        }
    }
}
