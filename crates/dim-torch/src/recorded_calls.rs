//! Calls of one function of tensors, recorded as CUDA graphs: a host that launches a network's kernels one by one can be slower than the
//! GPU that runs them.

use std::fmt::Display;

use tch::{Kind, Tensor, no_grad};

use crate::{CudaGraph, TorchError};

/// Forms whose recordings are kept, each with the memory of its intermediates: a guided batch and a plain one, both also of the last batch, which
/// may be smaller.
const KEPT: usize = 4;
/// Runs before a recording, beside the call before it, which was not recorded: libraries take memory for each stream.
const WARM_UP_RUNS: usize = 1;

/// The calls of a function on one CUDA device, without gradients.
///
/// What the function reads besides its arguments must stay where it is, and as it is: call [`forget`](Self::forget) before it changes.
pub struct RecordedCalls {
    ordinal: usize,
    recordings: Recent<Recording>,
    /// Why there are no recordings.
    refusal: Option<String>,
}

impl RecordedCalls {
    /// Of a function whose arguments are on CUDA device `ordinal`.
    #[must_use]
    pub fn new(ordinal: usize) -> Self {
        Self { ordinal, recordings: Recent::default(), refusal: None }
    }

    /// What `work` makes of `arguments`. The first call with arguments of some shapes and types calls it directly, the second records it,
    /// and from then on the recording is replayed, by which the results are the same bits. The result is the caller's own.
    ///
    /// Work that cannot be recorded is called directly from then on; [`refusal`](Self::refusal) says why.
    ///
    /// # Errors
    /// What `work` returns; an error of the device.
    pub fn call<E: From<TorchError> + Display>(
        &mut self,
        arguments: &[Tensor],
        mut work: impl FnMut(&[Tensor]) -> Result<Tensor, E>,
    ) -> Result<Tensor, E> {
        if self.refusal.is_some() {
            return work(arguments);
        }
        let form = form_of(arguments);
        match self.recordings.next(&form) {
            Next::Direct => work(arguments),
            Next::Replay(recording) => Ok(recording.replay(arguments)?),
            Next::Record => match Recording::make(self.ordinal, arguments, &mut work) {
                Ok(recording) => Ok(self.recordings.keep(form, recording).replay(arguments)?),
                Err(error) => {
                    self.forget();
                    self.refusal = Some(error.to_string());
                    work(arguments)
                }
            },
        }
    }

    /// Why calls are no longer recorded, if they are not.
    #[must_use]
    pub fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }

    /// Frees all recordings.
    pub fn forget(&mut self) {
        self.recordings = Recent::default();
    }
}

/// Shapes and types of arguments: a recording is of one form.
type Form = Vec<(Vec<i64>, Kind)>;

fn form_of(arguments: &[Tensor]) -> Form {
    arguments.iter().map(|argument| (argument.size(), argument.kind())).collect()
}

/// One form of the function.
struct Recording {
    graph: CudaGraph,
    /// What the recorded work reads.
    inputs: Vec<Tensor>,
    /// What it writes.
    output: Tensor,
}

impl Recording {
    fn make<E: From<TorchError>>(
        ordinal: usize,
        arguments: &[Tensor],
        work: &mut impl FnMut(&[Tensor]) -> Result<Tensor, E>,
    ) -> Result<Self, E> {
        let inputs = no_grad(|| arguments.iter().map(copied).collect::<Result<Vec<_>, _>>())?;
        let (graph, output) = CudaGraph::record(ordinal, WARM_UP_RUNS, || work(&inputs))?;
        Ok(Self { graph, inputs, output })
    }

    fn replay(&mut self, arguments: &[Tensor]) -> Result<Tensor, TorchError> {
        no_grad(|| {
            for (input, argument) in self.inputs.iter_mut().zip(arguments) {
                input.f_copy_(argument)?;
            }
            self.graph.replay()?;
            // The next replay writes over what this one has written.
            copied(&self.output)
        })
    }
}

fn copied(tensor: &Tensor) -> Result<Tensor, TorchError> {
    let mut copy = tensor.f_empty_like()?;
    copy.f_copy_(tensor)?;
    Ok(copy)
}

/// What is known of the forms that were seen last, at most [`KEPT`] of them; the latest comes last.
struct Recent<R> {
    forms: Vec<(Form, Option<R>)>,
}

/// How a call is to be done.
enum Next<'a, R> {
    /// Its form is new.
    Direct,
    /// Its form was seen once.
    Record,
    Replay(&'a mut R),
}

impl<R> Default for Recent<R> {
    fn default() -> Self {
        Self { forms: Vec::new() }
    }
}

impl<R> Recent<R> {
    /// How a call of this form is done, which is the latest from now on.
    fn next(&mut self, form: &Form) -> Next<'_, R> {
        match self.forms.iter().position(|(known, _)| known == form) {
            None => {
                self.make_room();
                self.forms.push((form.clone(), None));
                Next::Direct
            }
            Some(position) => {
                self.forms[position..].rotate_left(1);
                match self.forms.last_mut() {
                    Some((_, Some(recording))) => Next::Replay(recording),
                    _ => Next::Record,
                }
            }
        }
    }

    /// Keeps the recording of a form.
    fn keep(&mut self, form: Form, recording: R) -> &mut R {
        self.forms.retain(|(known, _)| *known != form);
        self.make_room();
        self.forms.push((form, None));
        let last = self.forms.len() - 1;
        self.forms[last].1.insert(recording)
    }

    /// Forgets the form that was not seen for longest, if there are too many for another one.
    fn make_room(&mut self) {
        if self.forms.len() >= KEPT {
            self.forms.remove(0);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn form(size: i64) -> Form {
        form_of(&[Tensor::zeros([size, 2], (Kind::Float, tch::Device::Cpu))])
    }

    /// What is done with a call: `None` directly, else the number of the recording that is made or replayed.
    fn call(recent: &mut Recent<usize>, size: i64, made: &mut usize) -> Option<usize> {
        match recent.next(&form(size)) {
            Next::Direct => None,
            Next::Replay(recording) => Some(*recording),
            Next::Record => {
                *made += 1;
                Some(*recent.keep(form(size), *made))
            }
        }
    }

    #[test]
    fn the_second_call_of_a_form_is_recorded_and_all_later_ones_replayed() {
        let (mut recent, mut made) = (Recent::default(), 0);
        let calls = [2, 2, 3, 2, 3, 3, 2].map(|size| call(&mut recent, size, &mut made));
        assert_eq!(calls, [None, Some(1), None, Some(1), Some(2), Some(2), Some(1)]);
    }

    #[test]
    fn types_and_numbers_of_arguments_make_other_forms() {
        let cpu = tch::Device::Cpu;
        let [float, whole] = [Kind::Float, Kind::Int64].map(|kind| Tensor::zeros([2], (kind, cpu)));
        let forms = [vec![&float], vec![&whole], vec![&float, &whole], vec![&float, &float]]
            .map(|arguments| form_of(&arguments.into_iter().map(Tensor::shallow_clone).collect::<Vec<_>>()));
        for (one, form) in forms.iter().enumerate() {
            assert_eq!(forms.iter().position(|other| other == form), Some(one));
        }
    }

    #[test]
    fn the_form_that_was_not_seen_for_longest_makes_room() {
        let (mut recent, mut made) = (Recent::default(), 0);
        let sizes = 1..=KEPT as i64;
        for size in sizes.clone().chain(sizes.clone()) {
            call(&mut recent, size, &mut made);
        }
        assert_eq!(call(&mut recent, 1, &mut made), Some(1)); // now 2 is the oldest
        assert_eq!(call(&mut recent, 99, &mut made), None);
        assert_eq!(call(&mut recent, 1, &mut made), Some(1));
        assert_eq!(call(&mut recent, 2, &mut made), None);
        assert_eq!(recent.forms.len(), KEPT);
    }

    #[test]
    fn work_that_cannot_be_recorded_is_called_directly_and_says_why_not() {
        // Here there is nothing to record on.
        let mut calls = RecordedCalls::new(100);
        let mut direct = 0;
        for number in 1..=4 {
            let argument = Tensor::from_slice(&[f64::from(number)]);
            let twice = calls.call(&[argument], |arguments: &[Tensor]| {
                direct += 1;
                Ok::<_, TorchError>(arguments[0].f_mul_scalar(2.0)?)
            });
            assert_eq!(twice.unwrap().double_value(&[0]), 2.0 * f64::from(number));
            assert_eq!(calls.refusal().is_some(), number >= 2);
        }
        assert_eq!(direct, 4);
    }

    #[test]
    fn an_error_of_the_work_is_the_callers() {
        let mut calls = RecordedCalls::new(0);
        let failing = |_: &[Tensor]| Err(TorchError::from(tch::TchError::Torch("no memory".to_owned())));
        assert!(calls.call(&[], failing).unwrap_err().to_string().contains("no memory"));
    }
}
