//! Exponential, softplus and SiLU as polynomials, within about two units in the last place.
//!
//! The coefficients are minimax fits of the relative error, with the leading term kept exact; each function's test
//! compares it with f64 over its whole range.

use super::Lanes;

/// Added to a number below 2^22, it rounds it to an integer and leaves that in the low bits.
const TO_INTEGER: f32 = 12_582_912.0;

/// `1 + x p(x)` is `2^x` within 2e-9 for `|x| <= 1/2`.
#[allow(clippy::approx_constant)] // the fit's first coefficient is near ln 2, but not ln 2
const EXP2: [f32; 6] = [0.693_147_2, 0.240_226_48, 0.055_503_324, 0.009_618_438, 0.001_339_887_7, 0.000_153_533_58];

/// `s + s w p(w)` with `w = s^2` is the area tangent of `s` within 5e-9 for `0 <= s <= 1/3`.
const ATANH: [f32; 4] = [0.333_332_06, 0.200_108_55, 0.139_995_04, 0.140_124_95];

/// The exponential of less than this is no normal number.
const LEAST_EXPONENT: f32 = -87.3;

/// `p[0] + p[1] x + p[2] x^2 + ...`
#[inline(always)]
fn polynomial<S: Lanes, const TERMS: usize>(s: S, x: S::V, p: [f32; TERMS]) -> S::V {
    let mut sum = s.splat(p[TERMS - 1]);
    for term in p.iter().rev().skip(1) {
        sum = s.mul_add(sum, x, s.splat(*term));
    }
    sum
}

/// `2^(n + f)` for an integer `n` and `|f| <= 1/2`, where that is a normal number.
#[inline(always)]
fn exp2_of_parts<S: Lanes>(s: S, n: S::V, f: S::V) -> S::V {
    let power = s.mul_add(polynomial(s, f, EXP2), f, s.splat(1.0));
    s.shift_exponent(power, s.add(n, s.splat(TO_INTEGER)))
}

/// `2^x`; zero below the normal numbers, for instruction sets without better means.
#[inline(always)]
pub(super) fn exp2<S: Lanes>(s: S, x: S::V) -> S::V {
    // At 128 the polynomial is exactly one, and the exponent becomes that of infinity.
    let x = s.min(s.splat(128.0), x);
    let n = s.sub(s.add(x, s.splat(TO_INTEGER)), s.splat(TO_INTEGER));
    s.select_less(x, s.splat(-126.0), s.zero(), exp2_of_parts(s, n, s.sub(x, n)))
}

/// `e^x` for `x <= 0`; below the normal numbers it is zero.
#[inline(always)]
fn exp_of_negative<S: Lanes>(s: S, x: S::V) -> S::V {
    // ln 2 in two parts, of which the first has so few bits that its product with `n` is exact.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -0.000_212_194_44;
    let log2_e = s.splat(std::f32::consts::LOG2_E);
    let n = s.sub(s.mul_add(x, log2_e, s.splat(TO_INTEGER)), s.splat(TO_INTEGER));
    let rest = s.neg_mul_add(n, s.splat(LN_2_LOW), s.neg_mul_add(n, s.splat(LN_2_HIGH), x));
    let power = exp2_of_parts(s, n, s.mul(rest, log2_e));
    s.select_less(x, s.splat(LEAST_EXPONENT), s.zero(), power)
}

/// `1 / (1 + e^-x)` and one minus that, given `exp = e^-|x|`.
#[inline(always)]
fn sigmoid<S: Lanes>(s: S, x: S::V, exp: S::V) -> (S::V, S::V) {
    let large = s.invert(s.add(s.splat(1.0), exp));
    let small = s.mul(exp, large);
    (s.select_less(x, s.zero(), small, large), s.select_less(x, s.zero(), large, small))
}

/// `ln(1 + e^x)`, given `exp = e^-|x|`.
///
/// In f32 this is the identity above 20, as the definition asks: what is added to `x` is less than half its last place.
#[inline(always)]
fn softplus_of<S: Lanes>(s: S, x: S::V, exp: S::V) -> S::V {
    // ln(1 + e) = 2 atanh(e / (2 + e)), accurate also where e is far below one.
    let tanh = s.div(exp, s.add(s.splat(2.0), exp));
    let square = s.mul(tanh, tanh);
    let twice = s.add(tanh, tanh);
    let log = s.mul_add(s.mul(twice, square), polynomial(s, square, ATANH), twice);
    s.add(s.max(s.zero(), x), log)
}

/// `ln(1 + e^x)`.
#[inline(always)]
pub(crate) fn softplus<S: Lanes>(s: S, x: S::V) -> S::V {
    softplus_of(s, x, exp_of_negative(s, s.neg_abs(x)))
}

/// `ln(1 + e^x)` and its derivative, the sigmoid.
#[inline(always)]
pub(crate) fn softplus_and_slope<S: Lanes>(s: S, x: S::V) -> (S::V, S::V) {
    let exp = exp_of_negative(s, s.neg_abs(x));
    (softplus_of(s, x, exp), sigmoid(s, x, exp).0)
}

/// SiLU, the gate: `x sigmoid(x)`.
#[inline(always)]
pub(crate) fn gate<S: Lanes>(s: S, x: S::V) -> S::V {
    s.mul(x, sigmoid(s, x, exp_of_negative(s, s.neg_abs(x))).0)
}

/// SiLU and its derivative.
#[inline(always)]
pub(crate) fn gate_and_slope<S: Lanes>(s: S, x: S::V) -> (S::V, S::V) {
    let (sigmoid, complement) = sigmoid(s, x, exp_of_negative(s, s.neg_abs(x)));
    let slope = s.mul_add(s.mul(sigmoid, complement), x, sigmoid);
    (s.mul(x, sigmoid), slope)
}
