//! Configuration flows down by value: no mutable globals, and the environment is read at the edges only.

use super::{Violation, lexer, tree::Tree};

/// Parts of type names that can change behind a shared reference.
const INTERIOR_MUTABILITY: [&str; 6] = ["Atomic", "Mutex", "RwLock", "Once", "Lazy", "Cell"];
const LAZY_MACROS: [&str; 2] = ["thread_local!", "lazy_static!"];
const READS_OF_THE_ENVIRONMENT: [&str; 4] = ["env::var", "env::var_os", "env::vars", "env::vars_os"];
const CHANGES_OF_THE_ENVIRONMENT: [&str; 2] = ["env::set_var", "env::remove_var"];

/// Globals that stand for something of which a process has one by nature; their docs say what.
const EXCEPTIONS: [(&str, &str); 1] = [("crates/dim-kernels/src/cuda/device.rs", "DEVICES")];

/// Integration tests may keep what all their cases read, and have no command line but the environment.
const TESTS: &str = "/tests/";

/// The program's command line.
const COMMAND_LINE: [&str; 2] = ["crates/dim-trainer/src/main.rs", "crates/dim-trainer/src/commands/"];

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (path, source) in tree.rust() {
        let code = lexer::code(source);
        let mut report = |position: usize, message: String| {
            violations.push(Violation::at(path, lexer::line(&code, position), message));
        };
        if !path.contains(TESTS) {
            for position in lexer::words(&code, "static") {
                if is_exception(path, &code[position..]) {
                    continue;
                }
                if let Some(why) = mutable_static(&code[position..]) {
                    report(position, format!("a global that can change ({why}); hand it down by value"));
                }
            }
            for name in LAZY_MACROS {
                code.match_indices(name).for_each(|(position, _)| report(position, format!("a global (`{name}`)")));
            }
        }
        let environment = CHANGES_OF_THE_ENVIRONMENT.iter().chain(READS_OF_THE_ENVIRONMENT.iter());
        for name in environment.filter(|name| !may_use_environment(path, name)) {
            let message = format!("`{name}` outside build scripts, xtask and the program's command line");
            lexer::words(&code, name).for_each(|position| report(position, message.clone()));
        }
        if !may_use_environment(path, READS_OF_THE_ENVIRONMENT[0]) {
            for (position, _) in code.match_indices("env::{") {
                let names = code[position..].split(['{', '}']).nth(1).unwrap_or_default();
                if names.split(',').any(|name| name.trim().starts_with("var")) {
                    report(position, "imports of `env::var` outside build scripts, xtask and the command line".into());
                }
            }
        }
    }
    violations
}

/// Why a static item is mutable, given the code from its keyword on.
fn mutable_static(code: &str) -> Option<&'static str> {
    let declaration = code.strip_prefix("static")?.split(['=', ';']).next()?;
    if declaration.split_whitespace().next() == Some("mut") {
        return Some("static mut");
    }
    let (_, of_type) = declaration.split_once(':')?;
    INTERIOR_MUTABILITY.into_iter().find(|part| of_type.contains(part))
}

fn is_exception(path: &str, code: &str) -> bool {
    let name = code.split([' ', ':']).nth(1);
    EXCEPTIONS.iter().any(|(exception, global)| path == *exception && name == Some(*global))
}

fn may_use_environment(path: &str, name: &str) -> bool {
    let is_edge = path.starts_with("xtask/")
        || path.contains(TESTS)
        || path.ends_with("/build.rs")
        || is_module_of_build_script(path)
        || COMMAND_LINE.iter().any(|edge| path.starts_with(edge));
    is_edge && !CHANGES_OF_THE_ENVIRONMENT.contains(&name)
}

/// `crates/<package>/build/…`, beside `build.rs`.
fn is_module_of_build_script(path: &str) -> bool {
    let inside = path.strip_prefix("crates/").and_then(|path| path.split_once('/'));
    inside.is_some_and(|(_, path)| path.starts_with("build/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, source: &str) -> Vec<Violation> {
        check(&Tree::of([(path, source)]))
    }

    #[test]
    fn constants_and_lifetimes_are_no_globals() {
        let source = "static TABLE: [u8; 2] = [1, 2];\nconst C: &'static str = \"static mut\";\n\
            struct S { once: OnceLock<u8>, cell: Cell<u8> }\nfn f(x: &'static Mutex<u8>) {}\n";
        assert_eq!(found("crates/a/src/lib.rs", source), []);
    }

    #[test]
    fn every_kind_of_global_is_found() {
        for source in [
            "static mut COUNT: u32 = 0;",
            "static COUNT: AtomicU32 = AtomicU32::new(0);",
            "pub static STATE: std::sync::Mutex<u8> = std::sync::Mutex::new(0);",
            "static TABLE: LazyLock<Vec<u8>> = LazyLock::new(Vec::new);",
            "static TABLE:\n    OnceLock<u8> = OnceLock::new();",
            "thread_local! { static X: u8 = 0; }",
        ] {
            assert!(!found("crates/a/src/lib.rs", source).is_empty(), "{source}");
        }
    }

    #[test]
    fn integration_tests_may_keep_fixtures() {
        let path = "crates/a/tests/fixtures.rs";
        assert_eq!(found(path, "thread_local! { static FILES: Vec<u8> = read(); }"), []);
        assert_eq!(found(path, "static FILES: OnceLock<u8> = OnceLock::new(); env::var(\"X\")"), []);
        assert_eq!(found(path, "env::remove_var(\"X\")").len(), 1);
    }

    #[test]
    fn an_exception_holds_for_one_name_in_one_file() {
        let (path, name) = EXCEPTIONS[0];
        let global = |name: &str| format!("static {name}: OnceLock<Mutex<u8>> = OnceLock::new();");
        assert_eq!(found(path, &global(name)), []);
        assert_eq!(found(path, &global("OTHERS")).len(), 1);
        assert_eq!(found("crates/dim-kernels/src/lib.rs", &global(name)).len(), 1);
    }

    #[test]
    fn environment_is_read_at_the_edges_only() {
        for source in ["std::env::var(\"X\")", "env::var_os(\"X\")", "use std::env::{self, var_os};", "env::vars()"] {
            assert_eq!(found("crates/dim-model/src/lib.rs", source).len(), 1, "{source}");
            for edge in [
                "xtask/src/main.rs",
                "crates/dim-torch/build.rs",
                "crates/dim-kernels/build/nvcc.rs",
                "crates/dim-trainer/src/main.rs",
            ] {
                assert_eq!(found(edge, source), [], "{source} in {edge}");
            }
        }
        assert_eq!(found("crates/a/src/lib.rs", "env!(\"CARGO_MANIFEST_DIR\"); use std::env::{self, args};"), []);
        assert_eq!(found("crates/a/src/lib.rs", "// std::env::var"), []);
    }

    #[test]
    fn environment_is_changed_nowhere() {
        assert_eq!(found("xtask/src/main.rs", "env::set_var(\"X\", \"1\")").len(), 1);
    }
}
