//! The program; everything is in the library beside it.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use dim_trainer::{cli::Cli, commands};

fn main() -> ExitCode {
    let command = Cli::parse().command;
    #[cfg(unix)]
    if command.computes() {
        restart_with_settings();
    }
    dim_torch::host_memory::keep_freed();
    match commands::run(command) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// Replaces this process by itself with the settings that its libraries need, where the environment has others.
///
/// - `OMP_WAIT_POLICY=passive`, unless the user chose a policy. Two pools of threads take turns on the processors: libtorch's
///   (OpenMP) and the kernels' (rayon). OpenMP's threads spin for a while after each product, and take the processors from
///   the kernels: a training step on two cores can take twice as long.
/// - `CUBLAS_WORKSPACE_CONFIG=:4096:8`, without which cuBLAS does not promise the same bits twice.
/// - `OMP_DYNAMIC=false`. With fewer threads than it planned for, oneDNN waits for ever in the gradient of a convolution.
///
/// The OpenMP runtime reads its own when it is loaded, before `main`, hence the new start.
#[cfg(unix)]
fn restart_with_settings() {
    use std::{env, os::unix::process::CommandExt, process::Command};

    let dynamic = env::var_os("OMP_DYNAMIC").is_some_and(|value| value != "false");
    let policy = env::var_os("OMP_WAIT_POLICY");
    if (dynamic || policy.is_none())
        && let Ok(program) = env::current_exe()
    {
        let mut command = Command::new(program);
        command.args(env::args_os().skip(1)).env("OMP_DYNAMIC", "false");
        command.env("OMP_WAIT_POLICY", policy.unwrap_or_else(|| "passive".into()));
        if env::var_os("CUBLAS_WORKSPACE_CONFIG").is_none() {
            command.env("CUBLAS_WORKSPACE_CONFIG", ":4096:8");
        }
        // On success `exec` does not return; on failure the program runs as it is.
        let _ = command.exec();
    }
}
