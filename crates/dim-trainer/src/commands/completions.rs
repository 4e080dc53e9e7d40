//! `dim-trainer completions` and `dim-trainer man`: what the shell and the manual know of the command line, made from its definition.

use std::io::{self, Write};

use clap::CommandFactory;

use crate::cli::{Cli, CompletionsArgs, ManArgs};
use crate::error::TrainerError;
use crate::files;

/// The program's name, as it is called.
const PROGRAM: &str = "dim-trainer";

/// Prints the completions of a shell.
pub(super) fn run(arguments: CompletionsArgs) -> Result<u8, TrainerError> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), PROGRAM, &mut script);
    // A reader that has seen enough, such as `head`, is no error.
    let _ = io::stdout().write_all(&script);
    Ok(0)
}

/// Writes a page for the program and one for each of its subcommands.
pub(super) fn man(arguments: &ManArgs) -> Result<u8, TrainerError> {
    files::create_folder(&arguments.out)?;
    let mut command = Cli::command().name(PROGRAM);
    command.build();
    let subcommands = command.get_subcommands().filter(|subcommand| subcommand.get_name() != "help").cloned();
    let pages: Vec<clap::Command> = std::iter::once(command.clone()).chain(subcommands).collect();
    for command in pages {
        let manual = clap_mangen::Man::new(command);
        let path = arguments.out.join(manual.get_filename());
        let mut page = Vec::new();
        manual.render(&mut page).map_err(|source| TrainerError::write(&path, source))?;
        files::write_bytes_atomically(&path, &page)?;
        println!("{}", path.display());
    }
    Ok(0)
}
