//! What a shell and `man` need: `completions` and `man`.

use std::path::PathBuf;

use clap::Args;

/// `dim-trainer completions`
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// `dim-trainer man`
#[derive(Debug, Args)]
pub struct ManArgs {
    /// The folder to write to; man finds pages in the folder man1 of a folder of MANPATH.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}
