//! Eight lanes in plain Rust, for processors without the vector instructions below: the compiler vectorises the loops.

use super::{Lanes, Task};

const COUNT: usize = 8;

/// Plain Rust; runs everywhere.
#[derive(Clone, Copy, Debug)]
pub(super) struct Portable;

/// Aligned as the widest baseline vector register.
#[derive(Clone, Copy, Debug)]
#[repr(align(16))]
pub(crate) struct Eight([f32; COUNT]);

#[inline(always)]
fn map(a: Eight, b: Eight, f: impl Fn(f32, f32) -> f32) -> Eight {
    Eight(std::array::from_fn(|lane| f(a.0[lane], b.0[lane])))
}

impl Lanes for Portable {
    type V = Eight;

    const COUNT: usize = COUNT;
    const REGISTERS: usize = 16;

    #[inline(always)]
    fn enter<T: Task<Self>>(self, task: T) {
        task.run(self);
    }

    #[inline(always)]
    fn load(self, from: &[f32]) -> Eight {
        match from.first_chunk() {
            Some(&lanes) => Eight(lanes),
            None => Eight(std::array::from_fn(|lane| from.get(lane).copied().unwrap_or(0.0))),
        }
    }

    #[inline(always)]
    fn store(self, value: Eight, to: &mut [f32]) {
        match to.first_chunk_mut() {
            Some(lanes) => *lanes = value.0,
            None => to.iter_mut().zip(value.0).for_each(|(to, lane)| *to = lane),
        }
    }

    #[inline(always)]
    fn prefetch(self, _from: &[f32], _at: usize) {}

    #[inline(always)]
    fn prefetch_to_write(self, _to: &[f32], _at: usize) {}

    #[inline(always)]
    fn sum(self, a: Eight) -> f32 {
        let [a, b, c, d, e, f, g, h] = a.0;
        ((a + e) + (c + g)) + ((b + f) + (d + h))
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Eight {
        Eight([value; COUNT])
    }

    #[inline(always)]
    fn add(self, a: Eight, b: Eight) -> Eight {
        map(a, b, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, a: Eight, b: Eight) -> Eight {
        map(a, b, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, a: Eight, b: Eight) -> Eight {
        map(a, b, |a, b| a * b)
    }

    #[inline(always)]
    fn div(self, a: Eight, b: Eight) -> Eight {
        Eight(std::array::from_fn(|lane| a.0[lane] / b.0[lane]))
    }

    #[inline(always)]
    fn invert(self, a: Eight) -> Eight {
        Eight(a.0.map(|a| 1.0 / a))
    }

    // Not f32::mul_add: without an instruction for it, that is a call into the math library.
    #[inline(always)]
    fn mul_add(self, a: Eight, b: Eight, c: Eight) -> Eight {
        self.add(self.mul(a, b), c)
    }

    #[inline(always)]
    fn neg_mul_add(self, a: Eight, b: Eight, c: Eight) -> Eight {
        self.sub(c, self.mul(a, b))
    }

    #[inline(always)]
    fn max(self, a: Eight, b: Eight) -> Eight {
        map(a, b, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn min(self, a: Eight, b: Eight) -> Eight {
        map(a, b, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    fn neg_abs(self, a: Eight) -> Eight {
        Eight(a.0.map(|a| -a.abs()))
    }

    #[inline(always)]
    fn select_less(self, a: Eight, b: Eight, yes: Eight, no: Eight) -> Eight {
        Eight(std::array::from_fn(|lane| if a.0[lane] < b.0[lane] { yes.0[lane] } else { no.0[lane] }))
    }

    #[inline(always)]
    fn shift_exponent(self, a: Eight, power: Eight) -> Eight {
        map(a, power, |a, power| f32::from_bits(a.to_bits().wrapping_add(power.to_bits() << 23)))
    }
}
