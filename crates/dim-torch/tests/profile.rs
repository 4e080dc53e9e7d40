//! The profiler sees what libtorch does, and ends with the work also when that fails.
#![allow(clippy::unwrap_used)]

use std::sync::Mutex;

use dim_torch::{TorchError, profile};
use tch::{Device, Kind, Tensor};

/// A process records one thing at a time.
static RECORDS: Mutex<()> = Mutex::new(());

#[test]
fn operations_are_seen_in_their_order() {
    let _alone = RECORDS.lock();
    let x = Tensor::ones([64, 64], (Kind::Float, Device::Cpu));
    let (sum, events) = profile(|| Ok::<_, TorchError>(x.f_mm(&x)?.f_relu()?.double_value(&[0, 0]))).unwrap();
    assert!((sum - 64.0).abs() < 1e-9);
    let position = |name: &str| events.iter().position(|event| event.name == name).unwrap();
    assert!(position("aten::mm") < position("aten::relu"));
    assert!(events.iter().all(|event| !event.on_gpu));
    assert!(events[position("aten::mm")].duration_ns > 0);
}

#[test]
fn failing_work_ends_the_recording() {
    let _alone = RECORDS.lock();
    let failed = profile(|| Err::<(), _>(TorchError::Libtorch("no luck".into())));
    assert!(failed.unwrap_err().to_string().contains("no luck"));
    let ((), events) = profile(|| Ok::<_, TorchError>(())).unwrap();
    assert!(!events.iter().any(|event| event.name == "aten::mm"));
}
