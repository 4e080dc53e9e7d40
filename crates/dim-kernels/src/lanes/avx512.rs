//! Sixteen lanes: AVX-512 (F and DQ).

use std::arch::x86_64::*;

use super::{Lanes, Task};

const COUNT: usize = 16;

/// Proof that the processor has AVX-512 F and DQ.
#[derive(Clone, Copy, Debug)]
pub(super) struct Avx512(());

impl Avx512 {
    pub(super) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512dq")).then_some(Self(()))
    }
}

/// Methods that are one instruction each.
macro_rules! instructions {
    ($($name:ident($($argument:ident),*) = $instruction:ident;)*) => {$(
        #[inline(always)]
        fn $name(self, $($argument: __m512),*) -> __m512 {
            // SAFETY: `self` proves that the processor has the instruction.
            unsafe { $instruction($($argument),*) }
        }
    )*};
}

/// `2^(i/32)` for `i` in `0..32`, correctly rounded.
#[rustfmt::skip]
static POWERS: [f32; 32] = [
    1.0, 1.021_897_2, 1.044_273_7, 1.067_140_5, 1.090_507_7, 1.114_386_8, 1.138_788_6, 1.163_724_9,
    1.189_207_1, 1.215_247_4, 1.241_857_8, 1.269_051, 1.296_839_6, 1.325_236_7, 1.354_255_6, 1.383_91,
    1.414_213_5, 1.445_180_8, 1.476_826_2, 1.509_164_5, 1.542_210_8, 1.575_980_9, 1.610_490_3, 1.645_755_5,
    1.681_792_9, 1.718_619_3, 1.756_252_2, 1.794_709_1, 1.834_008_1, 1.874_167_7, 1.915_206_6, 1.957_144_1,
];

/// `c1 r + c2 r^2` is `2^r - 1` within 5.3e-8 for `|r| <= 1/64`: `c2` is Taylor's, `c1` makes up for the cubic term.
const C1: f32 = 0.693_157_3;
const C2: f32 = 0.240_226_5;

/// Added to a multiple of 1/32 below 2^17, it leaves 32 times that in the low bits.
const TO_32NDS: f32 = 393_216.0;

impl Avx512 {
    /// `2^(k + r)` for a multiple `k` of 1/32 and `|r| <= 1/64`: a table look-up within registers for the fraction of
    /// `k`, a parabola for `r`, and an instruction that scales by `2^floor(k)` and knows underflow and overflow.
    #[inline(always)]
    fn exp2_of_32nds(self, k: __m512, r: __m512) -> __m512 {
        let correction = self.mul(r, self.mul_add(r, self.splat(C2), self.splat(C1)));
        // SAFETY: `self` proves that the processor has the instructions; the table has 32 numbers.
        unsafe {
            let index = _mm512_castps_si512(_mm512_add_ps(k, _mm512_set1_ps(TO_32NDS)));
            let (low, high) = (_mm512_loadu_ps(POWERS.as_ptr()), _mm512_loadu_ps(POWERS.as_ptr().add(16)));
            let power = _mm512_permutex2var_ps(low, index, high);
            _mm512_scalef_ps(_mm512_fmadd_ps(power, correction, power), k)
        }
    }
}

impl Lanes for Avx512 {
    type V = __m512;

    const COUNT: usize = COUNT;
    const STATES_IN_REGISTERS: usize = 16;

    #[inline(always)]
    fn enter<T: Task<Self>>(self, task: T) {
        #[target_feature(enable = "avx512f,avx512dq")]
        fn inside<T: Task<Avx512>>(lanes: Avx512, task: T) {
            task.run(lanes);
        }
        // SAFETY: `self` proves that the processor has the features.
        unsafe { inside(self, task) }
    }

    #[inline(always)]
    fn splat(self, value: f32) -> __m512 {
        // SAFETY: `self` proves that the processor has the instruction.
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    fn load(self, from: &[f32]) -> __m512 {
        if from.len() >= COUNT {
            // SAFETY: `self` proves the instruction; the slice has sixteen numbers.
            unsafe { _mm512_loadu_ps(from.as_ptr()) }
        } else {
            let first_lanes = (1_u16 << from.len()) - 1;
            // SAFETY: `self` proves the instruction; lanes beyond the slice are masked, and masked lanes are not read.
            unsafe { _mm512_maskz_loadu_ps(first_lanes, from.as_ptr()) }
        }
    }

    #[inline(always)]
    fn store(self, value: __m512, to: &mut [f32]) {
        if to.len() >= COUNT {
            // SAFETY: `self` proves the instruction; the slice has sixteen numbers.
            unsafe { _mm512_storeu_ps(to.as_mut_ptr(), value) }
        } else {
            let first_lanes = (1_u16 << to.len()) - 1;
            // SAFETY: `self` proves the instruction; lanes beyond the slice are masked, and masked lanes are not written.
            unsafe { _mm512_mask_storeu_ps(to.as_mut_ptr(), first_lanes, value) }
        }
    }

    #[inline(always)]
    fn prefetch(self, from: &[f32]) {
        // SAFETY: a prefetch touches no memory that the program can see.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.as_ptr().cast()) }
    }

    instructions! {
        add(a, b) = _mm512_add_ps;
        sub(a, b) = _mm512_sub_ps;
        mul(a, b) = _mm512_mul_ps;
        div(a, b) = _mm512_div_ps;
        mul_add(a, b, c) = _mm512_fmadd_ps;
        neg_mul_add(a, b, c) = _mm512_fnmadd_ps;
        max(a, b) = _mm512_max_ps;
        min(a, b) = _mm512_min_ps;
    }

    #[inline(always)]
    fn neg_abs(self, a: __m512) -> __m512 {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { _mm512_or_ps(a, _mm512_set1_ps(-0.0)) }
    }

    #[inline(always)]
    fn select_less(self, a: __m512, b: __m512, yes: __m512, no: __m512) -> __m512 {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), no, yes) }
    }

    #[inline(always)]
    fn shift_exponent(self, a: __m512, power: __m512) -> __m512 {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe {
            let power = _mm512_slli_epi32::<23>(_mm512_castps_si512(power));
            _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a), power))
        }
    }

    #[inline(always)]
    fn sum(self, a: __m512) -> f32 {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe {
            let eight = _mm512_add_ps(a, _mm512_shuffle_f32x4::<0b01_00_11_10>(a, a));
            let four = _mm512_add_ps(eight, _mm512_shuffle_f32x4::<0b00_00_00_01>(eight, eight));
            let four = _mm512_castps512_ps128(four);
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }

    #[inline(always)]
    fn exp2(self, x: __m512) -> __m512 {
        // Five bits of fraction are taken off, rounded to nearest, without exceptions; an infinity leaves zero.
        const MODE: i32 = (5 << 4) | 0x8;
        // SAFETY: `self` proves that the processor has the instruction.
        let r = unsafe { _mm512_reduce_ps::<MODE>(x) };
        self.exp2_of_32nds(self.sub(x, r), r)
    }
}
