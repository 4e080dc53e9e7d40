//! The commands and configurations that the documentation shows are taken by this program.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;
use clap::error::ErrorKind;

use super::Cli;
use crate::config::Config;

const PROGRAM: &str = "dim-trainer ";
/// What stands for something that is left out.
const LEFT_OUT: &str = "…";

/// README and all pages of documentation.
fn pages() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut paths = vec![root.join("README.md"), root.join("configs/README.md")];
    let documents = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    paths.extend(documents.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    let results = fs::read_dir(root.join("benches/results")).unwrap().map(|entry| entry.unwrap().path());
    paths.extend(results.map(|folder| folder.join("README.md")).filter(|path| path.exists()));
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

/// The fenced blocks of a page, each with what follows its opening fence.
fn blocks(page: &str) -> Vec<(&str, &str)> {
    let fenced = page.split("```").skip(1).step_by(2);
    fenced.filter_map(|block| block.split_once('\n')).collect()
}

/// What follows the program's name in every command that a page shows, in blocks and between backticks.
fn commands(page: &str) -> Vec<String> {
    let joined = page.replace("\\\n", " ");
    let block_lines =
        blocks(&joined).into_iter().filter(|(kind, _)| kind.is_empty()).flat_map(|(_, block)| block.lines());
    let spans =
        joined.lines().filter(|line| !line.starts_with("```")).flat_map(|line| line.split('`').skip(1).step_by(2));
    let shown = block_lines.chain(spans).map(|line| line.replace("cargo run --release -p dim-trainer -- ", PROGRAM));
    let shown = shown.filter_map(|line| {
        let begins = line.starts_with(PROGRAM)
            || ["torchrun ", "srun ", "mpirun ", "./run "].iter().any(|with| line.starts_with(with));
        begins.then(|| line.split_once(PROGRAM).map(|(_, rest)| rest.to_owned())).flatten()
    });
    shown.map(|line| line.split(" #").next().unwrap_or_default().trim().to_owned()).collect()
}

/// The command, if it says all; what is left out of it otherwise stands for anything.
fn parse(command: &str) -> Result<(), String> {
    let words = shlex::split(command).ok_or("quotes that do not close")?;
    let mut arguments = vec!["dim-trainer".to_owned()];
    for word in words {
        let after_option = arguments.last().is_some_and(|last| last.starts_with("--"));
        if word != LEFT_OUT || after_option {
            arguments.push(word);
        }
    }
    match Cli::try_parse_from(&arguments) {
        Err(error) if command.contains(LEFT_OUT) && error.kind() == ErrorKind::MissingRequiredArgument => Ok(()),
        Err(error) => Err(error.to_string()),
        Ok(_) => Ok(()),
    }
}

#[test]
fn commands_are_taken() {
    let (mut count, mut refused) = (0, String::new());
    for (path, page) in pages() {
        for command in commands(&page) {
            // A name alone: "`dim-trainer train` does …".
            if command.split(' ').count() > 1 {
                count += 1;
                if let Err(error) = parse(&command) {
                    refused += &format!("{}: dim-trainer {command}\n{error}\n", path.display());
                }
            }
        }
    }
    assert!(refused.is_empty(), "{refused}");
    assert!(count > 40, "only {count} commands were found");
}

#[test]
fn whole_configurations_are_taken() {
    let mut count = 0;
    for (path, page) in pages() {
        for (kind, block) in blocks(&page) {
            if kind == "toml" && block.contains("[model]") {
                Config::parse(block, &path.display().to_string(), &[]).unwrap_or_else(|error| panic!("{error}"));
                count += 1;
            }
        }
    }
    assert!(count > 0);
}

#[test]
fn wrong_commands_are_noticed() {
    assert!(parse("sample --run r --folder").is_err());
    assert!(parse("sample --no-such-option …").is_err());
    assert!(parse("train --config … --run … --resume=if-any").is_ok());
    assert_eq!(
        commands("`dim-trainer sample --run r`\n\n```\ntorchrun -- dim-trainer train \\\n --run r   # so\n```\n"),
        ["train   --run r", "sample --run r"]
    );
}
