//! `cargo xtask invariants`: the rules of the architecture, each checked by a tool and not by good will.
//!
//! Each check is a function from the repository's files (or cargo's account of the packages) to violations, so that
//! its tests can show, on small made-up trees, that it fails when it should.

mod checks_first;
mod dependencies;
mod globals;
mod lexer;
mod operations;
mod packages;
mod text;
mod tree;
mod unsafe_code;

pub(crate) use tree::Tree;

use crate::workspace::Workspace;

/// Something that breaks a rule, and where.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Violation {
    /// A path with a line, or a package.
    place: String,
    message: String,
}

impl Violation {
    fn new(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self { place: place.into(), message: message.into() }
    }

    fn at(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self::new(format!("{path}:{line}"), message)
    }
}

/// Runs every check, prints all violations, and fails if there are any.
pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<()> {
    let tree = Tree::tracked(workspace.root())?;
    let packages = packages::of(workspace)?;
    let checks = [
        ("packages depend only on those they may know", dependencies::check(&packages)),
        ("unsafe code stands in two packages, and says why it is sound", unsafe_code::check(&packages, &tree)),
        ("no globals, and no environment variables below the command line", globals::check(&tree)),
        ("arguments are checked in one place, before any pointer is taken", checks_first::check(&tree)),
        ("no kernel stands alone", operations::check(&tree)),
        ("files name no package index and no folder of one machine", text::check(&tree)),
    ];
    let mut count = 0;
    for (rule, mut violations) in checks {
        println!("{}  {rule}", if violations.is_empty() { "ok    " } else { "BROKEN" });
        violations.sort();
        for Violation { place, message } in &violations {
            println!("        {place}: {message}");
        }
        count += violations.len();
    }
    anyhow::ensure!(count == 0, "{count} violations of the rules above");
    Ok(())
}
