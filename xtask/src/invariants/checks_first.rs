//! An operation's arguments are checked in one function, and before any pointer is taken.

use super::{Violation, lexer, tree::Tree};

const SOURCE: &str = "crates/dim-kernels/src/";

/// Calls into the code that takes pointers.
const IMPLEMENTATIONS: [&str; 2] = ["cpu::", "cuda::"];
const CHECK: &str = "shape::check(";

/// Errors about the arguments of a call; other errors, such as a failed launch, may arise anywhere.
const ARGUMENT_ERRORS: [&str; 8] =
    ["Shape", "Rank", "Empty", "Strides", "DType", "Device", "GradientWithoutInput", "TokenMapLength"];

/// Where such errors may be made: the checks, and the reference, which takes slices and no views.
const PLACES: [&str; 3] = ["shape.rs", "reference.rs", "reference/"];

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (path, source) in tree.rust() {
        let Some((operation, file)) = path.strip_prefix(SOURCE).and_then(|path| path.split_once('/')) else { continue };
        if !tree.contains(&format!("{SOURCE}{operation}/shape.rs")) {
            continue;
        }
        let code = lexer::code(source);
        if file == "mod.rs" {
            violations.extend(unchecked_calls(path, &code));
        }
        if !PLACES.iter().any(|place| file.starts_with(place)) {
            for error in ARGUMENT_ERRORS {
                for position in lexer::words(&code, &format!("KernelError::{error}")) {
                    let message = format!("checks an argument ({error}) outside shape.rs");
                    violations.push(Violation::at(path, lexer::line(&code, position), message));
                }
            }
        }
    }
    violations
}

/// Calls of an implementation in a function that has not called the checks before.
fn unchecked_calls(path: &str, code: &str) -> Vec<Violation> {
    let mut violations = Vec::new();
    let starts: Vec<_> = lexer::words(code, "fn").chain([code.len()]).collect();
    for function in starts.windows(2) {
        let (start, body) = (function[0], &code[function[0]..function[1]]);
        let checked_at = body.find(CHECK).unwrap_or(body.len());
        for call in IMPLEMENTATIONS.into_iter().flat_map(|name| lexer::words(body, name).collect::<Vec<_>>()) {
            if call < checked_at {
                let line = lexer::line(code, start + call);
                violations.push(Violation::at(path, line, format!("calls an implementation before `{CHECK}…)`")));
            }
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(file: &str, source: &str) -> Vec<String> {
        let path = format!("crates/dim-kernels/src/scan/{file}");
        let tree = Tree::of([("crates/dim-kernels/src/scan/shape.rs", ""), (path.as_str(), source)]);
        check(&tree).into_iter().map(|violation| violation.place).collect()
    }

    const GOOD: &str = "pub fn forward() -> R {\n    let sizes = shape::check(x)?;\n    cpu::forward(sizes);\n}\n";

    #[test]
    fn checks_before_the_call_pass() {
        assert!(found("mod.rs", GOOD).is_empty());
        assert!(found("shape.rs", "Err(KernelError::Empty { axis })").is_empty());
        assert!(found("reference.rs", "Err(KernelError::TokenMapLength { got })").is_empty());
        assert!(found("cuda.rs", "Err(KernelError::Launch(code)) // KernelError::Shape").is_empty());
    }

    #[test]
    fn a_call_without_or_before_its_checks_is_found() {
        let lines = |source: &str| found("mod.rs", source);
        let without = format!("{GOOD}pub fn backward() {{\n    cpu::backward();\n}}\n");
        assert_eq!(lines(&without), ["crates/dim-kernels/src/scan/mod.rs:6"]);
        let before = "pub fn forward() {\n    cuda::launch();\n    shape::check(x)?;\n}";
        assert_eq!(lines(before), ["crates/dim-kernels/src/scan/mod.rs:2"]);
    }

    #[test]
    fn checks_that_stray_into_an_implementation_are_found() {
        assert_eq!(found("cpu.rs", "fn f() {\n  Err(KernelError::Shape { op })\n}").len(), 1);
        assert_eq!(found("cpu/forward.rs", "Err(KernelError::DType { op })").len(), 1);
    }
}
