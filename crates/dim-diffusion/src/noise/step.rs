//! The noise that a stochastic sampler adds at each of its steps.

use tch::Tensor;

use super::NoiseStream;
use crate::DiffusionError;

/// A source of standard normal noise for the steps of a sampler.
pub trait StepNoise {
    /// The noise of step `step` (from 0), of the shape, kind and device of `like`.
    ///
    /// # Errors
    /// If the source has no noise for that step or that shape.
    fn draw(&self, step: usize, like: &Tensor) -> Result<Tensor, DiffusionError>;
}

/// Noise that depends on a stream, the step and each sample's own index, but not on its neighbours in the batch.
#[derive(Clone, Debug)]
pub struct SampleNoise {
    stream: NoiseStream,
    samples: Vec<u64>,
}

impl SampleNoise {
    /// Noise for a batch whose row `j` is sample `samples[j]`.
    pub fn new(stream: NoiseStream, samples: Vec<u64>) -> Self {
        Self { stream, samples }
    }
}

impl StepNoise for SampleNoise {
    fn draw(&self, step: usize, like: &Tensor) -> Result<Tensor, DiffusionError> {
        let size = like.size();
        match size.split_first() {
            Some((&batch, shape)) if batch == self.samples.len() as i64 => {
                let noise = self.stream.at_step(step as u64).normal(&self.samples, shape, like.device())?;
                Ok(noise.to_kind(like.kind()))
            }
            _ => Err(DiffusionError::WrongShape {
                argument: "x".to_owned(),
                expected: format!("[{}, …], one row per sample index of the noise", self.samples.len()),
                actual: size,
            }),
        }
    }
}
