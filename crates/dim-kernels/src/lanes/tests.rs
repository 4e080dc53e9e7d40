//! Every instruction set that this processor has, against f64.
#![allow(clippy::unwrap_used)]

use super::portable::Portable;
use super::{Lanes, Task, gate_and_slope, softplus_and_slope};

/// Runs a task on every instruction set that this processor has.
macro_rules! on_each {
    ($task:expr) => {
        Portable.enter($task);
        #[cfg(target_arch = "x86_64")]
        {
            if let Some(lanes) = super::avx2::Avx2::detect() {
                lanes.enter($task);
            }
            if let Some(lanes) = super::avx512::Avx512::detect() {
                lanes.enter($task);
            }
        }
    };
}

/// Applies a function to as many numbers as there are lanes at a time.
#[inline(always)]
fn map<S: Lanes>(s: S, xs: &[f32], f: impl Fn(S::V) -> S::V) -> Vec<f32> {
    let mut ys = vec![f32::NAN; xs.len()];
    for (x, y) in xs.chunks(S::COUNT).zip(ys.chunks_mut(S::COUNT)) {
        s.store(f(s.load(x)), y);
    }
    ys
}

/// Numbers of both signs and every magnitude up to a limit, denser where the functions bend.
fn arguments(limit: f32) -> Vec<f32> {
    let linear = (-60_000..=60_000).map(|i| i as f32 / 60_000.0 * limit);
    let around_zero = (-30_000..=30_000).map(|i| i as f32 / 30_000.0);
    let magnitudes = (-1200..=1200).map(|i| (i as f32 / 10.0).exp2()).filter(|x| *x <= limit);
    linear.chain(around_zero).chain(magnitudes.flat_map(|x| [x, -x])).collect()
}

/// The largest error in units of the last place of the f32 nearest the truth.
fn worst_ulp(xs: &[f32], ys: &[f32], truth: impl Fn(f64) -> f64) -> f64 {
    let errors = xs.iter().zip(ys).map(|(&x, &y)| {
        let truth = truth(f64::from(x));
        let nearest = (truth as f32).abs().max(f32::MIN_POSITIVE);
        let unit = f64::from(nearest.next_up()) - f64::from(nearest);
        ((f64::from(y) - truth) / unit).abs()
    });
    errors.fold(0.0, |worst, error| if error <= worst { worst } else { error })
}

#[test]
fn exp2_is_accurate_over_the_normal_numbers() {
    struct Test;
    impl<S: Lanes> Task<S> for Test {
        #[inline(always)]
        fn run(self, s: S) {
            let xs = arguments(125.9);
            let ys = map(s, &xs, |x| s.exp2([x])[0]);
            let worst = worst_ulp(&xs, &ys, f64::exp2);
            assert!(worst < 1.8, "{worst} ulp with {} lanes", S::COUNT);
        }
    }
    on_each!(Test);
}

#[test]
fn exp2_underflows_to_zero_overflows_to_infinity_and_keeps_nan() {
    struct Test;
    impl<S: Lanes> Task<S> for Test {
        #[inline(always)]
        fn run(self, s: S) {
            let value = |x: f32| map(s, &[x], |x| s.exp2([x])[0])[0];
            for x in [-151.0, -300.0, -1e5, -2e5, -1e9, -1e30, f32::MIN] {
                assert_eq!(value(x), 0.0, "2^{x} with {} lanes", S::COUNT);
            }
            for x in [128.0, 128.4, 1e5, 1e9, f32::MAX] {
                assert_eq!(value(x), f32::INFINITY, "2^{x} with {} lanes", S::COUNT);
            }
            for x in (1261..1510).map(|x| -(x as f32) / 10.0) {
                let y = value(x);
                assert!((0.0..f32::MIN_POSITIVE).contains(&y), "2^{x} = {y} with {} lanes", S::COUNT);
            }
            assert_eq!(value(0.0), 1.0);
            assert_eq!(value(-1.0), 0.5);
            assert_eq!(value(127.0), 2.0_f32.powi(127));
            assert!(value(f32::NAN).is_nan());
        }
    }
    on_each!(Test);
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

#[test]
fn softplus_and_its_slope_are_accurate_and_finite() {
    struct Test;
    impl<S: Lanes> Task<S> for Test {
        #[inline(always)]
        fn run(self, s: S) {
            let xs: Vec<f32> = arguments(1e30).into_iter().chain(arguments(86.0)).filter(|x| *x > -87.0).collect();
            let truth = |x: f64| if x > 20.0 { x } else { x.exp().ln_1p() };
            let worst = worst_ulp(&xs, &map(s, &xs, |x| softplus_and_slope(s, x).0), truth);
            assert!(worst < 2.5, "softplus: {worst} ulp with {} lanes", S::COUNT);
            let worst = worst_ulp(&xs, &map(s, &xs, |x| softplus_and_slope(s, x).1), sigmoid);
            assert!(worst < 2.5, "slope: {worst} ulp with {} lanes", S::COUNT);
            let above = [20.5, 21.0, 1e3, 1e10, f32::MAX, f32::INFINITY];
            assert_eq!(map(s, &above, |x| softplus_and_slope(s, x).0), above);
            assert_eq!(map(s, &above, |x| softplus_and_slope(s, x).1), [1.0; 6]);
            let below = [-200.0, -1e10, f32::MIN, f32::NEG_INFINITY];
            assert_eq!(map(s, &below, |x| softplus_and_slope(s, x).0), [0.0; 4]);
            assert_eq!(map(s, &below, |x| softplus_and_slope(s, x).1), [0.0; 4]);
            assert!(map(s, &[f32::NAN], |x| softplus_and_slope(s, x).0)[0].is_nan());
        }
    }
    on_each!(Test);
}

#[test]
fn gate_and_its_slope_are_accurate_and_finite() {
    struct Test;
    impl<S: Lanes> Task<S> for Test {
        #[inline(always)]
        fn run(self, s: S) {
            let xs: Vec<f32> = arguments(1e30).into_iter().chain(arguments(80.0)).filter(|x| *x > -80.0).collect();
            let worst = worst_ulp(&xs, &map(s, &xs, |x| gate_and_slope(s, x).0), |x| x * sigmoid(x));
            assert!(worst < 3.0, "gate: {worst} ulp with {} lanes", S::COUNT);
            // The slope has a root, where only its absolute error can be small.
            for (x, slope) in xs.iter().zip(map(s, &xs, |x| gate_and_slope(s, x).1)) {
                let x = f64::from(*x);
                let truth = sigmoid(x) * (1.0 + x * (1.0 - sigmoid(x)));
                assert!((f64::from(slope) - truth).abs() < 4e-7, "slope at {x}: {slope}, not {truth}");
            }
            let extremes = [-200.0, -1e10, -1e38, f32::MIN];
            assert_eq!(map(s, &extremes, |x| gate_and_slope(s, x).0), [0.0; 4]);
            assert_eq!(map(s, &extremes, |x| gate_and_slope(s, x).1), [0.0; 4]);
            assert_eq!(map(s, &[f32::MAX], |x| gate_and_slope(s, x).0), [f32::MAX]);
            assert_eq!(map(s, &[f32::MAX], |x| gate_and_slope(s, x).1), [1.0]);
        }
    }
    on_each!(Test);
}

#[test]
fn partial_vectors_touch_nothing_beyond_the_slice_and_sums_are_right() {
    struct Test;
    impl<S: Lanes> Task<S> for Test {
        #[inline(always)]
        fn run(self, s: S) {
            for len in 0..=S::COUNT {
                let from: Vec<f32> = (1..=len).map(|i| i as f32).collect();
                let mut to = vec![f32::NAN; S::COUNT + 4];
                s.store(s.load(&from), &mut to[2..2 + len]);
                assert_eq!(to[2..2 + len], from);
                assert!(to[..2].iter().chain(&to[2 + len..]).all(|x| x.is_nan()));
                assert_eq!(s.sum(s.load(&from)), (len * (len + 1) / 2) as f32);
            }
            let numbers: Vec<f32> = (0..19 * S::COUNT).map(|i| ((i * 7) % 23) as f32).collect();
            let vectors: Vec<_> = numbers.chunks(S::COUNT).map(|lanes| s.load(lanes)).collect();
            let mut sums = [100.0; 19];
            s.add_sums::<19>(vectors.try_into().ok().unwrap(), &mut sums);
            let truth: Vec<f32> = numbers.chunks(S::COUNT).map(|lanes| 100.0 + lanes.iter().sum::<f32>()).collect();
            assert_eq!(sums[..], truth);
        }
    }
    on_each!(Test);
}
