//! The selective scan by itself, forwards and backwards along a sequence, without libtorch: `cargo run --release -p dim-kernels --example scan`.

use std::error::Error;

use dim_kernels::{Queue, TensorView, TensorViewMut, TokenMap, selective_scan};

fn main() -> Result<(), Box<dyn Error>> {
    let [batch, tokens, channels, states] = [1, 6, 2, 16];
    let u: Vec<f32> = (0..batch * tokens * channels).map(|i| (i as f32).sin()).collect();
    let delta = vec![0.5; u.len()];
    let a: Vec<f32> = (0..channels * states).map(|i| -1.0 - (i % states) as f32).collect();
    let [b, c] = [1.0, 0.25].map(|value| vec![value; batch * tokens * states]);

    let backwards = TokenMap::new((0..tokens as u32).rev().collect())?;
    for (name, token_map) in [("first to last", None), ("last to first", Some(&backwards))] {
        let scan = selective_scan::SelectiveScan {
            u: TensorView::from_slice(&u, &[batch, tokens, channels])?,
            delta: TensorView::from_slice(&delta, &[batch, tokens, channels])?,
            a: TensorView::from_slice(&a, &[channels, states])?,
            b: TensorView::from_slice(&b, &[batch, tokens, states])?,
            c: TensorView::from_slice(&c, &[batch, tokens, states])?,
            d: None,
            z: None,
            delta_bias: None,
            delta_softplus: true,
            initial_state: None,
            token_map,
        };
        let mut out = vec![0.0; u.len()];
        let view = TensorViewMut::from_slice(&mut out, &[batch, tokens, channels])?;
        selective_scan::forward(&Queue::Cpu, &scan, view, None)?;
        println!("{name}: {out:.3?}");
    }
    Ok(())
}
