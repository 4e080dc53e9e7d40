//! Where unsafe code may stand, and that each piece of it says why it is sound.
//!
//! clippy asks for the comment of unsafe blocks too; this check also sees `unsafe extern`, `unsafe fn` and code that
//! is compiled only on other machines.

use super::{Violation, lexer, packages::Package, tree::Tree};

const MAY_BE_UNSAFE: [&str; 2] = ["dim-kernels", "dim-torch"];

pub(super) fn check(packages: &[Package], tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    let (free, strict): (Vec<_>, Vec<_>) =
        packages.iter().partition(|package| MAY_BE_UNSAFE.contains(&package.name.as_str()));
    for root in strict.iter().flat_map(|package| &package.roots) {
        if !tree.get(root).is_some_and(forbids_unsafe) {
            violations.push(Violation::new(root, "lacks `#![forbid(unsafe_code)]`"));
        }
    }
    for (path, source) in tree.rust() {
        let code = lexer::code(source);
        let allowed = free.iter().any(|package| path.starts_with(&format!("{}/", package.folder)));
        for position in lexer::words(&code, "unsafe") {
            let line = lexer::line(&code, position);
            if !allowed {
                violations.push(Violation::at(path, line, "unsafe code outside dim-kernels and dim-torch"));
            } else if !is_function_type(&code[position..]) && !is_explained(source, &code, line) {
                violations.push(Violation::at(path, line, "no `SAFETY:` comment (or `# Safety` section) above"));
            }
        }
    }
    violations
}

fn forbids_unsafe(source: &str) -> bool {
    let code: String = lexer::code(source).split_whitespace().collect();
    code.contains("#![forbid(unsafe_code")
}

/// `unsafe fn(…)` and `unsafe extern "C" fn(…)` without a name are types: nothing is called or promised there.
fn is_function_type(code: &str) -> bool {
    let mut rest = code.trim_start_matches("unsafe").trim_start();
    rest = rest.strip_prefix("extern").map_or(rest, str::trim_start);
    rest.strip_prefix("fn").is_some_and(|rest| rest.trim_start().starts_with('('))
}

/// Looks upwards from a line for the comment, through the statement that the line belongs to and the attributes and
/// comments right above it, up to where the statement before it ended.
fn is_explained(source: &str, code: &str, line: usize) -> bool {
    let source: Vec<_> = source.lines().collect();
    let code: Vec<_> = code.lines().collect();
    let explains = |text: &str, code: &str| {
        let comment = text.get(code.trim_end().len()..).unwrap_or(text);
        comment.contains("SAFETY:") || comment.contains("# Safety")
    };
    let mut continued = false;
    for index in (0..line).rev() {
        let (text, code) = (source[index], code[index].trim_end());
        let is_own_line = index + 1 == line;
        if !is_own_line && (text.trim().is_empty() || (ends_statement(code) && !continued)) {
            return false;
        }
        if explains(text, code) {
            return true;
        }
        continued = continues_statement(code);
    }
    false
}

/// A method chain or a condition goes on from the line above, whatever that one ends with.
fn continues_statement(code: &str) -> bool {
    [".", "?", "&&", "||"].iter().any(|start| code.trim_start().starts_with(start))
}

/// Attributes end in `]` and belong to what follows them, so they end nothing.
fn ends_statement(code: &str) -> bool {
    code.ends_with([';', '{', '}'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packages() -> Vec<Package> {
        let package = |name: &str, folder: &str| Package {
            name: name.to_owned(),
            folder: folder.to_owned(),
            roots: vec![format!("{folder}/src/lib.rs")],
            ..Package::default()
        };
        vec![package("dim-kernels", "crates/dim-kernels"), package("dim-data", "crates/dim-data")]
    }

    fn violations_in_kernels(source: &str) -> usize {
        let data = ("crates/dim-data/src/lib.rs", "#![forbid(unsafe_code)]\n");
        check(&packages(), &Tree::of([data, ("crates/dim-kernels/src/a.rs", source)])).len()
    }

    #[test]
    fn explained_unsafe_code_passes() {
        for source in [
            "// SAFETY: checked above.\nunsafe { f() }",
            "// SAFETY: two lines\n// of it.\n#[allow(x)]\nlet y = g(\n    unsafe { f() },\n);",
            "let y = unsafe { f() }; // SAFETY: always.",
            "// SAFETY: both.\nlet y = unsafe { f() }\n    .and_then(|()| unsafe { g() });",
            "/// Does it.\n///\n/// # Safety\n/// `x` is valid.\n#[inline]\npub unsafe fn f(x: *const u8) {}",
            "// SAFETY: the C side is known.\nunsafe extern \"C\" {\n}",
            "type Callback = unsafe extern \"C\" fn(*mut c_void);",
            "// unsafe\nlet unsafe_count = \"unsafe\";",
        ] {
            assert_eq!(violations_in_kernels(source), 0, "{source}");
        }
    }

    #[test]
    fn unexplained_unsafe_code_is_found() {
        for source in [
            "unsafe { f() }",
            "// SAFETY: of another.\nlet x = 1;\nunsafe { f() }",
            "// SAFETY: too far.\n\nunsafe { f() }",
            "// SAFETY: of the outer.\nif x {\n    unsafe { f() }\n}",
            "pub unsafe fn f() {}",
            "unsafe extern \"C\" {}",
            "let text = \"SAFETY:\"; unsafe { f(text) }",
        ] {
            assert_eq!(violations_in_kernels(source), 1, "{source}");
        }
    }

    #[test]
    fn other_packages_must_forbid_it_and_have_none() {
        let found = |source| check(&packages(), &Tree::of([("crates/dim-data/src/lib.rs", source)]));
        assert_eq!(found("//! Doc.\n#![forbid(unsafe_code, reason = \"x\")]\n"), []);
        assert!(found("#![deny(unsafe_code)]")[0].message.contains("forbid"));
        assert!(found("// #![forbid(unsafe_code)]")[0].message.contains("forbid"));
        let found = found("#![forbid(unsafe_code)]\n// SAFETY: no excuse.\nunsafe { f() }");
        assert_eq!(found[0].place, "crates/dim-data/src/lib.rs:3");
    }
}
