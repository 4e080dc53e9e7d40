//! Running other programs: how a command is shown, how its failure is told, and what Ctrl-C does meanwhile.

use std::{
    io,
    process::{Command, ExitStatus},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use signal_hook::{consts::SIGINT, flag};

/// Set once the user has pressed Ctrl-C.
///
/// The terminal sends Ctrl-C to the child as well, which may want to save its work; this process waits for it,
/// then stops, instead of dying first and giving the prompt back too early.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    pub(crate) fn watch() -> io::Result<Self> {
        let this = Self::default();
        flag::register(SIGINT, Arc::clone(&this.0))?;
        Ok(this)
    }

    pub(crate) fn came(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Why a child did not do what it was started for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    #[error("cannot start `{program}`: {source}")]
    Start { program: String, source: io::Error },
    #[error("`{command}` failed ({status})")]
    Failed { command: String, status: ExitStatus },
    #[error("stopped by Ctrl-C")]
    Interrupted,
}

/// Runs a command with this terminal and waits for it.
pub(crate) fn run(command: &mut Command, interrupt: &Interrupt) -> Result<(), CommandError> {
    let status = status(command, interrupt)?;
    if status.success() { Ok(()) } else { Err(CommandError::Failed { command: shown(command), status }) }
}

/// Runs a command like [`run`], for callers to whom a failing exit status is an answer and no error.
pub(crate) fn status(command: &mut Command, interrupt: &Interrupt) -> Result<ExitStatus, CommandError> {
    let status = command.status().map_err(|source| CommandError::Start {
        program: command.get_program().to_string_lossy().into_owned(),
        source,
    })?;
    if interrupt.came() { Err(CommandError::Interrupted) } else { Ok(status) }
}

/// The command as one would type it: the program by its name only, arguments quoted where a shell needs it.
pub(crate) fn shown(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    let name = program.file_name().unwrap_or(command.get_program());
    let variables = command
        .get_envs()
        .filter_map(|(key, value)| Some(format!("{}={}", key.to_string_lossy(), quoted(&value?.to_string_lossy()))));
    let words = std::iter::once(name).chain(command.get_args()).map(|word| quoted(&word.to_string_lossy()));
    variables.chain(words).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+./:,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn shown_command_can_be_pasted_into_a_shell() {
        let mut command = Command::new("/somewhere/bin/cargo");
        command.args(["doc", "--no-deps", "a b", "it's"]).env("RUSTDOCFLAGS", "-D warnings").env_remove("LIBTORCH");
        assert_eq!(shown(&command), r"RUSTDOCFLAGS='-D warnings' cargo doc --no-deps 'a b' 'it'\''s'");
    }

    #[test]
    fn failure_names_the_command_and_its_status() {
        let error = run(Command::new("sh").args(["-c", "exit 3"]), &Interrupt::default()).unwrap_err();
        assert_eq!(error.to_string(), "`sh -c 'exit 3'` failed (exit status: 3)");
    }

    #[test]
    fn missing_program_is_named() {
        let error = run(&mut Command::new("no-such-program-anywhere"), &Interrupt::default()).unwrap_err();
        assert!(error.to_string().starts_with("cannot start `no-such-program-anywhere`"), "{error}");
    }

    #[test]
    fn ctrl_c_during_a_child_wins_over_its_status() {
        let interrupt = Interrupt::default();
        interrupt.0.store(true, Ordering::Relaxed);
        assert!(matches!(run(&mut Command::new("true"), &interrupt), Err(CommandError::Interrupted)));
    }
}
