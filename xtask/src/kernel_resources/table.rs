//! The committed table: a line for each kernel and architecture, fields separated by tabs.

use std::fmt::Write as _;

use anyhow::Context;

use super::{Kernels, Key, Resources};

const HEADING: &str = "\
# What nvcc (xtask/pins/nvcc.txt) allots to each kernel: registers and local memory of a thread, static shared memory of a
# block. Written by `cargo xtask kernel-resources --update`; CI fails if a kernel has become worse than it says here.
kernel\tsm\tregisters\tspill_bytes\tstack_bytes\tshared_bytes
";

pub(super) fn write(kernels: &Kernels) -> String {
    let mut text = HEADING.to_owned();
    for (Key { kernel, architecture }, resources) in kernels {
        let Resources { registers, spill_bytes, stack_bytes, shared_bytes } = resources;
        // Infallible: a String takes whatever is written to it.
        let _ = writeln!(text, "{kernel}\t{architecture}\t{registers}\t{spill_bytes}\t{stack_bytes}\t{shared_bytes}");
    }
    text
}

pub(super) fn read(text: &str) -> anyhow::Result<Kernels> {
    let lines = text.lines().filter(|line| !line.starts_with('#')).skip(1);
    lines.map(|line| row(line).with_context(|| format!("in the line `{line}`"))).collect()
}

fn row(line: &str) -> anyhow::Result<(Key, Resources)> {
    let fields: Vec<_> = line.split('\t').collect();
    let [kernel, architecture, registers, spill_bytes, stack_bytes, shared_bytes] = fields[..] else {
        anyhow::bail!("there are {} fields, not 6", fields.len());
    };
    let key = Key { kernel: kernel.to_owned(), architecture: architecture.parse()? };
    let resources = Resources {
        registers: registers.parse()?,
        spill_bytes: spill_bytes.parse()?,
        stack_bytes: stack_bytes.parse()?,
        shared_bytes: shared_bytes.parse()?,
    };
    Ok((key, resources))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{super::key, *};

    #[test]
    fn what_is_written_is_read_again_in_the_order_of_names_and_architectures() {
        let resources = Resources { registers: 96, spill_bytes: 1, stack_bytes: 2, shared_bytes: 3 };
        let keys = [key("scan", "100"), key("scan", "90a"), key("conv", "80")];
        let kernels: Kernels = keys.into_iter().map(|key| (key, resources)).collect();
        let text = write(&kernels);
        assert_eq!(read(&text).unwrap(), kernels);
        let lines: Vec<_> = text.lines().skip(3).collect();
        assert_eq!(lines, ["conv\t80\t96\t1\t2\t3", "scan\t90a\t96\t1\t2\t3", "scan\t100\t96\t1\t2\t3"]);
    }

    #[test]
    fn a_damaged_line_is_quoted() {
        let error = read(&format!("{HEADING}scan\t80\tmany\t0\t0\t0\n")).unwrap_err();
        assert!(error.to_string().contains("scan\t80\tmany"), "{error}");
        assert!(read(&format!("{HEADING}scan\t80\n")).is_err());
    }
}
