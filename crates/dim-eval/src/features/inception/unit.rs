//! The layers of the network, ready to run.

use dim_torch::{Parameters, TorchError};
use tch::{Device, Tensor};

use super::{super::folded::folded, layout};

/// Convolution and norm in one, and ReLU.
struct Unit {
    weight: Tensor,
    bias: Tensor,
    stride: i64,
    padding: [i64; 2],
}

enum Step {
    Unit(Unit),
    Fork([Unit; 2]),
    /// An average pool and a unit of 1 × 1 behind it.
    PooledUnit(Unit),
    MaxPool {
        stride: i64,
        padding: i64,
    },
}

/// Branches whose outputs are joined.
pub(super) struct Block {
    pub(super) name: &'static str,
    branches: Vec<Vec<Step>>,
}

impl Unit {
    fn new(parameters: &Parameters, unit: &layout::Unit, device: Device) -> Result<Self, TorchError> {
        let name = &unit.name;
        let (weight, bias) = folded(parameters, &format!("{name}.conv"), &format!("{name}.bn"), device)?;
        Ok(Self { weight: channels_last(&weight)?, bias, stride: unit.stride, padding: unit.padding })
    }

    fn convolve(&self, x: &Tensor) -> Result<Tensor, TorchError> {
        Ok(x.f_conv2d(&self.weight, Some(&self.bias), [self.stride; 2], self.padding, [1, 1], 1)?)
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor, TorchError> {
        Ok(self.convolve(x)?.f_relu_()?)
    }
}

impl Step {
    fn forward(&self, x: &Tensor) -> Result<Tensor, TorchError> {
        match self {
            Self::Unit(unit) => unit.forward(x),
            Self::Fork([one, other]) => Ok(Tensor::f_cat(&[one.forward(x)?, other.forward(x)?], 1)?),
            // The average is over the cells within the image, so that it keeps constants, and convolution, bias included, may come first,
            // where it leaves a quarter of the channels or less to be averaged.
            Self::PooledUnit(unit) => {
                let map = unit.convolve(x)?;
                Ok(map.f_avg_pool2d([3, 3], [1, 1], [1, 1], false, false, None)?.f_relu_()?)
            }
            Self::MaxPool { stride, padding } => {
                Ok(x.f_max_pool2d([3, 3], [*stride; 2], [*padding; 2], [1, 1], false)?)
            }
        }
    }
}

impl Block {
    pub(super) fn new(parameters: &Parameters, block: &layout::Block, device: Device) -> Result<Self, TorchError> {
        let unit = |unit: &layout::Unit| Unit::new(parameters, unit, device);
        let branch = |steps: &Vec<layout::Step>| {
            let mut ready = Vec::new();
            for (number, step) in steps.iter().enumerate() {
                let pooled = number > 0 && matches!(steps[number - 1], layout::Step::AveragePool);
                ready.push(match step {
                    layout::Step::Unit(of) if pooled => Step::PooledUnit(unit(of)?),
                    layout::Step::Unit(of) => Step::Unit(unit(of)?),
                    layout::Step::Fork([one, other]) => Step::Fork([unit(one)?, unit(other)?]),
                    layout::Step::MaxPool { stride, padding } => Step::MaxPool { stride: *stride, padding: *padding },
                    // It comes with the unit behind it.
                    layout::Step::AveragePool => continue,
                });
            }
            Ok::<_, TorchError>(ready)
        };
        Ok(Self { name: block.name, branches: block.branches.iter().map(branch).collect::<Result<_, _>>()? })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor, TorchError> {
        let mut outputs = Vec::with_capacity(self.branches.len());
        for branch in &self.branches {
            let mut h = x.shallow_clone();
            for step in branch {
                h = step.forward(&h)?;
            }
            outputs.push(h);
        }
        match &outputs[..] {
            [only] => Ok(only.shallow_clone()),
            _ => Ok(Tensor::f_cat(&outputs, 1)?),
        }
    }
}

/// The same `[a, channel, row, column]`, with channels next to each other in memory: the order that convolutions on the CPU are fastest in.
pub(super) fn channels_last(x: &Tensor) -> Result<Tensor, TorchError> {
    Ok(x.f_permute([0, 2, 3, 1])?.f_contiguous()?.f_permute([0, 3, 1, 2])?)
}
