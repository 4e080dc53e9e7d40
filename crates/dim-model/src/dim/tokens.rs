//! From patches to the sequence that the blocks see, and back. Source: DiM, sections 3.2 and 3.3.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use dim_torch::{Parameters, TorchError};
use tch::Tensor;

use super::config::{DimConfig, PADDING, PREFIX, Padding};
use crate::grid::{Grid, size};

/// Builds the sequence: condition tokens, separators, padded grid in raster order.
pub(crate) struct Sequencer {
    separator_tokens: Tensor,
    /// None without padding.
    padding_tokens: Option<Tensor>,
    padding: Padding,
    /// Which padding token stands where below the grid seen last: made on the host, where a GPU should not wait for it.
    turns: Mutex<Option<(Grid, Tensor)>>,
}

impl Sequencer {
    pub(crate) fn new(parameters: &Parameters, config: &DimConfig) -> Result<Self, TorchError> {
        Ok(Self {
            separator_tokens: parameters.get("separator_tokens")?,
            padding_tokens: (config.padding != Padding::None).then(|| parameters.get("padding_tokens")).transpose()?,
            padding: config.padding,
            turns: Mutex::new(None),
        })
    }

    /// `conditions`: `[batch, 2, d_model]`, `patches`: `[batch, rows, columns, d_model]` → `[batch, token, d_model]`.
    pub(crate) fn assemble(&self, conditions: &Tensor, patches: &Tensor, grid: Grid) -> Result<Tensor, TorchError> {
        let padded = match &self.padding_tokens {
            Some(tokens) => padded(tokens, patches, &self.below(tokens, grid)?)?,
            None => patches.f_flatten(1, 2)?,
        };
        self.behind_prefix(conditions, &padded)
    }

    /// The same of some neighbouring rows of the padded grid: `patches` are those of them that are in the grid, `below` says which of the
    /// padding rows below it belong to them.
    pub(crate) fn assemble_rows(
        &self,
        conditions: &Tensor,
        patches: &Tensor,
        grid: Grid,
        below: Range<usize>,
    ) -> Result<Tensor, TorchError> {
        let rows = match &self.padding_tokens {
            Some(tokens) => {
                let below = self.below(tokens, grid)?.f_narrow(1, size(below.start), size(below.len()))?;
                padded(tokens, patches, &below)?
            }
            None => patches.f_flatten(1, 2)?,
        };
        self.behind_prefix(conditions, &rows)
    }

    /// Condition tokens, separators, `rest`.
    fn behind_prefix(&self, conditions: &Tensor, rest: &Tensor) -> Result<Tensor, TorchError> {
        let batch = conditions.size()[0];
        let separators = self.separator_tokens.f_unsqueeze(0)?.f_expand([batch, -1, -1], false)?;
        Ok(Tensor::f_cat(&[conditions, &separators, rest], 1)?)
    }

    /// The padding rows below the grid, `[1, 3, columns + 3, d_model]`.
    fn below(&self, tokens: &Tensor, grid: Grid) -> Result<Tensor, TorchError> {
        let width = tokens.size()[1];
        let (_, columns) = grid.sizes();
        let padding = PADDING as i64;
        Ok(if self.padding == Padding::Rho {
            let turns = self.turns(tokens, grid)?;
            tokens.f_index_select(0, &turns)?.f_view([1, padding, columns + padding, width])?
        } else {
            tokens.f_view([1, padding, 1, width])?.f_expand([-1, -1, columns + padding, -1], false)?
        })
    }

    /// Which of the padding `tokens` stand below `grid`, in raster order.
    fn turns(&self, tokens: &Tensor, grid: Grid) -> Result<Tensor, TorchError> {
        // A poisoned lock only means that another thread panicked here; what it left is old or whole.
        let mut last = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, turns)) = last.as_ref().filter(|(known, _)| *known == grid) {
            return Ok(turns.shallow_clone());
        }
        // All padding positions in raster order take the tokens in turn. Every row above adds three, so that
        // the first row below starts with token 0, and each further one where the last stopped.
        let (_, columns) = grid.sizes();
        let padding = PADDING as i64;
        let turns: Vec<i64> = (0..padding * (columns + padding)).map(|turn| turn % padding).collect();
        let turns = Tensor::f_from_slice(&turns)?.f_to_device(tokens.device())?;
        *last = Some((grid, turns.shallow_clone()));
        Ok(turns)
    }
}

/// `patches` with padding `tokens`, `[3, d_model]`, at the right and `[1, row, column, d_model]` below, `[batch, token, d_model]`.
fn padded(tokens: &Tensor, patches: &Tensor, below: &Tensor) -> Result<Tensor, TorchError> {
    let (batch, rows, width) = (patches.size()[0], patches.size()[1], patches.size()[3]);
    let right = tokens.f_view([1, 1, PADDING as i64, width])?.f_expand([batch, rows, -1, -1], false)?;
    let below = below.f_expand([batch, -1, -1, -1], false)?;
    let upper = Tensor::f_cat(&[patches, &right], 2)?;
    Ok(Tensor::f_cat(&[upper, below], 1)?.f_flatten(1, 2)?)
}

/// The patches of the sequence, `[batch, rows, columns, d_model]`: prefix and pads dropped.
pub(crate) fn patches_of(sequence: &Tensor, grid: Grid, padding: Padding) -> Result<Tensor, TorchError> {
    let (batch, width) = (sequence.size()[0], sequence.size()[2]);
    let (rows, columns) = grid.sizes();
    let (padded_rows, padded_columns) = grid.padded(padding).sizes();
    Ok(sequence
        .f_narrow(1, PREFIX as i64, padded_rows * padded_columns)?
        .f_view([batch, padded_rows, padded_columns, width])?
        .f_narrow(1, 0, rows)?
        .f_narrow(2, 0, columns)?)
}

/// A depthwise 3 × 3 convolution of the patches with zero padding; no residual, no activation.
pub(crate) struct LocalConv {
    weight: Tensor,
    bias: Tensor,
}

impl LocalConv {
    /// The convolution whose parameters are `name.weight` `[d_model, 3, 3]` and `name.bias`.
    pub(crate) fn new(parameters: &Parameters, name: &str) -> Result<Self, TorchError> {
        Ok(Self { weight: parameters.get(&format!("{name}.weight"))?, bias: parameters.get(&format!("{name}.bias"))? })
    }

    /// `[batch, rows, columns, d_model]` → the same.
    pub(crate) fn forward(&self, patches: &Tensor) -> Result<Tensor, TorchError> {
        let channels = self.bias.size()[0];
        Ok(patches
            .f_permute([0, 3, 1, 2])?
            .f_conv2d(&self.weight.f_unsqueeze(1)?, Some(&self.bias), [1, 1], [1, 1], [1, 1], channels)?
            .f_permute([0, 2, 3, 1])?)
    }
}
