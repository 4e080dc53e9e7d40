//! In what numbers moments are stored.

use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use half::{bf16, f16};
use safetensors::Dtype;
use serde::{Deserialize, Serialize};

/// The type of a stored number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Element {
    /// 32 bits: what the autoencoder gave.
    #[default]
    F32,
    /// 16 bits, 11 of them significant: half the space; values beyond 65504 are refused.
    F16,
    /// 16 bits, 8 of them significant.
    Bf16,
}

impl Element {
    /// Bytes of a number.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    pub(super) fn dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::F16 => Dtype::F16,
            Self::Bf16 => Dtype::BF16,
        }
    }

    /// Appends numbers as they are stored, little endian.
    pub(super) fn encode(self, values: &[f32], bytes: &mut Vec<u8>) {
        match self {
            Self::F32 => values.iter().for_each(|value| bytes.extend(value.to_le_bytes())),
            Self::F16 => values.iter().for_each(|value| bytes.extend(f16::from_f32(*value).to_le_bytes())),
            Self::Bf16 => values.iter().for_each(|value| bytes.extend(bf16::from_f32(*value).to_le_bytes())),
        }
    }

    /// Fills `values` through `read`, which gets the place for the bytes and is to check them, too.
    pub(super) fn decode<E>(self, values: &mut [f32], read: impl FnOnce(&mut [u8]) -> Result<(), E>) -> Result<(), E> {
        if self == Self::F32 {
            read(bytemuck::cast_slice_mut(values))?;
            values.iter_mut().for_each(|value| *value = f32::from_bits(u32::from_le(value.to_bits())));
            return Ok(());
        }
        let mut bits = vec![0_u16; values.len()];
        read(bytemuck::cast_slice_mut(&mut bits))?;
        bits.iter_mut().for_each(|value| *value = u16::from_le(*value));
        match self {
            Self::F16 => bits.reinterpret_cast::<f16>().convert_to_f32_slice(values),
            _ => bits.reinterpret_cast::<bf16>().convert_to_f32_slice(values),
        }
        Ok(())
    }
}
