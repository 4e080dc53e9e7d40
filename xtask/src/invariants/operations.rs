//! A kernel never stands alone: each operation has its checks, its slow truth, its tests and its bench.

use std::collections::{BTreeMap, BTreeSet};

use super::{Violation, lexer, tree::Tree};

const SOURCE: &str = "crates/dim-kernels/src/";
const TESTS: &str = "crates/dim-kernels/tests/";
const KERNELS: &str = "kernels/";

/// Files (or folders of that name) that only an operation has.
const MARKS: [&str; 6] = ["shape", "reference", "cpu", "cuda", "params", "backward"];

/// Folder of kernel sources that all operations share.
const COMMON: &str = "common";

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let operations = operations(tree);
    let mut violations = Vec::new();
    if operations.is_empty() {
        violations.push(Violation::new(SOURCE, "holds no operation at all: has it moved?"));
    }
    for operation in operations {
        let mut require = |found: bool, message: &str| {
            if !found {
                violations.push(Violation::new(format!("{SOURCE}{operation}"), message));
            }
        };
        let has = |name: &str| {
            tree.contains(&format!("{SOURCE}{operation}/{name}.rs"))
                || tree.contains(&format!("{SOURCE}{operation}/{name}/mod.rs"))
        };
        require(has("shape"), "lacks shape.rs, the one place for checks of shapes, types and strides");
        require(has("reference"), "lacks reference.rs, the f64 truth");
        require(tree.contains(&format!("{KERNELS}{operation}/params.h")), "lacks its kernels' params.h");
        require(has_tests(tree, &operation), "lacks tests, in its folder or in a program under tests/ that names it");
        require(tree.contains(&format!("benches/benches/{operation}.rs")), "lacks benches/benches/<operation>.rs");
    }
    violations
}

/// Folders that look like an operation, on the Rust side or on the CUDA side.
fn operations(tree: &Tree) -> BTreeSet<String> {
    let in_rust = tree.paths().filter_map(|path| {
        let (folder, rest) = path.strip_prefix(SOURCE)?.split_once('/')?;
        let first = rest.split(['/', '.']).next()?;
        MARKS.contains(&first).then(|| folder.to_owned())
    });
    let in_cuda = tree.paths().filter_map(|path| {
        let (folder, _) = path.strip_prefix(KERNELS)?.split_once('/')?;
        (folder != COMMON).then(|| folder.to_owned())
    });
    in_rust.chain(in_cuda).collect()
}

/// Whether the operation's folder, or a test program of the package that speaks of the operation, has tests.
fn has_tests(tree: &Tree, operation: &str) -> bool {
    let own_folder = format!("{SOURCE}{operation}/");
    if tree.rust().any(|(path, source)| path.starts_with(&own_folder) && is_test(source)) {
        return true;
    }
    // A test program is a file under `tests/`, or a folder of modules there.
    let mut programs: BTreeMap<&str, (bool, bool)> = BTreeMap::new();
    for (path, source) in tree.rust() {
        let Some(program) = path.strip_prefix(TESTS).and_then(|path| path.split(['/', '.']).next()) else { continue };
        let (tests, speaks) = programs.entry(program).or_default();
        *tests |= is_test(source);
        *speaks |= lexer::words(&lexer::code(source), operation).next().is_some();
    }
    programs.values().any(|&(tests, speaks)| tests && speaks)
}

fn is_test(source: &str) -> bool {
    source.contains("#[test]")
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: [(&str, &str); 7] = [
        ("crates/dim-kernels/src/scan/mod.rs", ""),
        ("crates/dim-kernels/src/scan/shape.rs", ""),
        ("crates/dim-kernels/src/scan/reference.rs", ""),
        ("crates/dim-kernels/src/scan/cpu/mod.rs", ""),
        ("crates/dim-kernels/tests/all.rs", "#[test] fn f() { scan::forward(); }"),
        ("kernels/scan/params.h", ""),
        ("benches/benches/scan.rs", ""),
    ];

    fn without(path: &str) -> Vec<Violation> {
        check(&Tree::of(WHOLE.map(|(name, text)| if name == path { ("removed", "") } else { (name, text) })))
    }

    #[test]
    fn whole_operation_passes() {
        assert_eq!(without("nothing"), []);
    }

    #[test]
    fn each_missing_part_is_found() {
        for path in [
            "crates/dim-kernels/src/scan/shape.rs",
            "crates/dim-kernels/src/scan/reference.rs",
            "crates/dim-kernels/tests/all.rs",
            "kernels/scan/params.h",
            "benches/benches/scan.rs",
        ] {
            assert_eq!(without(path).len(), 1, "{path}");
        }
    }

    #[test]
    fn tests_count_where_they_are() {
        let found = |files: [(&str, &str); 2]| has_tests(&Tree::of(files), "scan");
        let test = "#[test] fn f() {}";
        assert!(found([
            ("crates/dim-kernels/tests/cpu/main.rs", test),
            ("crates/dim-kernels/tests/cpu/case.rs", "scan::f()")
        ]));
        assert!(found([("crates/dim-kernels/src/scan/reference.rs", test), ("a.rs", "")]));
        assert!(!found([("crates/dim-kernels/tests/cpu.rs", test), ("crates/dim-kernels/tests/gpu.rs", "scan::f()")]));
        assert!(!found([("crates/dim-kernels/tests/cpu.rs", "scan::f()"), ("crates/dim-torch/tests/scan.rs", test)]));
    }

    #[test]
    fn a_kernel_without_a_rust_side_is_found() {
        let lonely = check(&Tree::of([("kernels/norm/kernel.cuh", ""), ("kernels/common/math.cuh", "")]));
        assert!(lonely.iter().all(|violation| violation.place.ends_with("src/norm")), "{lonely:?}");
        assert!(lonely.len() >= 4);
    }

    #[test]
    fn helpers_are_no_operations_but_none_at_all_is_suspicious() {
        let helper = check(&Tree::of([("crates/dim-kernels/src/lanes/avx2.rs", "")]));
        assert_eq!(helper.len(), 1);
        assert!(helper[0].message.contains("moved"));
    }
}
