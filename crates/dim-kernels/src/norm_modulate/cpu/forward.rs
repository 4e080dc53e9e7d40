//! The forward pass.

use rayon::prelude::*;

use super::{Inputs, centre};
use crate::lanes::{self, Kernel, Lanes};
use crate::rows::{Rows, RowsMut};

/// The whole forward pass.
pub(super) struct Forward<'a> {
    pub(super) inputs: Inputs<'a>,
    pub(super) x: Rows<'a>,
    pub(super) r: Option<RowsMut<'a>>,
    pub(super) out: Option<RowsMut<'a>>,
    pub(super) statistics: Option<RowsMut<'a>>,
}

impl Kernel for Forward<'_> {
    fn run<S: Lanes>(self, s: S) {
        let tasks = self.inputs.sizes.batch * self.inputs.pieces();
        (0..tasks).into_par_iter().for_each(|task| s.enter(Task { pass: &self, task }));
    }
}

/// Some tokens of one sequence.
struct Task<'a> {
    pass: &'a Forward<'a>,
    task: usize,
}

impl<S: Lanes> lanes::Task<S> for Task<'_> {
    #[inline(always)]
    fn run(self, s: S) {
        let pass = self.pass;
        let inputs = &pass.inputs;
        let channels = inputs.sizes.channel;
        let (batch, tokens) = inputs.tokens_of_task(self.task);
        let vectors = inputs.vectors(batch);
        let mut memory = vec![0.0; channels];
        for token in tokens {
            let (x, y) = (pass.x.row(batch, token), inputs.row_or_zeros(inputs.y, batch, token));
            // SAFETY: the tasks' tokens are disjoint, and the borrow ends with this token.
            let row = pass.r.map_or(&mut memory[..], |r| unsafe { r.row(batch, token) });
            for at in (0..channels).step_by(S::COUNT) {
                let r = s.mul_add(s.load(&vectors.gate[at..]), s.load(&y[at..]), s.load(&x[at..]));
                s.store(r, &mut row[at..]);
            }
            let Some(out) = pass.out else { continue };
            // SAFETY: as above.
            let out = unsafe { out.row(batch, token) };
            out.copy_from_slice(row);
            let mean = centre(s, inputs.norm, out);
            let mut squares = s.zero();
            for at in (0..channels).step_by(S::COUNT) {
                let centred = s.load(&out[at..]);
                squares = s.mul_add(centred, centred, squares);
            }
            let rstd = inputs.rstd(s.sum(squares));
            if let Some(statistics) = pass.statistics {
                // SAFETY: as above.
                unsafe { statistics.row(batch, token) }.copy_from_slice(&[mean, rstd]);
            }
            let rstd = s.splat(rstd);
            for at in (0..channels).step_by(S::COUNT) {
                let normed = s.mul(s.load(&out[at..]), rstd);
                let modulated = s.mul_add(normed, s.load(&vectors.factor[at..]), s.load(&vectors.summand[at..]));
                s.store(modulated, &mut out[at..]);
            }
        }
    }
}
