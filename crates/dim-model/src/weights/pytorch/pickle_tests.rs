//! Pickles written by hand, each for one way in which a pickle can go wrong.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

/// The pickle's value, without what it names.
fn root(bytes: &[u8]) -> String {
    let values = read(bytes).unwrap();
    format!("{:?}", values.get(values.root()))
}

fn problem(bytes: &[u8]) -> String {
    match read(bytes).unwrap_err().problem {
        Problem::Global(global) => format!("global {global}"),
        Problem::Malformed { expected, got } => format!("expected {expected}, got {got}"),
    }
}

#[test]
fn integers_of_every_width_are_read() {
    for (bytes, value) in [
        (&b"K\xff."[..], 255i64),
        (b"M\x01\x02.", 0x0201),
        (b"J\xff\xff\xff\xff.", -1),
        (b"\x8a\x00.", 0),
        (b"\x8a\x01\x80.", -128),
        (b"\x8a\x06\x00\x00\x00\x00\x00\x01.", 1 << 40),
        (b"\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x80.", i64::MIN),
        (b"\x8b\x02\x00\x00\x00\x00\x01.", 256),
    ] {
        assert_eq!(root(bytes), format!("Int({value})"));
    }
    assert!(root(b"\x8a\x09\0\0\0\0\0\0\0\0\x01.").contains("more than 64 bits"));
}

#[test]
fn a_function_of_python_is_named_and_not_called() {
    assert_eq!(problem(b"\x80\x02cposix\nsystem\nX\x04\0\0\0true\x85R."), "global posix.system");
    assert_eq!(problem(b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R."), "global builtins.eval");
    assert_eq!(problem(b"\x80\x02cargparse\nNamespace\n)\x81."), "global argparse.Namespace");
}

#[test]
fn programs_that_are_wrong_are_errors() {
    for (bytes, expected) in [
        (&b""[..], "1 more bytes"),
        (b".", "a value on the stack"),
        (b"0", "a value on the stack"),
        (b"K\x01(\x85.", "a value on the stack"),
        (b"t.", "a mark"),
        (b"h\x07.", "a value in the memo"),
        (b"X\xff\xff\xff\xffabc", "4294967295 more bytes"),
        (b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffabc", "more bytes"),
        (b"X\x01\0\0\0\xff.", "UTF-8"),
        (b"}(K\x01u.", "a value for every key"),
        (b"](K\x01K\x02u.", "a dictionary to add to"),
        (b"}K\x01a.", "a list or set to add to"),
        (b"K\x01}b.", "attributes of a dictionary"),
        (b"K\x01)R.", "a function"),
        (b"ccollections\nOrderedDict\nK\x01R.", "a tuple of arguments"),
        (b"ccollections\nOrderedDict\nK\x01\x85R.", "arguments that OrderedDict takes"),
        (b"ctorch\nFloatStorage\n)R.", "arguments that Storage"),
        (b"ctorch._utils\n_rebuild_tensor_v2\n(K\x01K\x01K\x01K\x01tR.", "a storage"),
        (b"K\x01Q.", "an identifier of a storage"),
        (b"ctorch", "a line"),
        (b"i", "an instruction"),
    ] {
        let problem = problem(bytes);
        assert!(problem.contains(expected), "{}: {problem}", bytes.escape_ascii());
    }
}

#[test]
fn a_dictionary_can_hold_itself() {
    let values = read(b"}q\x00X\x04\0\0\0selfh\x00s.").unwrap();
    let Value::Dict(pairs) = values.get(values.root()) else { panic!("a dictionary") };
    assert_eq!(pairs[0].1, values.root());
}

#[test]
fn a_million_nested_tuples_do_not_exhaust_the_stack() {
    let bytes = [&b"N"[..], &b"\x85".repeat(1_000_000), b"."].concat();
    assert!(root(&bytes).starts_with("Tuple"));
}

/// A view of a storage of `count` elements, with one byte each for offset, size and stride.
fn view(count: u8, offset: u8, size: u8, stride: u8) -> Vec<u8> {
    let storage =
        b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpu";
    [&storage[..], &[b'K', count], b"tQ", &[b'K', offset, b'K', size, 0x85, b'K', stride, 0x85], b"\x89)tR."].concat()
}

#[test]
fn a_view_past_the_end_of_its_storage_is_an_error() {
    assert!(root(&view(12, 2, 4, 3)).contains("offset: 2, shape: [4], strides: [3]"));
    assert_eq!(problem(&view(12, 3, 4, 3)), "expected a view of 12 elements, got offset 3, shape [4], strides [3]");
    assert!(root(&view(0, 0, 0, 1)).contains("shape: [0]"));
    assert!(problem(&view(0, 1, 0, 1)).contains("a view of 0 elements"));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&bytes);
    }

    /// Random bytes seldom get past the first instruction; random instructions do.
    #[test]
    fn no_program_makes_it_panic(instructions in prop::collection::vec(
        prop::sample::select(vec![
            &b"N"[..], b"K\x02", b"(", b")", b"]", b"}", b"t", b"\x85", b"\x87", b"a", b"e", b"s", b"u", b"b", b"R",
            b"Q", b"q\0", b"h\0", b"\x94", b"0", b"1", b"2", b"\x8f", b"\x90", b"\x91", b"\x93", b"G12345678",
            b"X\x07\0\0\0storage", b"ccollections\nOrderedDict\n", b"ctorch\nFloatStorage\n",
            b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch._utils\n_rebuild_parameter\n", b".",
        ]),
        0..60,
    )) {
        let _ = read(&instructions.concat());
    }
}
