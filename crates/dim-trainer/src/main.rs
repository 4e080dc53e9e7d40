//! The program; everything is in the library beside it.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use dim_trainer::{cli::Cli, commands};

fn main() -> ExitCode {
    #[cfg(unix)]
    restart_with_passive_waiting();
    match commands::run(Cli::parse().command) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// Replaces this process by itself with `OMP_WAIT_POLICY=passive`, unless the user chose a policy.
///
/// Two pools of threads take turns on the processors: libtorch's (OpenMP) and the kernels' (rayon). By default OpenMP's
/// threads spin for a while after each product, and take the processors from the kernels: a training step on two cores takes
/// twice as long. The OpenMP runtime reads its settings when it is loaded, before `main`, hence the new start.
#[cfg(unix)]
fn restart_with_passive_waiting() {
    use std::os::unix::process::CommandExt;

    const POLICY: &str = "OMP_WAIT_POLICY";
    if std::env::var_os(POLICY).is_none()
        && let Ok(program) = std::env::current_exe()
    {
        // On success `exec` does not return; on failure the program runs as it is, only slower.
        let _ = std::process::Command::new(program).args(std::env::args_os().skip(1)).env(POLICY, "passive").exec();
    }
}
