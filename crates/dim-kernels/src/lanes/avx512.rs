//! Sixteen lanes: AVX-512 (F).

use std::arch::x86_64::*;

use super::{Lanes, Task};

const COUNT: usize = 16;

/// Proof that the processor has AVX-512 F.
#[derive(Clone, Copy, Debug)]
pub(super) struct Avx512(());

impl Avx512 {
    pub(super) fn detect() -> Option<Self> {
        is_x86_feature_detected!("avx512f").then_some(Self(()))
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
#[allow(clippy::approx_constant)] // a table reads best as numbers, the root of two among them
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

/// Adds the sum over the lanes of each of eight vectors to a number, halving all of them together.
#[inline(always)]
fn add_sums_of_eight(_: Avx512, v: &[__m512; 8], sums: &mut [f32; 8]) {
    /// The sums of both halves of two vectors.
    macro_rules! halves {
        ($a:expr, $b:expr) => {{
            let (a, b) = ($a, $b);
            let low = _mm512_shuffle_f32x4::<0b01_00_01_00>(a, b);
            _mm512_add_ps(low, _mm512_shuffle_f32x4::<0b11_10_11_10>(a, b))
        }};
    }
    /// The sums of even and odd quarters of two vectors.
    macro_rules! quarters {
        ($a:expr, $b:expr) => {{
            let (a, b) = ($a, $b);
            let even = _mm512_shuffle_f32x4::<0b10_00_10_00>(a, b);
            _mm512_add_ps(even, _mm512_shuffle_f32x4::<0b11_01_11_01>(a, b))
        }};
    }
    // SAFETY: the token proves that the processor has the instructions; there are eight sums.
    unsafe {
        // Four numbers are left of each vector, in the order 0, 1, 2, 3 and 4, 5, 6, 7.
        let first = quarters!(halves!(v[0], v[1]), halves!(v[2], v[3]));
        let second = quarters!(halves!(v[4], v[5]), halves!(v[6], v[7]));
        // Two numbers: 0, 0, 4, 4, 1, 1, 5, 5, ...
        let low = _mm512_shuffle_ps::<0b01_00_01_00>(first, second);
        let pairs = _mm512_add_ps(low, _mm512_shuffle_ps::<0b11_10_11_10>(first, second));
        // One number, in order.
        let even = _mm512_setr_epi32(0, 4, 8, 12, 2, 6, 10, 14, 0, 0, 0, 0, 0, 0, 0, 0);
        let odd = _mm512_setr_epi32(1, 5, 9, 13, 3, 7, 11, 15, 0, 0, 0, 0, 0, 0, 0, 0);
        let even = _mm512_castps512_ps256(_mm512_permutexvar_ps(even, pairs));
        let odd = _mm512_castps512_ps256(_mm512_permutexvar_ps(odd, pairs));
        let all = _mm256_add_ps(_mm256_loadu_ps(sums.as_ptr()), _mm256_add_ps(even, odd));
        _mm256_storeu_ps(sums.as_mut_ptr(), all);
    }
}

impl Lanes for Avx512 {
    type V = __m512;

    const COUNT: usize = COUNT;
    const REGISTERS: usize = 32;

    #[inline(always)]
    fn enter<T: Task<Self>>(self, task: T) {
        #[target_feature(enable = "avx512f")]
        fn inside<T: Task<Avx512>>(lanes: Avx512, task: T) {
            task.run(lanes);
        }
        // SAFETY: `self` proves that the processor has the features.
        unsafe { inside(self, task) }
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
    fn prefetch(self, from: &[f32], at: usize) {
        // SAFETY: a prefetch touches nothing that the program can see, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.as_ptr().wrapping_add(at).cast()) }
    }

    #[inline(always)]
    fn prefetch_to_write(self, to: &[f32], at: usize) {
        // SAFETY: a prefetch touches nothing that the program can see, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_ET0>(to.as_ptr().wrapping_add(at).cast()) }
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
    fn add_sums<const N: usize>(self, vectors: [__m512; N], sums: &mut [f32; N]) {
        let (eights, rest) = vectors.as_chunks();
        let (sums_of_eight, sums_of_rest) = sums.as_chunks_mut();
        for (vectors, sums) in eights.iter().zip(sums_of_eight) {
            add_sums_of_eight(self, vectors, sums);
        }
        for (&vector, sum) in rest.iter().zip(sums_of_rest) {
            *sum += self.sum(vector);
        }
    }

    /// `2^x = 2^floor(k) 2^(k - floor(k)) 2^r` for `k` the nearest multiple of 1/32: a table look-up within registers for
    /// the second factor, a parabola for the third, and an instruction for the first that knows underflow and overflow.
    #[inline(always)]
    #[allow(clippy::needless_range_loop)] // every step runs over all vectors alike
    fn exp2<const W: usize>(self, x: [__m512; W]) -> [__m512; W] {
        // Five bits of fraction are kept, rounded to nearest, without exceptions.
        const MODE: i32 = (5 << 4) | 0x8;
        let (mut k, mut r, mut power) = (x, x, x);
        // SAFETY: `self` proves that the processor has the instructions; the table has 32 numbers.
        unsafe {
            let table = (_mm512_loadu_ps(POWERS.as_ptr()), _mm512_loadu_ps(POWERS.as_ptr().add(16)));
            for i in 0..W {
                k[i] = _mm512_roundscale_ps::<MODE>(x[i]);
            }
            for i in 0..W {
                r[i] = self.sub(x[i], k[i]);
            }
            for i in 0..W {
                let index = _mm512_castps_si512(self.add(k[i], self.splat(TO_32NDS)));
                power[i] = _mm512_permutex2var_ps(table.0, index, table.1);
            }
            for i in 0..W {
                r[i] = self.mul(r[i], self.mul_add(r[i], self.splat(C2), self.splat(C1)));
            }
            for i in 0..W {
                power[i] = self.mul_add(power[i], r[i], power[i]);
            }
            for i in 0..W {
                power[i] = _mm512_scalef_ps(power[i], k[i]);
            }
        }
        power
    }

    #[inline(always)]
    fn splat(self, value: f32) -> __m512 {
        // SAFETY: `self` proves that the processor has the instruction.
        unsafe { _mm512_set1_ps(value) }
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
    fn invert(self, a: __m512) -> __m512 {
        // SAFETY: `self` proves that the processor has the instruction.
        let estimate = unsafe { _mm512_rcp14_ps(a) };
        // One step of Newton's method doubles the estimate's 14 bits.
        self.mul_add(estimate, self.neg_mul_add(a, estimate, self.splat(1.0)), estimate)
    }

    #[inline(always)]
    fn neg_abs(self, a: __m512) -> __m512 {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { _mm512_castsi512_ps(_mm512_or_si512(_mm512_castps_si512(a), _mm512_set1_epi32(i32::MIN))) }
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
}
