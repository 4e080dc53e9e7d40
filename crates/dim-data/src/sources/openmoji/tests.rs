//! OpenMoji on a handful of drawings in the package's layout.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use super::*;

/// A drawing 72 units wide with a plain rectangle over its left half.
fn half_filled(colour: &str) -> String {
    format!(
        r#"<svg viewBox="0 0 72 72" xmlns="http://www.w3.org/2000/svg"><rect width="36" height="72" fill="{colour}"/></svg>"#
    )
}

const GRINNING: &str = "1F600";
const HEART: &str = "2764"; // in Unicode's list with U+FE0F
const WAVE: &str = "1F44B";
const WAVE_DARK: &str = "1F44B-1F3FF";
const SWATCH: &str = "1F3FB";
const APPLE: &str = "1F34E";
const RAINBOW_FLAG: &str = "1F3F3-FE0F-200D-1F308";
const EXTRA: &str = "E001";

fn package() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("svg")).unwrap();
    for (name, colour) in [
        (GRINNING, "#ff0000"),
        (HEART, "#00ff00"),
        (WAVE, "#0000ff"),
        (WAVE_DARK, "#111111"),
        (SWATCH, "#222222"),
        (APPLE, "#333333"),
        (RAINBOW_FLAG, "#444444"),
        (EXTRA, "#555555"),
    ] {
        let path = root.path().join("svg").join(format!("{name}.svg"));
        fs::write(&path, half_filled(colour)).unwrap();
        fs::write(path.with_extension("svg.gz"), "the package has compressed twins, which are passed over").unwrap();
    }
    fs::write(root.path().join("LICENSE"), "CC BY-SA 4.0").unwrap();
    root
}

fn names(source: &OpenMoji) -> Vec<String> {
    (0..source.len()).map(|i| Path::new(&source.name(i)).file_stem().unwrap().to_string_lossy().into_owned()).collect()
}

fn open(config: &OpenMojiConfig) -> OpenMoji {
    assert_eq!(config.problems(), Vec::<String>::new());
    OpenMoji::open(config, 8).unwrap()
}

#[test]
fn drawings_come_in_unicodes_order_with_its_groups_as_classes() {
    let root = package();
    let source = open(&OpenMojiConfig::new(root.path()));
    assert_eq!(names(&source), [GRINNING, HEART, WAVE, APPLE, RAINBOW_FLAG]);
    assert_eq!(source.classes(), ["Smileys & Emotion", "People & Body", "Food & Drink", "Flags"]);
    let classes: Vec<usize> = (0..5).map(|i| source.load(i, 8).unwrap().class).collect();
    assert_eq!(classes, [0, 0, 1, 2, 3]);
}

#[test]
fn options_choose_the_subset() {
    let root = package();
    let base = OpenMojiConfig::new(root.path());
    let all = OpenMojiConfig { skin_tones: true, components: true, extras: true, ..base.clone() };
    let source = open(&all);
    assert_eq!(names(&source), [GRINNING, HEART, WAVE, WAVE_DARK, SWATCH, APPLE, RAINBOW_FLAG, EXTRA]);
    assert_eq!(source.classes().last().unwrap(), "Extras");

    assert_eq!(names(&open(&OpenMojiConfig { flags: false, ..base.clone() })), [GRINNING, HEART, WAVE, APPLE]);
    let groups = vec!["Food & Drink".to_owned()];
    let subgroups = vec!["face-smiling".to_owned()];
    assert_eq!(names(&open(&OpenMojiConfig { groups: groups.clone(), ..base.clone() })), [APPLE]);
    assert_eq!(names(&open(&OpenMojiConfig { subgroups: subgroups.clone(), ..base.clone() })), [GRINNING]);
    assert_eq!(names(&open(&OpenMojiConfig { groups, subgroups, ..base.clone() })), [GRINNING, APPLE]);

    let by_subgroup = open(&OpenMojiConfig { class_by: ClassBy::Subgroup, flags: false, ..base });
    assert_eq!(by_subgroup.classes(), ["face-smiling", "heart", "hand-fingers-open", "food-fruit"]);
}

#[test]
fn contradictory_options_are_problems() {
    let config =
        OpenMojiConfig { groups: vec!["Flags".into(), "Component".into()], flags: false, ..OpenMojiConfig::new("d") };
    let problems = config.problems();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[1].contains("`groups` names \"Flags\", but `flags` is false; set `flags = true`"));
}

#[test]
fn a_drawing_is_rendered_at_any_size_on_the_background() {
    let root = package();
    let source = open(&OpenMojiConfig { background: [1, 2, 3], ..OpenMojiConfig::new(root.path()) });
    for size in [8, 2, 64] {
        let image = source.load(0, size).unwrap().image;
        assert_eq!((image.width(), image.height(), image.channels()), (size, size, 3));
        let expected: Vec<u8> =
            (0..size * size).flat_map(|i| if i % size < size / 2 { [255, 0, 0] } else { [1, 2, 3] }).collect();
        assert_eq!(image.pixels(), expected, "size {size}");
    }
}

#[test]
fn a_drawing_that_is_not_square_is_fitted_and_centred() {
    let svg = r##"<svg viewBox="0 0 20 10" xmlns="http://www.w3.org/2000/svg"><rect width="20" height="10" fill="#000"/></svg>"##;
    let pixels = render(svg.as_bytes(), 4, [255; 3]).unwrap();
    let rows: Vec<u8> = pixels.chunks(4 * 3).map(|row| row[0]).collect();
    assert_eq!(rows, [255, 0, 0, 255]);
}

#[test]
fn the_cache_is_used_until_a_drawing_changes() {
    let root = package();
    let config = OpenMojiConfig::new(root.path());
    let note = open(&config).notes().concat();
    assert!(note.starts_with("rendered 5 drawings at 8 px into ") && note.ends_with("no cache of them yet"), "{note}");
    assert_eq!(open(&config).notes(), Vec::<String>::new());

    fs::write(root.path().join("svg/1F600.svg"), half_filled("#00ffff")).unwrap();
    let changed = open(&config);
    assert!(changed.notes()[0].contains("stale"), "{:?}", changed.notes());
    assert_eq!(changed.load(0, 8).unwrap().image.pixels()[..3], [0, 255, 255]);
    assert_eq!(open(&config).notes().len(), 0);

    let files = fs::read_dir(root.path().join("rendered")).unwrap().count();
    assert_eq!(files, 1, "a stale cache must be replaced, not kept");
    open(&OpenMojiConfig { background: [0; 3], ..config.clone() });
    assert_eq!(open(&config).notes().len(), 0, "another background must not disturb this one's cache");
}

#[test]
fn a_damaged_cache_is_made_again() {
    let root = package();
    let cache = tempfile::tempdir().unwrap();
    let config = OpenMojiConfig { cache: Some(cache.path().join("new/folder")), ..OpenMojiConfig::new(root.path()) };
    let good = open(&config).load(0, 8).unwrap();
    let file = fs::read_dir(cache.path().join("new/folder")).unwrap().next().unwrap().unwrap().path();
    let whole = fs::read(&file).unwrap();
    for damage in [&whole[..whole.len() / 2], b"", b"something else entirely"] {
        fs::write(&file, damage).unwrap();
        let source = open(&config);
        assert_eq!(source.notes().len(), 1);
        assert_eq!(source.load(0, 8).unwrap(), good);
        assert_eq!(fs::read(&file).unwrap(), whole);
    }
}

#[test]
fn a_broken_drawing_is_named_when_it_is_loaded_and_harms_no_other() {
    let root = package();
    let whole = half_filled("#ff0000");
    fs::write(root.path().join("svg/1F600.svg"), &whole[..whole.len() - 10]).unwrap();
    for _ in 0..2 {
        let source = open(&OpenMojiConfig::new(root.path()));
        let error = source.load(0, 8).unwrap_err().to_string();
        assert!(error.contains("1F600.svg: cannot be read as an image: "), "{error}");
        assert_eq!(source.load(1, 8).unwrap().image.pixels()[..3], [0, 255, 0]);
    }
}

#[test]
fn the_repositorys_layout_and_a_plain_folder_are_read_too() {
    let root = package();
    let expected = names(&open(&OpenMojiConfig::new(root.path())));
    assert_eq!(names(&open(&OpenMojiConfig::new(root.path().join("svg")))), expected);
    fs::create_dir(root.path().join("color")).unwrap();
    fs::rename(root.path().join("svg"), root.path().join("color/svg")).unwrap();
    assert_eq!(names(&open(&OpenMojiConfig::new(root.path()))), expected);
}

#[test]
fn each_fault_has_its_own_error() {
    let message = |path: &Path| OpenMoji::open(&OpenMojiConfig::new(path), 8).unwrap_err().to_string();
    let missing = message(Path::new("/nowhere"));
    assert!(missing.starts_with("/nowhere: no such folder; expected OpenMoji's colour drawings"), "{missing}");
    assert!(missing.contains("cargo xtask setup"), "{missing}");
    let root = tempfile::tempdir().unwrap();
    assert!(message(root.path()).contains("found an empty folder"));
    fs::write(root.path().join("notes.txt"), "").unwrap();
    assert!(message(root.path()).contains("found no SVG file named by code points"), "{}", message(root.path()));
    fs::write(root.path().join("E001.svg"), half_filled("#000")).unwrap();
    assert!(message(root.path()).contains("found 1 drawings, none of them wanted"), "{}", message(root.path()));
    assert!(matches!(
        OpenMoji::open(&OpenMojiConfig::new(root.path()), 0),
        Err(DataError::Argument { name: "image size", .. })
    ));

    let root = package();
    fs::write(root.path().join("rendered"), "a file where the cache's folder should be").unwrap();
    assert!(message(root.path()).contains("set `cache` to a folder that can be written"));
}
