//! A step of the optimiser over all of DiM's parameters: the gradient's norm, then AdamW with clipping, moving average and bf16 copy.

use std::num::NonZeroU64;

use dim_bench::cuda::{Case, Work, assert_near, device_tensor, patterned, values};
use dim_kernels::adamw_ema::{self, AdamWEma, AdamWEmaState, Clip, Constants, reference};
use dim_kernels::gpu::{DeviceTensor, Gpu};
use dim_kernels::{DType, KernelError, Queue};

/// Parameters of DiM-S/2, DiM-L/2 and DiM-H/2.
const LENGTHS: [usize; 3] = [50_568_716, 386_063_376, 862_407_184];
const UNIT: (f32, f32) = (-1.0, 1.0);
const MAX_NORM: f64 = 1.0;

fn constants() -> Constants {
    Constants {
        lr: 1e-4,
        beta1: 0.99,
        beta2: 0.99,
        eps: 1e-8,
        weight_decay: 0.03,
        ema_decay: 0.9999,
        gradient_scale: 1.0,
        step: NonZeroU64::MIN,
    }
}

/// The optimiser with its memory: gradients, then parameters, both moments and the average, the copy, and the norm.
struct Optimizer {
    gradients: DeviceTensor,
    state: [DeviceTensor; 4],
    copy: DeviceTensor,
    norm: DeviceTensor,
}

impl Optimizer {
    fn new(gpu: &Gpu, length: usize) -> Result<Self, KernelError> {
        let tensor = |seed, bounds| patterned(gpu, &[length], seed, bounds, DType::F32);
        Ok(Self {
            gradients: tensor(1, UNIT)?,
            // A mean of squares is not negative.
            state: [tensor(2, UNIT)?, tensor(3, UNIT)?, tensor(4, (0.0, 1.0))?, tensor(5, UNIT)?],
            copy: gpu.zeros(DType::Bf16, &[length])?,
            norm: gpu.zeros(DType::F32, &[1])?,
        })
    }

    fn run(&mut self, queue: &Queue) -> Result<(), KernelError> {
        let Self { gradients, state: [parameters, first_moment, second_moment, ema], copy, norm } = self;
        adamw_ema::gradient_norm(queue, &gradients.view()?, 1.0, norm.view_mut()?)?;
        let inputs = AdamWEma {
            gradients: gradients.view()?,
            clip: Some(Clip { norm: norm.view()?, max_norm: MAX_NORM }),
            schedule: None,
            constants: constants(),
        };
        let state = AdamWEmaState {
            parameters: parameters.view_mut()?,
            first_moment: first_moment.view_mut()?,
            second_moment: second_moment.view_mut()?,
            ema: ema.view_mut()?,
            bf16_copy: Some(copy.view_mut()?),
        };
        adamw_ema::step(queue, &inputs, state)
    }
}

/// Everything to time.
pub(crate) fn cases() -> Vec<Case> {
    let case = |length: usize| Case {
        op: "adamw_ema",
        direction: "step",
        shape: format!("{length}"),
        dtype: "f32",
        token_map: None,
        work: work(length),
        make: Box::new(move |gpu: &Gpu| {
            let mut optimizer = Optimizer::new(gpu, length)?;
            Ok(Box::new(move |queue: &Queue| optimizer.run(queue)))
        }),
    };
    LENGTHS.into_iter().map(case).collect()
}

/// The norm reads the gradients; the step reads them again, reads and writes four buffers, and writes the copy.
#[allow(clippy::cast_precision_loss)] // sizes in memory
fn work(length: usize) -> Work {
    Work { bytes: (4 + 4 + 4 * 8 + 2) as f64 * length as f64, exponentials: 0.0 }
}

/// One step over an odd number of parameters against the reference.
pub(crate) fn check(gpu: &Gpu) -> Result<(), String> {
    const LENGTH: usize = 100_003;
    let text = |error: KernelError| error.to_string();
    let mut optimizer = Optimizer::new(gpu, 1).map_err(text)?;
    let host = |seed, bounds| values(LENGTH, seed, bounds, DType::F32);
    let gradients = host(1, UNIT);
    let mut truth = reference::State {
        parameters: host(2, UNIT),
        first_moment: host(3, UNIT),
        second_moment: host(4, (0.0, 1.0)),
        ema: host(5, UNIT),
    };
    let device = |values: &[f64]| device_tensor(gpu, values, DType::F32, &[LENGTH]).map_err(text);
    optimizer.gradients = device(&gradients)?;
    optimizer.state =
        [device(&truth.parameters)?, device(&truth.first_moment)?, device(&truth.second_moment)?, device(&truth.ema)?];
    optimizer.copy = gpu.zeros(DType::Bf16, &[LENGTH]).map_err(text)?;
    reference::step(&constants(), &gradients, Some(MAX_NORM), &mut truth).map_err(text)?;
    optimizer.run(&gpu.queue()).map_err(text)?;
    let names = ["parameters", "first moment", "second moment", "ema"];
    let truths = [&truth.parameters, &truth.first_moment, &truth.second_moment, &truth.ema];
    for ((name, tensor), truth) in names.into_iter().zip(&optimizer.state).zip(truths) {
        assert_near(gpu, name, tensor, truth)?;
    }
    assert_near(gpu, "bf16 copy", &optimizer.copy, &truth.parameters)
}
