//! Looking at intermediates without changing what is computed.

use tch::Tensor;

/// Looks at an intermediate: its name, and the tensor in canonical token order.
type Look<'a> = dyn FnMut(&str, &Tensor) + 'a;

/// Shown every intermediate; by default nobody looks.
pub(crate) struct Observer<'a>(pub(crate) Option<&'a mut Look<'a>>);

impl Observer<'_> {
    /// Whether anybody looks: what only observers need is computed then alone.
    pub(crate) fn looks(&self) -> bool {
        self.0.is_some()
    }

    /// Shows `tensor`; its name is made only if somebody looks.
    pub(crate) fn see(&mut self, name: impl FnOnce() -> String, tensor: &Tensor) {
        if let Some(observer) = &mut self.0 {
            observer(&name(), tensor);
        }
    }
}
