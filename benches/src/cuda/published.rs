//! Times of the existing CUDA ops, and the ones aimed at, for the shapes of DiM-H.
//!
//! Existing: mamba-ssm 2.3's selective scan with z, D, delta bias and softplus, and causal-conv1d 1.7's convolution with SiLU
//! (width 3), d_inner 3072, d_state 16, bf16, without a token map, on one NVIDIA H200 (driver 580.159.04, libtorch
//! 2.11.0+cu130), median by CUDA events, 2026-11-22.

/// Batches and tokens of the rows; the shapes of every op begin so.
pub const SHAPES: [[usize; 2]; 6] = [[192, 366], [56, 1230], [16, 4494], [4, 17_166], [1, 4494], [1, 366]];

/// Times for one shape, in milliseconds: existing and aimed at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Published {
    /// The existing op's.
    pub existing_ms: f64,
    /// What this project aims at.
    pub target_ms: f64,
}

/// Existing and target times of an op, shape by shape.
type Row = [(f64, f64); 6];

const SCAN_FORWARD: Row = [(8.46, 1.35), (9.61, 1.35), (8.39, 1.35), (7.45, 1.35), (0.564, 0.10), (0.058, 0.015)];
const SCAN_BACKWARD: Row = [(20.6, 4.5), (33.3, 4.5), (29.8, 4.5), (24.7, 4.5), (2.07, 0.35), (0.219, 0.05)];
const CONV_FORWARD: Row = [(0.895, 0.26), (0.503, 0.26), (0.364, 0.26), (0.322, 0.26), (0.037, 0.025), (0.019, 0.008)];
const CONV_BACKWARD: Row = [(1.89, 0.42), (0.96, 0.42), (0.67, 0.42), (0.57, 0.42), (0.071, 0.04), (0.035, 0.012)];

/// What was published for an op at a shape of [`SHAPES`], such as `16x4494x3072n16`.
#[must_use]
pub fn find(op: &str, direction: &str, shape: &str) -> Option<Published> {
    let row = match (op, direction) {
        ("selective_scan", "forward") => SCAN_FORWARD,
        ("selective_scan", "backward") => SCAN_BACKWARD,
        ("causal_conv1d", "forward") => CONV_FORWARD,
        ("causal_conv1d", "backward") => CONV_BACKWARD,
        _ => return None,
    };
    let index = SHAPES.iter().position(|[batch, tokens]| shape.starts_with(&format!("{batch}x{tokens}x")))?;
    let (existing_ms, target_ms) = row[index];
    Some(Published { existing_ms, target_ms })
}

/// Share of copy speed that ops without an existing counterpart (norms, optimiser) aim at.
pub const COPY_SHARE_TARGET: f64 = 0.85;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_told_apart() {
        let target = |shape| find("selective_scan", "backward", shape).map(|published| published.target_ms);
        assert_eq!(target("1x4494x3072n16"), Some(0.35));
        assert_eq!(target("16x4494x3072n16"), Some(4.5));
        assert_eq!(target("1x366x3072n16"), Some(0.05));
        assert_eq!(target("2x366x3072n16"), None);
        assert_eq!(find("norm_modulate", "forward", "1x366x1536"), None);
    }
}
