//! Finds a Python that has pip. Only pip is used of it: any Python 3 will do, whatever its version.

use std::process::{Command, Stdio};

use super::error::SetupError;

/// The first pip that takes several `--platform` options.
const OLDEST_PIP: (u32, u32) = (20, 3);

/// A Python that was asked for its pip and has one that is new enough.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Python(String);

impl Python {
    pub(crate) fn find() -> Result<Self, SetupError> {
        choose(["python3", "python"].map(|program| (program, ask(program))))
    }

    pub(crate) fn pip(&self) -> Command {
        let mut command = Command::new(&self.0);
        command.args(["-m", "pip"]);
        command
    }
}

/// What a program answered when asked for its pip.
enum Answer {
    NotThere,
    NoPip,
    Pip(String),
}

fn ask(program: &str) -> Answer {
    let pip_version = Command::new(program).args(["-m", "pip", "--version"]).stdin(Stdio::null()).output();
    match pip_version {
        Ok(output) if output.status.success() => Answer::Pip(String::from_utf8_lossy(&output.stdout).into_owned()),
        // A shim that stands for no interpreter at all ends like a Python without pip: ask a simpler question.
        Ok(_) => match Command::new(program).arg("--version").output() {
            Ok(output) if output.status.success() => Answer::NoPip,
            _ => Answer::NotThere,
        },
        Err(_) => Answer::NotThere,
    }
}

fn choose<const N: usize>(answers: [(&str, Answer); N]) -> Result<Python, SetupError> {
    let mut problem = SetupError::NoPython;
    for (program, answer) in answers {
        let python = program.to_owned();
        let found = match answer {
            Answer::NotThere => continue,
            Answer::NoPip => SetupError::NoPip { python },
            Answer::Pip(text) if version(&text).is_some_and(|version| version >= OLDEST_PIP) => {
                return Ok(Python(python));
            }
            Answer::Pip(text) => {
                SetupError::OldPip { python, found: text.split_whitespace().nth(1).unwrap_or("unknown").to_owned() }
            }
        };
        if matches!(problem, SetupError::NoPython) {
            problem = found;
        }
    }
    Err(problem)
}

/// `pip 23.2.1 from …` → (23, 2).
fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.strip_prefix("pip ")?.split([' ', '.']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn pip(version: &str) -> Answer {
        Answer::Pip(format!("pip {version} from /usr/lib/python3/dist-packages/pip (python 3.11)\n"))
    }

    #[test]
    fn first_usable_python_is_taken() {
        assert_eq!(choose([("python3", pip("23.0.1")), ("python", pip("24.0"))]).unwrap().0, "python3");
        assert_eq!(choose([("python3", Answer::NoPip), ("python", pip("24.0"))]).unwrap().0, "python");
        assert_eq!(choose([("python3", pip("20.2.4")), ("python", pip("20.3"))]).unwrap().0, "python");
    }

    #[test]
    fn first_problem_is_reported() {
        let none = choose([("python3", Answer::NotThere), ("python", Answer::NotThere)]);
        assert!(matches!(none, Err(SetupError::NoPython)));
        let no_pip = choose([("python3", Answer::NoPip), ("python", Answer::NotThere)]);
        assert!(matches!(no_pip, Err(SetupError::NoPip { python }) if python == "python3"));
        let old = choose([("python3", pip("9.0.1")), ("python", Answer::NoPip)]);
        assert!(matches!(old, Err(SetupError::OldPip { found, .. }) if found == "9.0.1"));
    }
}
