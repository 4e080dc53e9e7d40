//! The rules that every op has for its arguments.

use crate::device::Queue;
use crate::error::KernelError;
use crate::token_map::TokenMap;
use crate::view::{DType, Device, Layout, TensorView, TensorViewMut};

/// A dimension of an argument: what it means and how long it must be.
pub(crate) type Axis = (&'static str, usize);

/// Checks the arguments of one call.
pub(crate) struct Check<'a> {
    pub(crate) op: &'static str,
    pub(crate) queue: &'a Queue,
}

impl Check<'_> {
    /// Refuses a dimension for whose length there is no kernel on a GPU; the CPU takes any.
    pub(crate) fn kernel_exists(
        &self,
        argument: &'static str,
        (axis, len): Axis,
        supported: &[usize],
    ) -> Result<(), KernelError> {
        if self.queue.device() == Device::Cpu || supported.contains(&len) {
            return Ok(());
        }
        let supported: Vec<_> = supported.iter().map(usize::to_string).collect();
        Err(self.size(argument, (axis, len), format!("one of {}", supported.join(", "))))
    }

    /// Refuses dimensions that are longer than a GPU's kernels count.
    pub(crate) fn countable(&self, argument: &'static str, axes: &[Axis]) -> Result<(), KernelError> {
        let longest = 1 << 30;
        match axes.iter().find(|&&(_, len)| len > longest) {
            Some(&axis) if self.queue.device() != Device::Cpu => {
                Err(self.size(argument, axis, format!("at most {longest}")))
            }
            _ => Ok(()),
        }
    }

    /// Refuses dimensions that are shorter than a GPU's kernels take; the CPU takes any.
    pub(crate) fn at_least(&self, argument: &'static str, (axis, len): Axis, least: usize) -> Result<(), KernelError> {
        if self.queue.device() == Device::Cpu || len >= least {
            return Ok(());
        }
        Err(self.size(argument, (axis, len), format!("at least {least}")))
    }

    /// Refuses rows that are further apart than a GPU's kernels count, in bytes.
    pub(crate) fn reachable(&self, argument: &'static str, layout: &Layout) -> Result<(), KernelError> {
        let rank = layout.strides().len();
        let distance = if rank < 2 { 0 } else { layout.strides()[rank - 2] };
        let bytes = distance.saturating_mul(layout.dtype.size_bytes());
        if self.queue.device() == Device::Cpu || i32::try_from(bytes).is_ok() || layout.shape()[rank - 2] < 2 {
            return Ok(());
        }
        Err(self.strides(argument, layout, "rows less than 2 GiB apart"))
    }

    fn size(&self, argument: &'static str, (axis, got): Axis, supported: String) -> KernelError {
        KernelError::Size { op: self.op, argument, axis, supported, device: self.queue.device(), got }
    }

    /// Refuses an argument of another dtype. (On the CPU all are f32 already.)
    pub(crate) fn dtype(
        &self,
        argument: &'static str,
        layout: &Layout,
        dtype: DType,
        expected: &'static str,
    ) -> Result<(), KernelError> {
        if layout.dtype == dtype {
            return Ok(());
        }
        let (op, device) = (self.op, self.queue.device());
        Err(KernelError::DType { op, argument, expected, device, got: layout.dtype })
    }

    /// [`Self::dtype`] for what stays in f32 whatever the activations are: parameters, states and their gradients.
    pub(crate) fn f32(&self, argument: &'static str, layout: &Layout) -> Result<(), KernelError> {
        self.dtype(argument, layout, DType::F32, "f32")
    }

    /// The shape of an argument that sets the sizes of the others.
    pub(crate) fn sizes<const RANK: usize>(
        &self,
        argument: &'static str,
        layout: &Layout,
        axes: &'static str,
    ) -> Result<[usize; RANK], KernelError> {
        layout.shape().try_into().map_err(|_| KernelError::Rank {
            op: self.op,
            argument,
            axes,
            got: layout.shape().to_vec(),
        })
    }

    /// Refuses an input of another shape, dtype or device, or without contiguous rows.
    pub(crate) fn input(&self, argument: &'static str, layout: &Layout, axes: &[Axis]) -> Result<(), KernelError> {
        self.place(argument, layout, axes)?;
        let (op, device) = (self.op, self.queue.device());
        if device == Device::Cpu && layout.dtype != DType::F32 {
            return Err(KernelError::DType { op, argument, expected: "f32", device, got: layout.dtype });
        }
        Ok(())
    }

    /// [`Self::input`] whatever the dtype.
    fn place(&self, argument: &'static str, layout: &Layout, axes: &[Axis]) -> Result<(), KernelError> {
        let op = self.op;
        if !layout.shape().iter().eq(axes.iter().map(|(_, len)| len)) {
            let names: Vec<_> = axes.iter().map(|&(name, _)| name).collect();
            return Err(KernelError::Shape {
                op,
                argument,
                axes: format!("[{}]", names.join(", ")),
                expected: axes.iter().map(|&(_, len)| len).collect(),
                got: layout.shape().to_vec(),
            });
        }
        let device = self.queue.device();
        if layout.device != device {
            return Err(KernelError::Device { op, argument, expected: device, got: layout.device });
        }
        if !layout.rows_are_contiguous() {
            return Err(self.strides(argument, layout, "stride 1 in the last dimension"));
        }
        Ok(())
    }

    /// Refuses an output as it would an input, and one whose elements overlap.
    pub(crate) fn output(&self, argument: &'static str, layout: &Layout, axes: &[Axis]) -> Result<(), KernelError> {
        self.input(argument, layout, axes)?;
        self.distinct(argument, layout)
    }

    /// [`Self::output`] for one without gaps.
    pub(crate) fn contiguous_output(
        &self,
        argument: &'static str,
        layout: &Layout,
        axes: &[Axis],
    ) -> Result<(), KernelError> {
        self.output(argument, layout, axes)?;
        if !layout.is_contiguous() {
            return Err(self.strides(argument, layout, "no gaps"));
        }
        Ok(())
    }

    /// [`Self::output`] for one that is bf16 on every device.
    pub(crate) fn bf16_output(
        &self,
        argument: &'static str,
        layout: &Layout,
        axes: &[Axis],
    ) -> Result<(), KernelError> {
        self.place(argument, layout, axes)?;
        self.dtype(argument, layout, DType::Bf16, "bf16")?;
        self.distinct(argument, layout)
    }

    fn distinct(&self, argument: &'static str, layout: &Layout) -> Result<(), KernelError> {
        if !layout.elements_are_distinct() {
            return Err(self.strides(argument, layout, "a place of its own for every element"));
        }
        Ok(())
    }

    /// [`Self::input`] for an input that may be absent.
    pub(crate) fn optional_input(
        &self,
        argument: &'static str,
        view: Option<&TensorView<'_>>,
        axes: &[Axis],
    ) -> Result<(), KernelError> {
        view.map_or(Ok(()), |view| self.input(argument, &view.layout, axes))
    }

    /// [`Self::output`] for a gradient that may be unwanted, and is refused if its input was not given.
    pub(crate) fn optional_gradient(
        &self,
        argument: &'static str,
        view: Option<&TensorViewMut<'_>>,
        input_is_given: bool,
        axes: &[Axis],
    ) -> Result<(), KernelError> {
        match view {
            None => Ok(()),
            Some(_) if !input_is_given => Err(KernelError::GradientWithoutInput { op: self.op, argument }),
            Some(view) => self.output(argument, &view.layout, axes),
        }
    }

    /// Refuses a token map of another length than the sequence.
    pub(crate) fn token_map(&self, map: Option<&TokenMap>, tokens: usize) -> Result<(), KernelError> {
        match map {
            Some(map) if map.len() != tokens => {
                Err(KernelError::TokenMapLength { op: self.op, expected: tokens, got: map.len() })
            }
            _ => Ok(()),
        }
    }

    fn strides(&self, argument: &'static str, layout: &Layout, expected: &'static str) -> KernelError {
        KernelError::Strides {
            op: self.op,
            argument,
            shape: layout.shape().to_vec(),
            expected,
            got: layout.strides().to_vec(),
        }
    }
}
