//! Tensors as streams of bytes, in pieces that stay in the cache: no second copy of a tensor is ever held.

use std::io::{self, Read, Write};

use tch::{Device, Kind, TchError, Tensor};

/// Elements moved at a time: few enough to stay in the cache, and less than the 32,768 from which libtorch spreads a
/// copy over threads, which on a busy machine wait for each other far longer than they copy.
const PIECE: usize = 16 << 10;

/// The order of the bytes within one element in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ByteOrder {
    Little,
    Big,
}

impl ByteOrder {
    const NATIVE: Self = if cfg!(target_endian = "little") { Self::Little } else { Self::Big };
}

/// Either side of a transfer can fail.
#[derive(Debug)]
pub(super) enum TransferError {
    Stream(io::Error),
    Libtorch(TchError),
}

impl From<io::Error> for TransferError {
    fn from(error: io::Error) -> Self {
        Self::Stream(error)
    }
}

impl From<TchError> for TransferError {
    fn from(error: TchError) -> Self {
        Self::Libtorch(error)
    }
}

/// Moves tensors to and from streams through one small buffer that it keeps.
#[derive(Debug, Default)]
pub(super) struct Transfer {
    buffer: Vec<u8>,
}

impl Transfer {
    /// Reads `count` elements into a CPU tensor `[count]`.
    pub(super) fn read(
        &mut self,
        reader: &mut impl Read,
        count: i64,
        kind: Kind,
        order: ByteOrder,
    ) -> Result<Tensor, TransferError> {
        let element = kind.elt_size_in_bytes();
        let tensor = Tensor::f_empty([count], (kind, Device::Cpu))?;
        for (start, length) in pieces(count) {
            let bytes = self.piece(length * element);
            reader.read_exact(bytes)?;
            if order != ByteOrder::NATIVE {
                swap_bytes(bytes, element);
            }
            if kind == Kind::Bool {
                bytes.iter_mut().for_each(|byte| *byte = u8::from(*byte != 0)); // C++ knows no other values of a bool
            }
            let length = length as i64;
            let values = Tensor::f_from_data_size(bytes, &[length], kind)?;
            tensor.f_narrow(0, start, length)?.f_copy_(&values)?;
        }
        Ok(tensor)
    }

    /// Writes the elements of a tensor in row-major order, little-endian.
    pub(super) fn write(&mut self, writer: &mut impl Write, tensor: &Tensor) -> Result<(), TransferError> {
        let element = tensor.f_kind()?.elt_size_in_bytes();
        let flat = tensor.f_detach()?.f_to_device(Device::Cpu)?.f_contiguous()?.f_view([-1])?;
        for (start, length) in pieces(flat.size1()?) {
            let bytes = self.piece(length * element);
            flat.f_narrow(0, start, length as i64)?.f_copy_data_u8(bytes, length)?;
            if ByteOrder::NATIVE != ByteOrder::Little {
                swap_bytes(bytes, element);
            }
            writer.write_all(bytes)?;
        }
        Ok(())
    }

    fn piece(&mut self, bytes: usize) -> &mut [u8] {
        if self.buffer.len() < bytes {
            self.buffer.resize(bytes, 0);
        }
        &mut self.buffer[..bytes]
    }
}

/// Start and length of the pieces of `count` elements.
fn pieces(count: i64) -> impl Iterator<Item = (i64, usize)> {
    (0..count).step_by(PIECE).map(move |start| (start, PIECE.min((count - start).unsigned_abs() as usize)))
}

fn swap_bytes(bytes: &mut [u8], element: usize) {
    if element > 1 {
        bytes.chunks_exact_mut(element).for_each(<[u8]>::reverse);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// Counts of i16 values around the borders between pieces.
    fn counts() -> [i64; 6] {
        let piece = PIECE as i64;
        [0, 1, piece - 1, piece, piece + 1, 2 * piece + 3]
    }

    #[test]
    fn what_is_written_is_read_back_across_pieces() {
        for count in counts() {
            let tensor = Tensor::arange(count, (Kind::Int64, Device::Cpu)).to_kind(Kind::Int16);
            let mut file = Vec::new();
            Transfer::default().write(&mut file, &tensor).unwrap();
            let expected: Vec<u8> = (0..count).flat_map(|value| (value as i16).to_le_bytes()).collect();
            assert!(file == expected, "{count} values written");
            let back = Transfer::default().read(&mut file.as_slice(), count, Kind::Int16, ByteOrder::Little).unwrap();
            assert!(back.equal(&tensor), "{count} values read");
            let swapped: Vec<u8> = (0..count).flat_map(|value| (value as i16).to_be_bytes()).collect();
            let back = Transfer::default().read(&mut swapped.as_slice(), count, Kind::Int16, ByteOrder::Big).unwrap();
            assert!(back.equal(&tensor), "{count} values read from big-endian");
        }
    }

    #[test]
    fn a_strided_tensor_is_written_in_row_major_order() {
        let tensor = Tensor::arange(6, (Kind::Uint8, Device::Cpu)).view([2, 3]).transpose(0, 1);
        let mut file = Vec::new();
        Transfer::default().write(&mut file, &tensor).unwrap();
        assert_eq!(file, [0, 3, 1, 4, 2, 5]);
    }

    #[test]
    fn any_byte_but_zero_is_true() {
        let tensor = Transfer::default().read(&mut [0u8, 1, 255].as_slice(), 3, Kind::Bool, ByteOrder::Little).unwrap();
        assert_eq!(Vec::<bool>::try_from(tensor).unwrap(), [false, true, true]);
    }

    #[test]
    fn a_stream_that_ends_early_is_an_error() {
        let error = Transfer::default().read(&mut [0u8; 7].as_slice(), 2, Kind::Float, ByteOrder::Little).unwrap_err();
        assert!(matches!(error, TransferError::Stream(_)), "{error:?}");
    }
}
