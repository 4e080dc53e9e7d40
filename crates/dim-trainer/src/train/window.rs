//! Losses and gradient norms since the last line of the log, left on the device until somebody asks.

use std::time::Instant;

use tch::{Device, Kind, Tensor};

use super::log::Record;
use crate::error::TrainerError;

/// The steps since the last record.
pub struct Window {
    losses: Vec<Tensor>,
    grad_norms: Vec<Tensor>,
    batch_size: u64,
    opened: Instant,
    elapsed_before_s: f64,
}

/// Where training stands when a window is read.
#[derive(Clone, Copy, Debug)]
pub struct Position {
    /// Optimiser steps taken.
    pub step: u64,
    /// Images seen.
    pub images_seen: u64,
    /// Learning rate of the last step.
    pub lr: f64,
}

impl Window {
    /// An empty window; the run has taken `elapsed_s` in earlier sessions.
    pub fn new(batch_size: usize, elapsed_s: f64) -> Self {
        Self {
            losses: Vec::new(),
            grad_norms: Vec::new(),
            batch_size: batch_size as u64,
            opened: Instant::now(),
            elapsed_before_s: elapsed_s,
        }
    }

    /// Takes in a step: 0-dim tensors on the device, not read yet.
    pub fn push(&mut self, loss: Tensor, grad_norm: Tensor) {
        self.losses.push(loss);
        self.grad_norms.push(grad_norm);
    }

    /// Waits for the device, empties the window and returns its means; `None` if it is empty. The losses are shares of processes in
    /// the step's loss, which `sum` adds up, in place.
    ///
    /// # Errors
    /// [`TrainerError::NonFinite`] naming the first step at which the loss or the gradient norm was no number; what `sum` returns.
    pub fn read(
        &mut self,
        at: Position,
        sum: impl FnOnce(&Tensor) -> Result<(), TrainerError>,
    ) -> Result<Option<Record>, TrainerError> {
        if self.losses.is_empty() {
            return Ok(None);
        }
        let losses = to_cpu(&self.losses)?;
        sum(&losses)?;
        let (losses, grad_norms) = (to_vec(&losses)?, to_vec(&to_cpu(&self.grad_norms)?)?);
        let steps = losses.len() as u64;
        let first = at.step - steps;
        for (offset, (loss, grad_norm)) in losses.iter().zip(&grad_norms).enumerate() {
            for (quantity, value) in [("loss", *loss), ("gradient norm", *grad_norm)] {
                if !value.is_finite() {
                    let images_seen = at.images_seen - (steps - offset as u64) * self.batch_size;
                    return Err(TrainerError::NonFinite {
                        quantity,
                        value,
                        step: first + offset as u64,
                        images_seen,
                        kept: String::new(),
                    });
                }
            }
        }
        let seconds = self.opened.elapsed().as_secs_f64();
        let elapsed_s = self.elapsed_before_s + seconds;
        *self = Self::new(self.batch_size as usize, elapsed_s);
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        Ok(Some(Record {
            step: at.step,
            images_seen: at.images_seen,
            loss: mean(&losses),
            grad_norm: mean(&grad_norms),
            lr: at.lr,
            images_per_s: (steps * self.batch_size) as f64 / seconds,
            elapsed_s,
            peak_memory_bytes: None,
        }))
    }
}

fn to_cpu(scalars: &[Tensor]) -> Result<Tensor, TrainerError> {
    Ok(Tensor::f_stack(scalars, 0)?.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?)
}

fn to_vec(values: &Tensor) -> Result<Vec<f64>, TrainerError> {
    let mut copied = vec![0.0; values.numel()];
    values.f_copy_data(&mut copied, values.numel())?;
    Ok(copied)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn scalar(value: f64) -> Tensor {
        Tensor::from(value as f32)
    }

    #[test]
    fn means_are_over_the_steps_since_the_last_record() {
        let mut window = Window::new(4, 100.0);
        window.push(scalar(9.0), scalar(9.0));
        window.read(Position { step: 11, images_seen: 44, lr: 0.1 }, |_| Ok(())).unwrap();
        window.push(scalar(1.0), scalar(3.0));
        window.push(scalar(2.0), scalar(5.0));
        let record = window.read(Position { step: 13, images_seen: 52, lr: 0.1 }, |_| Ok(())).unwrap().unwrap();
        assert_eq!((record.loss, record.grad_norm, record.step, record.images_seen), (1.5, 4.0, 13, 52));
        assert!(record.elapsed_s >= 100.0);
        assert_eq!(window.read(Position { step: 13, images_seen: 52, lr: 0.1 }, |_| Ok(())).unwrap(), None);
    }

    #[test]
    fn the_first_step_that_is_no_number_is_named() {
        let mut window = Window::new(4, 0.0);
        for (loss, grad_norm) in [(1.0, 1.0), (0.5, f64::INFINITY), (f64::NAN, f64::NAN)] {
            window.push(scalar(loss), scalar(grad_norm));
        }
        match window.read(Position { step: 10, images_seen: 40, lr: 0.1 }, |_| Ok(())) {
            Err(TrainerError::NonFinite { quantity: "gradient norm", step: 8, images_seen: 32, value, .. }) => {
                assert_eq!(value, f64::INFINITY)
            }
            other => panic!("{other:?}"),
        }
    }
}
