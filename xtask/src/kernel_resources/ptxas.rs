//! What `ptxas -v` says.

use anyhow::Context;

use super::{Kernels, Key, Resources};

/// Reads the account of every kernel in a log.
///
/// A function that a kernel calls has a stack of its own and no registers; the kernel's line of registers counts it in
/// as `cumulative stack size`.
pub(super) fn parse(log: &str) -> anyhow::Result<Kernels> {
    let mut kernels = Kernels::new();
    let mut current: Option<(Key, Resources)> = None;
    let mut of_kernel = false;
    for line in log.lines() {
        if let Some(rest) = line.split_once("Compiling entry function '").map(|(_, rest)| rest) {
            let (kernel, rest) = rest.split_once("' for 'sm_").with_context(|| format!("`{line}`"))?;
            let architecture = rest.trim_end_matches('\'').parse()?;
            current = Some((Key { kernel: kernel.to_owned(), architecture }, Resources::default()));
        } else if let Some((_, function)) = line.split_once("Function properties for ") {
            of_kernel = current.as_ref().is_some_and(|(key, _)| key.kernel == function.trim());
        } else if line.contains(" bytes stack frame") {
            if let (true, Some((_, resources))) = (of_kernel, &mut current) {
                resources.stack_bytes = number_before(line, "bytes stack frame")?;
                resources.spill_bytes =
                    number_before(line, "bytes spill stores")? + number_before(line, "bytes spill loads")?;
            }
        } else if line.contains("Used ") && line.contains(" registers") {
            let (key, mut resources) = current.take().with_context(|| format!("of which kernel is `{line}`?"))?;
            resources.registers = number_before(line, "registers")?;
            for (part, to) in [
                ("bytes smem", &mut resources.shared_bytes),
                ("bytes cumulative stack size", &mut resources.stack_bytes),
            ] {
                if line.contains(part) {
                    *to = (*to).max(number_before(line, part)?);
                }
            }
            kernels.insert(key, resources);
        }
    }
    if let Some((key, _)) = current {
        anyhow::bail!("nothing is said of the registers of {key}");
    }
    Ok(kernels)
}

/// The number before these words.
fn number_before(line: &str, words: &str) -> anyhow::Result<u32> {
    let (before, _) = line.split_once(words).with_context(|| format!("no `{words}` in `{line}`"))?;
    let number = before.split_whitespace().last().and_then(|number| number.parse().ok());
    number.with_context(|| format!("no number before `{words}` in `{line}`"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{super::key, *};

    const LOG: &str = "\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'scan_fwd_bf16_n64' for 'sm_80'
ptxas info    : Function properties for scan_fwd_bf16_n64
    8 bytes stack frame, 12 bytes spill stores, 8 bytes spill loads
ptxas info    : Used 128 registers, used 1 barriers, 8 bytes cumulative stack size, 8192 bytes smem, 608 bytes cmem[0]
ptxas info    : Compile time = 225.178 ms
ptxas info    : Compiling entry function 'conv_fwd_f32_w3' for 'sm_90a'
ptxas info    : Function properties for conv_fwd_f32_w3
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 40 registers, used 0 barriers
";

    #[test]
    fn kernels_of_several_architectures_are_read_from_one_log() {
        let kernels = parse(LOG).unwrap();
        let spilling = Resources { registers: 128, spill_bytes: 20, stack_bytes: 8, shared_bytes: 8192 };
        let plain = Resources { registers: 40, ..Resources::default() };
        let expected = [(key("scan_fwd_bf16_n64", "80"), spilling), (key("conv_fwd_f32_w3", "90a"), plain)];
        assert_eq!(kernels, expected.into());
    }

    #[test]
    fn stack_of_a_called_function_counts_by_the_kernels_sum() {
        let log = "\
ptxas info    : Compiling entry function 'k' for 'sm_100'
ptxas info    : Function properties for k
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Function properties for helper
    64 bytes stack frame, 4 bytes spill stores, 4 bytes spill loads
ptxas info    : Used 30 registers, used 0 barriers, 64 bytes cumulative stack size
";
        let expected = Resources { registers: 30, stack_bytes: 64, ..Resources::default() };
        assert_eq!(parse(log).unwrap(), [(key("k", "100"), expected)].into());
    }

    #[test]
    fn words_that_are_not_understood_are_an_error() {
        assert!(parse("ptxas info : Used 30 registers\n").is_err());
        let cut = LOG.lines().take(3).collect::<Vec<_>>().join("\n");
        assert!(parse(&cut).unwrap_err().to_string().contains("scan_fwd_bf16_n64 on sm_80"));
        assert!(parse("Compiling entry function 'k' for 'sm_x'\n").is_err());
        assert_eq!(parse("").unwrap(), Kernels::new());
    }
}
