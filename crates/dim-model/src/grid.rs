//! The grid of an image's patches.

use tch::Tensor;

use crate::ModelError;

/// A grid of patches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Grid {
    /// Patches from top to bottom.
    pub rows: usize,
    /// Patches from left to right.
    pub columns: usize,
}

impl Grid {
    /// As many rows as columns.
    #[must_use]
    pub fn square(side: usize) -> Self {
        Self { rows: side, columns: side }
    }

    /// Number of patches.
    #[must_use]
    pub fn patches(self) -> usize {
        self.rows * self.columns
    }

    /// Rows and columns as libtorch counts them.
    pub(crate) fn sizes(self) -> (i64, i64) {
        (size(self.rows), size(self.columns))
    }
}

/// A size as libtorch counts it.
pub(crate) fn size(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// The patch grid of the network input `x`, `[batch, channel, row, column]`.
///
/// # Errors
/// Another shape, other channels, or sides that `patch_size` does not divide.
pub(crate) fn grid_of_input(x: &Tensor, in_channels: usize, patch_size: usize) -> Result<Grid, ModelError> {
    grid_of("x", x, in_channels, patch_size)
}

/// As [`grid_of_input`], of an input that is called `argument`.
pub(crate) fn grid_of(
    argument: &'static str,
    x: &Tensor,
    in_channels: usize,
    patch_size: usize,
) -> Result<Grid, ModelError> {
    let wrong = |expected: String| {
        let got = format!("of shape {:?}", x.size());
        Err(ModelError::Input { argument, expected, got })
    };
    let [batch, channels, height, width] = x.size()[..] else {
        return wrong("[batch, channel, row, column]".into());
    };
    if batch == 0 || channels != size(in_channels) {
        return wrong(format!("at least one image of {in_channels} channels"));
    }
    let side = |value: i64| usize::try_from(value).ok().filter(|side| *side > 0 && side.is_multiple_of(patch_size));
    match (side(height), side(width)) {
        (Some(height), Some(width)) => Ok(Grid { rows: height / patch_size, columns: width / patch_size }),
        _ => wrong(format!("of height and width that are multiples of {patch_size}")),
    }
}

/// The labels of `batch` images: `class` itself, or `null_class` for all of them.
///
/// # Errors
/// Labels that are not i64 `[batch]`; none where the network has no label that means "no class".
pub(crate) fn labels(class: Option<&Tensor>, null_class: Option<usize>, x: &Tensor) -> Result<Tensor, ModelError> {
    let batch = x.size()[0];
    let expected = format!("i64 [{batch}]");
    match (class, null_class) {
        (Some(class), _) if class.size() == [batch] && class.kind() == tch::Kind::Int64 => Ok(class.shallow_clone()),
        (Some(class), _) => {
            let got = format!("{:?} {:?}", class.kind(), class.size());
            Err(ModelError::Input { argument: "class", expected, got })
        }
        (None, Some(null)) => Ok(Tensor::f_full([batch], size(null), (tch::Kind::Int64, x.device()))?),
        (None, None) => Err(ModelError::Input { argument: "class", expected, got: "nothing".into() }),
    }
}

/// Checks that there is a time for every image.
pub(crate) fn check_times(times: &Tensor, x: &Tensor) -> Result<(), ModelError> {
    let batch = x.size()[0];
    if times.size().first() == Some(&batch) {
        return Ok(());
    }
    let got = format!("{:?}", &times.size()[..times.dim().min(1)]);
    Err(ModelError::Input { argument: "t", expected: format!("[batch] = [{batch}]"), got })
}
