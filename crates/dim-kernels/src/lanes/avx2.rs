//! Eight lanes: AVX2 with fused multiply-add.

use std::arch::x86_64::*;

use super::{Lanes, Task};

const COUNT: usize = 8;

/// Proof that the processor has AVX2 and FMA.
#[derive(Clone, Copy, Debug)]
pub(super) struct Avx2(());

impl Avx2 {
    pub(super) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Self(()))
    }
}

/// Methods that are one instruction each.
macro_rules! instructions {
    ($($name:ident($($argument:ident),*) = $instruction:ident;)*) => {$(
        #[inline(always)]
        fn $name(self, $($argument: __m256),*) -> __m256 {
            // SAFETY: `self` proves that the processor has the instruction.
            unsafe { $instruction($($argument),*) }
        }
    )*};
}

/// All bits set in the first `count` lanes.
#[inline(always)]
fn first_lanes(_: Avx2, count: usize) -> __m256i {
    // SAFETY: the token proves that the processor has the instructions.
    unsafe { _mm256_cmpgt_epi32(_mm256_set1_epi32(count as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)) }
}

impl Lanes for Avx2 {
    type V = __m256;

    const COUNT: usize = COUNT;
    const REGISTERS: usize = 16;

    #[inline(always)]
    fn enter<T: Task<Self>>(self, task: T) {
        #[target_feature(enable = "avx2,fma")]
        fn inside<T: Task<Avx2>>(lanes: Avx2, task: T) {
            task.run(lanes);
        }
        // SAFETY: `self` proves that the processor has the features.
        unsafe { inside(self, task) }
    }

    #[inline(always)]
    fn load(self, from: &[f32]) -> __m256 {
        if from.len() >= COUNT {
            // SAFETY: `self` proves the instruction; the slice has eight numbers.
            unsafe { _mm256_loadu_ps(from.as_ptr()) }
        } else {
            // SAFETY: `self` proves the instruction; lanes beyond the slice are masked, and masked lanes are not read.
            unsafe { _mm256_maskload_ps(from.as_ptr(), first_lanes(self, from.len())) }
        }
    }

    #[inline(always)]
    fn store(self, value: __m256, to: &mut [f32]) {
        if to.len() >= COUNT {
            // SAFETY: `self` proves the instruction; the slice has eight numbers.
            unsafe { _mm256_storeu_ps(to.as_mut_ptr(), value) }
        } else {
            // SAFETY: `self` proves the instruction; lanes beyond the slice are masked, and masked lanes are not written.
            unsafe { _mm256_maskstore_ps(to.as_mut_ptr(), first_lanes(self, to.len()), value) }
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
    fn sum(self, a: __m256) -> f32 {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe {
            let four = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }

    #[inline(always)]
    fn splat(self, value: f32) -> __m256 {
        // SAFETY: `self` proves that the processor has the instruction.
        unsafe { _mm256_set1_ps(value) }
    }

    instructions! {
        add(a, b) = _mm256_add_ps;
        sub(a, b) = _mm256_sub_ps;
        mul(a, b) = _mm256_mul_ps;
        div(a, b) = _mm256_div_ps;
        mul_add(a, b, c) = _mm256_fmadd_ps;
        neg_mul_add(a, b, c) = _mm256_fnmadd_ps;
        max(a, b) = _mm256_max_ps;
        min(a, b) = _mm256_min_ps;
    }

    #[inline(always)]
    fn invert(self, a: __m256) -> __m256 {
        // SAFETY: `self` proves that the processor has the instruction.
        unsafe { _mm256_div_ps(_mm256_set1_ps(1.0), a) }
    }

    #[inline(always)]
    fn neg_abs(self, a: __m256) -> __m256 {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { _mm256_or_ps(a, _mm256_set1_ps(-0.0)) }
    }

    #[inline(always)]
    fn select_less(self, a: __m256, b: __m256, yes: __m256, no: __m256) -> __m256 {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { _mm256_blendv_ps(no, yes, _mm256_cmp_ps::<_CMP_LT_OQ>(a, b)) }
    }

    #[inline(always)]
    fn shift_exponent(self, a: __m256, power: __m256) -> __m256 {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe {
            let power = _mm256_slli_epi32::<23>(_mm256_castps_si256(power));
            _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a), power))
        }
    }
}
