//! The most memory that a point needed.

use std::fs;

use dim_torch::{cuda, host_memory};
use tch::Device;

/// Starts counting anew. Where that cannot be done, [`peak_bytes`] says nothing rather than something wrong.
pub fn reset_peak(device: Device) -> bool {
    match device {
        Device::Cuda(ordinal) => cuda::reset_peak_memory(ordinal).is_ok(),
        _ => {
            host_memory::give_back();
            // Linux: the peak of the resident set becomes its present size.
            fs::write("/proc/self/clear_refs", "5").is_ok()
        }
    }
}

/// On a GPU the most bytes that tensors held since [`reset_peak`], on a CPU the largest resident set of the process.
#[must_use]
pub fn peak_bytes(device: Device) -> Option<u64> {
    match device {
        Device::Cuda(ordinal) => cuda::peak_memory(ordinal).ok(),
        _ => high_water_mark(&fs::read_to_string("/proc/self/status").ok()?),
    }
}

/// `VmHWM` in the text of `/proc/self/status`, in bytes.
fn high_water_mark(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn high_water_mark_is_read_in_bytes() {
        assert_eq!(high_water_mark("Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t 1 kB\n"), Some(2 << 20));
        assert_eq!(high_water_mark("Name:\tx\n"), None);
    }
}
