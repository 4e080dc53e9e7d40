//! Copies to a GPU that nobody waits for.

use tch::{Device, Tensor};

use crate::DiffusionError;

/// `tensor` on `device`. A copy from the CPU to a GPU only queues up behind what the GPU is at, so that the host goes on.
///
/// # Errors
/// No memory; no such device.
pub fn upload(tensor: &Tensor, device: Device) -> Result<Tensor, DiffusionError> {
    Ok(match (tensor.device(), device) {
        // From other memory than pinned one the copy would wait for all that was queued before.
        (Device::Cpu, Device::Cuda(_)) => {
            tensor.f_internal_pin_memory(device)?.f_to_device_(device, tensor.kind(), true, false)?
        }
        _ => tensor.f_to_device(device)?,
    })
}
