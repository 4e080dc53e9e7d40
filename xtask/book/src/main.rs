//! Makes of `docs/`, and of what else `docs/SUMMARY.md` names, one book of HTML.
//!
//! Started by `cargo xtask book`. A link to a file that is not there is an error.

#![forbid(unsafe_code)]

mod links;
mod made;
mod pages;

use std::{env, fs, path::PathBuf, process::ExitCode};

use anyhow::Context;
use mdbook_driver::{MDBook, config::Config};

use pages::Pages;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let mut arguments = env::args_os().skip(1).map(PathBuf::from);
    let usage = "usage: xtask-book ROOT OUT";
    let (root, out) = (arguments.next().context(usage)?, arguments.next().context(usage)?);

    let pages = Pages::read(&root)?;
    let sources = out.join("src");
    if sources.exists() {
        fs::remove_dir_all(&sources).with_context(|| format!("cannot clear {}", sources.display()))?;
    }
    pages.write(&sources)?;

    let mut config = Config::default();
    config.book.title = Some("DiM in Rust".to_owned());
    config.build.build_dir = "html".into();
    config.set("output.html.git-repository-url", pages::REPOSITORY)?;
    MDBook::load_with_config(&out, config)?.build()?;
    made::check(&out.join("html"))?;
    println!("{} pages: {}", pages.len(), out.join("html/index.html").display());
    Ok(())
}
