//! The subcommands, and what each calls.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use crate::{
    bench_kernels, bench_scaling, book, bundle, ci, codegen, demo, format, invariants, kernel_resources,
    process::Interrupt,
    setup::{self, Request},
    test, test_gpu, verify,
    workspace::Workspace,
};

/// Automation of this repository.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Install what is missing, pinned, into .deps of this checkout: libtorch, the demo's images, on a GPU also CUDA
    Setup(SetupArguments),
    /// Set up, build, train on real images and show the samples
    Demo(demo::Arguments),
    /// Set up and run every test of the workspace, doctests included
    Test,
    /// Set up and run the tests that need a GPU; without one they skip, by name and aloud
    TestGpu(test_gpu::Arguments),
    /// Gather programs, GPU tests and benchmarks for a machine without Rust, such as a node of a cluster
    Bundle(bundle::Arguments),
    /// Compare registers, spills and shared memory of every kernel with kernels/resources.tsv
    KernelResources(kernel_resources::Arguments),
    /// Everything that a change must pass: format, lints, docs, invariants, generated code, golden files, tests
    Ci(ci::Arguments),
    /// Compare with golden files and print the worst error of each
    Verify(verify::Arguments),
    /// Time the CUDA kernels on this machine's GPU, or compare two runs: what became slower or faster
    BenchKernels(bench_kernels::Arguments),
    /// Time DiM, DiT, U-ViT and a U-Net as images grow, and make a report of it; --quick takes minutes on a CPU
    BenchScaling(bench_scaling::Arguments),
    /// Turn kernels/*/params.h into Rust
    Codegen {
        /// Change nothing; fail if the committed Rust differs from what the headers say
        #[arg(long)]
        check: bool,
    },
    /// Make one book of HTML of docs/, and check every link in it
    Book(book::Arguments),
    /// Format Rust, C++ and CUDA
    Format {
        /// Change nothing; fail if there is something to change
        #[arg(long)]
        check: bool,
    },
    /// Check the rules of the architecture: who may depend on whom, where unsafe code may stand, and the like
    Invariants,
}

#[derive(Args, Debug)]
pub(crate) struct SetupArguments {
    /// Install CUDA's libraries and compiler although no GPU is seen, as on a cluster's login node
    #[arg(long)]
    cuda: bool,
    /// Install the CUDA compiler although no GPU is seen
    #[arg(long)]
    nvcc: bool,
    /// Also fetch Fashion-MNIST, from Debian's package
    #[arg(long)]
    fashion_mnist: bool,
    /// Also fetch the weights of EfficientNet-Lite1, for `dim-trainer eval --features efficientnet-lite1`
    #[arg(long)]
    efficientnet_lite1: bool,
    /// Also fetch the weights of EfficientNet-Lite2, for `dim-trainer eval --features efficientnet-lite2`
    #[arg(long)]
    efficientnet_lite2: bool,
}

pub(crate) fn run(command: Command, workspace: &Workspace) -> anyhow::Result<ExitCode> {
    let interrupt = Interrupt::watch()?;
    match command {
        Command::Setup(arguments) => {
            let SetupArguments { cuda, nvcc, fashion_mnist, efficientnet_lite1, efficientnet_lite2 } = arguments;
            let request =
                Request { cuda, nvcc, fashion_mnist, efficientnet_lite1, efficientnet_lite2, ..Request::default() };
            let ready = setup::run(workspace, request, &interrupt)?;
            for line in ready.left_out {
                println!("  {line}");
            }
        }
        Command::Demo(arguments) => demo::run(workspace, &arguments, &interrupt)?,
        Command::Test => test::run(workspace, &interrupt)?,
        Command::TestGpu(arguments) => test_gpu::run(workspace, &arguments, &interrupt)?,
        Command::Bundle(arguments) => bundle::run(workspace, &arguments, &interrupt)?,
        Command::KernelResources(arguments) => kernel_resources::run(workspace, &arguments, &interrupt)?,
        Command::Ci(arguments) => ci::run(workspace, &arguments, &interrupt)?,
        Command::Verify(arguments) => return verify::run(workspace, &arguments, &interrupt),
        Command::BenchKernels(arguments) => return bench_kernels::run(workspace, &arguments, &interrupt),
        Command::BenchScaling(arguments) => return bench_scaling::run(workspace, &arguments, &interrupt),
        Command::Codegen { check } => codegen::run(workspace, check, &interrupt)?,
        Command::Book(arguments) => book::run(workspace, &arguments, &interrupt)?,
        Command::Format { check } => format::run(workspace, check, &interrupt)?,
        Command::Invariants => invariants::run(workspace)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A path of the command line, relative to where the command was typed, made independent of that.
pub(crate) fn absolute(path: &PathBuf) -> std::io::Result<PathBuf> {
    std::path::absolute(path)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
