//! Files name no package index and no folder of one machine.
//!
//! pip, cargo and apt know which index, mirror or proxy their user has; a host that is written down goes around that.
//! A path of one machine works on that machine alone.

use super::{Violation, lexer, tree::Tree};

/// In two halves, so that this file passes its own check.
const HOSTS: [(&str, &str); 6] = [
    ("pypi", ".org"),
    ("pythonhosted", ".org"),
    ("crates", ".io"),
    ("deb.debian", ".org"),
    ("archive.ubuntu", ".com"),
    ("registry.npmjs", ".org"),
];

/// Folders in which people and machines keep what is theirs.
const FOLDERS: [(&str, &str); 4] = [("/home", "/"), ("/root", "/"), ("/work", "/"), ("/Users", "/")];

/// cargo writes the index of every dependency into its lock file.
const GENERATED: [&str; 1] = ["Cargo.lock"];

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (path, text) in tree.files().filter(|(path, _)| !GENERATED.contains(path)) {
        for (position, host) in occurrences(text, &HOSTS) {
            violations.push(Violation::at(path, lexer::line(text, position), format!("names the host {host}")));
        }
        for (position, folder) in occurrences(text, &FOLDERS) {
            if begins_a_path(&text[..position]) {
                let message = format!("an absolute path of one machine ({folder}…)");
                violations.push(Violation::at(path, lexer::line(text, position), message));
            }
        }
    }
    violations
}

fn occurrences(text: &str, halves: &[(&str, &str)]) -> Vec<(usize, String)> {
    let wholes = halves.iter().map(|(first, second)| format!("{first}{second}"));
    wholes
        .flat_map(|whole| text.match_indices(&whole).map(|(at, found)| (at, found.to_owned())).collect::<Vec<_>>())
        .collect()
}

/// Whether an absolute path can begin after this text; otherwise it is the middle of a relative one or of a URL.
fn begins_a_path(before: &str) -> bool {
    !before.chars().next_back().is_some_and(|c| c.is_alphanumeric() || "._-~/})>*$".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> usize {
        check(&Tree::of([(path, text)])).len()
    }

    #[test]
    fn hosts_of_package_indexes_are_found() {
        for (first, second) in HOSTS {
            let text = format!("see\nhttps://files.{first}{second}/x");
            assert_eq!(found("docs/a.md", &text), 1, "{text}");
            assert_eq!(found("Cargo.lock", &text), 0, "{text}");
        }
    }

    #[test]
    fn folders_of_one_machine_are_found() {
        for (first, second) in FOLDERS {
            assert_eq!(found("a.toml", &format!("path = \"{first}{second}x\"")), 1);
            assert_eq!(found("a.sh", &format!("{first}{second}x")), 1);
            assert_eq!(found("a.md", &format!("https://example.com{first}{second}x ..{first}{second}x")), 0);
        }
    }
}
