//! The subcommands, one a file. Each returns what the process exits with.

mod ema;
mod encode;
mod inspect;
mod sample;
mod train;
mod verify;

use crate::cli::Command;
use crate::error::TrainerError;

/// Runs a subcommand.
///
/// # Errors
/// What stopped it; [`TrainerError::exit_code`] says what to exit with.
pub fn run(command: Command) -> Result<u8, TrainerError> {
    match command {
        Command::Train(arguments) => train::run(arguments),
        Command::Sample(arguments) => sample::run(*arguments),
        Command::Encode(arguments) => encode::run(*arguments),
        Command::Ema(arguments) => ema::run(arguments),
        Command::Inspect(arguments) => inspect::run(arguments),
        Command::Verify(arguments) => verify::run(arguments),
    }
}
