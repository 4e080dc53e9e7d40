//! Vectors of f32 lanes, one kernel source for every instruction set.
//!
//! A kernel is generic over [`Lanes`]. [`run`] calls it with the widest instruction set that the processor has; a value
//! that implements [`Lanes`] is the proof that its instructions may be used, and is made after asking the processor.
//! The kernel spreads its tasks over threads, and each task goes through [`Lanes::enter`], behind which code is
//! compiled for the instruction set.
//!
//! Everything between [`Lanes::enter`] and the instructions must be `#[inline(always)]`; a function that is not
//! becomes a call for every single operation.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod exponential;
mod portable;
#[cfg(test)]
mod tests;

pub(crate) use exponential::{gate, gate_and_slope, softplus, softplus_and_slope};

/// An instruction set: arithmetic on vectors of [`Lanes::COUNT`] numbers.
pub(crate) trait Lanes: Copy + Send + Sync {
    /// A vector.
    type V: Copy + Send + Sync;

    /// Lanes of a vector.
    const COUNT: usize;

    /// Vector registers.
    const REGISTERS: usize;

    /// Runs a task that is compiled for this instruction set.
    fn enter<T: Task<Self>>(self, task: T);

    /// The first numbers of a slice; lanes beyond its end are zero.
    fn load(self, from: &[f32]) -> Self::V;

    /// Overwrites the first numbers of a slice; lanes beyond its end are dropped.
    fn store(self, value: Self::V, to: &mut [f32]);

    /// Asks the cache for the line that holds the number at an index.
    fn prefetch(self, from: &[f32], at: usize);

    /// [`Lanes::prefetch`] for a line that will be written.
    fn prefetch_to_write(self, to: &[f32], at: usize);

    /// The sum over the lanes, in an order that depends on [`Lanes::COUNT`] alone.
    fn sum(self, a: Self::V) -> f32;

    /// Adds the sum over the lanes of every vector to a number.
    #[inline(always)]
    fn add_sums<const N: usize>(self, vectors: [Self::V; N], sums: &mut [f32; N]) {
        for i in 0..N {
            sums[i] += self.sum(vectors[i]);
        }
    }

    /// `2^x` of finite numbers: zero where that is below the normal numbers or a subnormal number, infinity where it
    /// overflows.
    ///
    /// Several vectors at once, because the steps of one wait for each other, and a processor looks ahead only so far.
    #[inline(always)]
    fn exp2<const W: usize>(self, x: [Self::V; W]) -> [Self::V; W] {
        let mut powers = x;
        for power in &mut powers {
            *power = exponential::exp2(self, *power);
        }
        powers
    }

    /// The same number in every lane.
    fn splat(self, value: f32) -> Self::V;

    /// `a + b`
    fn add(self, a: Self::V, b: Self::V) -> Self::V;

    /// `a - b`
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;

    /// `a b`
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;

    /// `a b + c`, rounded once where the instruction set can.
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;

    /// `c - a b`, rounded once where the instruction set can.
    fn neg_mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;

    /// The larger of the two; `b` where one of them is NaN.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;

    /// The smaller of the two; `b` where one of them is NaN.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;

    /// `-|a|`
    fn neg_abs(self, a: Self::V) -> Self::V;

    /// `1 / a`, for `a` and its inverse among the normal numbers.
    fn invert(self, a: Self::V) -> Self::V;

    /// `a / b`, rounded once.
    fn div(self, a: Self::V, b: Self::V) -> Self::V;

    /// `yes` where `a < b`, `no` elsewhere (also where one of them is NaN).
    fn select_less(self, a: Self::V, b: Self::V, yes: Self::V, no: Self::V) -> Self::V;

    /// `a` times two to the power of the integer in the low bits of `power`, by adding to the exponent's bits.
    fn shift_exponent(self, a: Self::V, power: Self::V) -> Self::V;

    /// Zero in every lane.
    #[inline(always)]
    fn zero(self) -> Self::V {
        self.splat(0.0)
    }
}

/// An op, whatever the instruction set.
pub(crate) trait Kernel {
    /// Runs the op.
    fn run<S: Lanes>(self, s: S);
}

/// The part of an op that is compiled for its instruction set.
pub(crate) trait Task<S: Lanes> {
    /// Runs the task; to be marked `#[inline(always)]`.
    fn run(self, s: S);
}

/// Runs a kernel on the widest vectors that the processor has.
pub(crate) fn run<K: Kernel>(kernel: K) {
    #[cfg(target_arch = "x86_64")]
    {
        if let Some(lanes) = avx512::Avx512::detect() {
            return kernel.run(lanes);
        }
        if let Some(lanes) = avx2::Avx2::detect() {
            return kernel.run(lanes);
        }
    }
    kernel.run(portable::Portable);
}

/// The instruction sets that this processor has, for tests of those that [`run`] would not pick.
#[cfg(test)]
pub(crate) fn instruction_sets() -> Vec<&'static str> {
    let mut sets = vec!["portable"];
    #[cfg(target_arch = "x86_64")]
    {
        sets.extend(avx2::Avx2::detect().map(|_| "avx2"));
        sets.extend(avx512::Avx512::detect().map(|_| "avx512"));
    }
    sets
}

/// Runs a kernel on one of [`instruction_sets`].
#[cfg(test)]
pub(crate) fn run_on<K: Kernel>(instruction_set: &str, kernel: K) {
    match instruction_set {
        "portable" => kernel.run(portable::Portable),
        #[cfg(target_arch = "x86_64")]
        "avx2" => kernel.run(avx2::Avx2::detect().expect("it is among the sets")),
        #[cfg(target_arch = "x86_64")]
        "avx512" => kernel.run(avx512::Avx512::detect().expect("it is among the sets")),
        unknown => panic!("no instruction set {unknown}"),
    }
}
