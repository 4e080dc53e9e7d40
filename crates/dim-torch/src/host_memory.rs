//! How the C allocator treats the memory of CPU tensors.

/// Lets the allocator keep the memory of freed tensors for the next ones.
///
/// By default glibc maps every block above 128 kB anew and unmaps it when it is freed, so that each activation of each
/// training step is page-faulted and zeroed by the kernel: a fifth of a step's time. Blocks of up to 32 MB, the most that
/// glibc allows, are then taken from its heap, which it no longer returns to the system. Call it once, at the start.
pub fn keep_freed() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        use std::ffi::c_int;

        const M_TRIM_THRESHOLD: c_int = -1;
        const M_TOP_PAD: c_int = -2;
        const M_MMAP_THRESHOLD: c_int = -3;
        // SAFETY: glibc's own function, with its own prototype; it changes settings of the allocator under its lock.
        unsafe extern "C" {
            fn mallopt(parameter: c_int, value: c_int) -> c_int;
        }
        let settings = [(M_MMAP_THRESHOLD, 32 << 20), (M_TRIM_THRESHOLD, c_int::MAX), (M_TOP_PAD, 64 << 20)];
        for (parameter, value) in settings {
            // SAFETY: any parameter and value may be given; an unknown one is refused, which only leaves things as they are.
            unsafe { mallopt(parameter, value) };
        }
    }
}

/// Gives memory that no tensor holds back to the system, where the C library can: for a fair count of what is needed next.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: glibc's own function, with its own prototype.
        unsafe extern "C" {
            fn malloc_trim(pad: usize) -> std::ffi::c_int;
        }
        // SAFETY: it only returns free pages, under the allocator's locks.
        unsafe { malloc_trim(0) };
    }
}
