//! The subcommands, one a file. Each returns what the process exits with.

mod completions;
mod convert;
mod ema;
mod encode;
mod eval;
mod inspect;
mod report;
mod sample;
mod sitting;
mod together;
mod train;
mod train_autoencoder;
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
        Command::TrainAutoencoder(arguments) => train_autoencoder::run(arguments),
        Command::Sample(arguments) => sample::run(*arguments),
        Command::Encode(arguments) => encode::run(*arguments),
        Command::Ema(arguments) => ema::run(arguments),
        Command::Completions(arguments) => completions::run(arguments),
        Command::Man(arguments) => completions::man(&arguments),
        Command::Convert(arguments) => convert::run(arguments),
        Command::Inspect(arguments) => inspect::run(arguments),
        Command::Report(arguments) => report::run(arguments),
        Command::Eval(arguments) => eval::run(*arguments),
        Command::Verify(arguments) => verify::run(arguments),
    }
}
