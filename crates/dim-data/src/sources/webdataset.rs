//! Images in tar files, in the layout of WebDataset: the members of one example stand side by side and share their name up to
//! the first dot, such as `n01440764_10026.jpg` and `n01440764_10026.cls`.

use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use tar::{Archive, EntryType};

use crate::decode::decode_bytes;
use crate::read_at::Files;
use crate::source::check_request;
use crate::transform::centre_crop;
use crate::{DataError, ImageSource, Sample};

const IMAGES: [&str; 5] = ["jpg", "jpeg", "png", "webp", "bmp"];
/// Keys of a JSON member that are looked at, in this order, unless the configuration names one.
const JSON_KEYS: [&str; 2] = ["label", "cls"];
/// A class takes a few bytes; a JSON member may describe its image at length.
const LONGEST_LABEL: u64 = 1 << 20;
const EXPECTED: &str = "tar files (.tar) of images with their classes (.cls or .json), as WebDataset has them";
const MEND: &str = "check `path`; tar files must be whole and not compressed, each image beside its .cls or .json";

/// Where the tar files are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebDatasetConfig {
    /// A tar file, or a folder whose `*.tar` are read in the order of their names.
    pub path: PathBuf,
    /// Key of the class in the JSON members; absent: the member `.cls`, else `label` or `cls` of the JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json_key: Option<String>,
    /// A text file with the name of a class on each line; absent: they are called by their numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_names: Option<PathBuf>,
}

/// Images in tar files. Their places are looked up when the files are opened; each is read and decoded when it is asked for.
#[derive(Debug)]
pub struct WebDataset {
    tars: Files<PathBuf>,
    examples: Vec<Example>,
    classes: Vec<String>,
    notes: Vec<String>,
}

/// One image of a million.
#[derive(Debug)]
struct Example {
    tar: u32,
    class: u32,
    offset: u64,
    length: u64,
    name: Box<str>,
}

/// What stands under one name of a tar file.
#[derive(Default)]
struct Group {
    key: String,
    /// Offset, length and name of the image.
    image: Option<(u64, u64, Box<str>)>,
    class: Option<u32>,
}

impl WebDataset {
    /// Looks the images up; their bytes are not read.
    ///
    /// # Errors
    ///
    /// Missing or empty folder, a tar file that is compressed or damaged, an image without a class beside others that have one,
    /// a class without a name: see [`DataError`].
    pub fn open(config: &WebDatasetConfig) -> Result<Self, DataError> {
        let paths = tar_files(&config.path)?;
        let groups: Vec<Vec<Group>> =
            paths.par_iter().map(|path| index(path, config.json_key.as_deref())).collect::<Result<_, _>>()?;
        let mut notes = Vec::new();
        let labelled = groups.iter().flatten().any(|group| group.class.is_some());
        let mut examples = Vec::new();
        let mut without_image = 0_usize;
        for (tar, groups) in groups.into_iter().enumerate() {
            for group in groups {
                let Some((offset, length, name)) = group.image else {
                    without_image += 1;
                    continue;
                };
                let class = match group.class {
                    Some(class) => class,
                    None if labelled => {
                        return Err(wrong(&paths[tar], "a class for every image", format!("none beside {name}")));
                    }
                    None => 0,
                };
                examples.push(Example { tar: tar as u32, class, offset, length, name });
            }
        }
        if without_image > 0 {
            notes.push(format!("{without_image} example(s) of the tar files hold no image and are passed over"));
        }
        if !labelled {
            notes.push("no example of the tar files has a class (.cls or .json); all are of one class".into());
        }
        let Some(last) = examples.iter().map(|example| example.class as usize).max() else {
            let found = format!("no image in {} tar file(s)", paths.len());
            return Err(DataError::NoImages {
                path: config.path.clone(),
                expected: EXPECTED.into(),
                found,
                mend: MEND,
            });
        };
        let classes = class_names(config.class_names.as_deref(), last)?;
        let tars = Files::new(paths).map_err(|error| io(&config.path, "opening the tar files", error))?;
        Ok(Self { tars, examples, classes, notes })
    }
}

/// The tar file, or those of the folder.
fn tar_files(path: &Path) -> Result<Vec<PathBuf>, DataError> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    super::check_folder(path, EXPECTED, MEND)?;
    let entries = fs::read_dir(path).map_err(|error| io(path, "listing the folder", error))?;
    let mut tars = Vec::new();
    let mut others = 0_usize;
    for entry in entries {
        let entry = entry.map_err(|error| io(path, "listing the folder", error))?.path();
        if has_extension(&entry, "tar") { tars.push(entry) } else { others += 1 }
    }
    tars.sort_unstable();
    if tars.is_empty() {
        let found = format!("{others} file(s) or folder(s), none of them a .tar");
        return Err(DataError::NoImages { path: path.to_owned(), expected: EXPECTED.into(), found, mend: MEND });
    }
    Ok(tars)
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found.eq_ignore_ascii_case(extension))
}

/// The examples of a tar file in their order.
fn index(path: &Path, json_key: Option<&str>) -> Result<Vec<Group>, DataError> {
    let file = File::open(path).map_err(|error| io(path, "opening the tar file", error))?;
    let file_length = file.metadata().map_err(|error| io(path, "asking for its length", error))?.len();
    let damaged = |error: std::io::Error| {
        wrong(path, "a whole tar file that is not compressed", format!("damage or another format ({error})"))
    };
    let mut archive = Archive::new(BufReader::new(file));
    let mut groups: Vec<Group> = Vec::new();
    for entry in archive.entries_with_seek().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        if !matches!(entry.header().entry_type(), EntryType::Regular | EntryType::Continuous) {
            continue; // folders; what GNU tar stores as sparse is no picture
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let (offset, length) = (entry.raw_file_position(), entry.size());
        if offset.checked_add(length).is_none_or(|end| end > file_length) {
            let expected = format!("{length} bytes of {name} from byte {offset}");
            return Err(wrong(path, &expected, format!("{file_length} bytes in all (the file is truncated)")));
        }
        let Some((key, extension)) = split(&name) else { continue };
        if groups.last().is_none_or(|group| group.key != key) {
            groups.push(Group { key: key.to_owned(), ..Group::default() });
        }
        let Some(group) = groups.last_mut() else { continue };
        let extension = extension.to_ascii_lowercase();
        let as_class = match extension.as_str() {
            "cls" | "json" if length <= LONGEST_LABEL => {
                let mut text = String::new();
                entry
                    .read_to_string(&mut text)
                    .map_err(|error| wrong(path, &format!("text in {name}"), error.to_string()))?;
                if extension == "json" { class_of_json(&text, json_key) } else { class_of_text(&text, json_key) }
                    .map_err(|found| wrong(path, &format!("a class from 0 in {name}"), found))?
            }
            extension if IMAGES.contains(&extension) => {
                if let Some((_, _, other)) = &group.image {
                    let expected = format!("one image called {key}");
                    return Err(wrong(path, &expected, format!("{other} and {name}")));
                }
                group.image = Some((offset, length, name.into_boxed_str()));
                None
            }
            _ => None,
        };
        // `.cls` and `.json` may stand side by side; the first that tells counts, unless a JSON key was asked for.
        group.class = group.class.or(as_class);
    }
    Ok(groups)
}

/// The name of an example and the extension of its member: all after the first dot of the file's name. Names that begin with a
/// dot, as macOS adds them, belong to no example.
fn split(name: &str) -> Option<(&str, &str)> {
    let start = name.rfind('/').map_or(0, |slash| slash + 1);
    let dot = start + name[start..].find('.')?;
    (dot > start).then(|| (&name[..dot], &name[dot + 1..]))
}

fn class_of_text(text: &str, json_key: Option<&str>) -> Result<Option<u32>, String> {
    if json_key.is_some() {
        return Ok(None);
    }
    text.trim().parse().map(Some).map_err(|_| format!("{:?}", text.trim().chars().take(40).collect::<String>()))
}

fn class_of_json(text: &str, json_key: Option<&str>) -> Result<Option<u32>, String> {
    let value: serde_json::Value = serde_json::from_str(text).map_err(|error| format!("no JSON ({error})"))?;
    let as_class = |class: &serde_json::Value| class.as_u64().and_then(|class| u32::try_from(class).ok());
    let found = match (json_key, &value) {
        (None, serde_json::Value::Number(_)) => return as_class(&value).map(Some).ok_or_else(|| value.to_string()),
        (Some(key), _) => value.get(key),
        (None, _) => JSON_KEYS.iter().find_map(|key| value.get(key)),
    };
    found.map(|class| as_class(class).ok_or_else(|| class.to_string())).transpose()
}

/// Names for the classes 0 to `last`.
fn class_names(file: Option<&Path>, last: usize) -> Result<Vec<String>, DataError> {
    let Some(path) = file else { return Ok((0..=last).map(|class| class.to_string()).collect()) };
    let text = fs::read_to_string(path).map_err(|error| io(path, "reading the names of the classes", error))?;
    let names: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
    if names.len() <= last {
        let expected = format!("a line for each of the classes 0 to {last}");
        return Err(wrong(path, &expected, format!("{} line(s)", names.len())));
    }
    Ok(names)
}

fn wrong(path: &Path, expected: &str, found: String) -> DataError {
    DataError::WrongContents { path: path.to_owned(), expected: expected.to_owned(), found, mend: MEND }
}

fn io(path: &Path, doing: &'static str, error: std::io::Error) -> DataError {
    DataError::Io { path: path.to_owned(), doing, error, mend: MEND }
}

impl ImageSource for WebDataset {
    fn len(&self) -> usize {
        self.examples.len()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn channels(&self) -> usize {
        3
    }

    fn name(&self, index: usize) -> String {
        let example = &self.examples[index];
        self.tars.path(example.tar as usize).join(&*example.name).display().to_string()
    }

    fn load(&self, index: usize, size: usize) -> Result<Sample, DataError> {
        check_request(index, self.examples.len(), size)?;
        let example = &self.examples[index];
        let mut bytes = vec![0; example.length as usize];
        let read = self.tars.read_exact_at(example.tar as usize, &mut bytes, example.offset);
        let image = read.map_err(|error| error.to_string()).and_then(|()| decode_bytes(&bytes));
        let image = image.map_err(|reason| DataError::BrokenImage { path: self.name(index).into(), reason })?;
        Ok(Sample { image: centre_crop(&image, size)?, class: example.class as usize })
    }

    fn notes(&self) -> &[String] {
        &self.notes
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::Cursor;

    use image::{DynamicImage, ImageFormat, Rgb, RgbImage};

    use super::*;

    /// A picture of one colour that tells its number.
    fn png(number: u8) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        let image = DynamicImage::from(RgbImage::from_pixel(4, 4, Rgb([number, 0, 255])));
        image.write_to(&mut bytes, ImageFormat::Png).unwrap();
        bytes.into_inner()
    }

    fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, bytes) in members {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, *bytes).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn open(folder: &Path, json_key: Option<&str>) -> Result<WebDataset, DataError> {
        WebDataset::open(&WebDatasetConfig {
            path: folder.to_owned(),
            json_key: json_key.map(str::to_owned),
            class_names: None,
        })
    }

    fn failure(tars: &[(&str, &[u8])]) -> String {
        let folder = tempfile::tempdir().unwrap();
        tars.iter().for_each(|(name, bytes)| fs::write(folder.path().join(name), bytes).unwrap());
        open(folder.path(), None).unwrap_err().to_string()
    }

    #[test]
    fn images_and_classes_come_in_the_order_of_files_and_members() {
        let folder = tempfile::tempdir().unwrap();
        let long = format!("{}/c.png", "d".repeat(150)); // a name that needs a header of its own
        let images = [png(1), png(2), png(3)];
        let second = tar(&[(&long, &images[2]), (&format!("{}/c.json", "d".repeat(150)), b"{\"label\": 4}")]);
        fs::write(folder.path().join("1.tar"), second).unwrap();
        let first = tar(&[
            ("a.x.png.txt", b"no picture"),
            ("a.cls", b"2\n"),
            ("a.PNG", &images[0]),
            ("._a.png", b"macOS"),
            ("b.png", &images[1]),
            ("b.json", b"{\"cls\": 0, \"label\": 1}"),
            ("only.cls", b"3"),
        ]);
        fs::write(folder.path().join("0.tar"), first).unwrap();
        fs::write(folder.path().join("readme.txt"), b"x").unwrap();
        let source = open(folder.path(), None).unwrap();
        let found: Vec<(u8, usize)> = (0..source.len())
            .map(|index| {
                let sample = source.load(index, 2).unwrap();
                (sample.image.pixels()[0], sample.class)
            })
            .collect();
        assert_eq!(found, [(1, 2), (2, 1), (3, 4)]);
        assert_eq!(source.classes(), ["0", "1", "2", "3", "4"]);
        assert!(source.name(0).ends_with("0.tar/a.PNG"), "{}", source.name(0));
        assert_eq!(source.notes(), ["1 example(s) of the tar files hold no image and are passed over"]);
        let one = open(&folder.path().join("1.tar"), None).unwrap();
        assert_eq!((one.len(), one.load(0, 4).unwrap().class), (1, 4));
    }

    #[test]
    fn a_json_key_counts_before_everything_else_and_classes_can_have_names() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = tar(&[("a.cls", b"7"), ("a.json", b"{\"label\": 5, \"kind\": 1}"), ("a.png", &png(1))]);
        fs::write(folder.path().join("0.tar"), bytes).unwrap();
        assert_eq!(open(folder.path(), Some("kind")).unwrap().load(0, 4).unwrap().class, 1);
        let names = folder.path().join("names.txt");
        fs::write(&names, "cat\ndog\n").unwrap();
        let config = |json_key: Option<&str>| WebDatasetConfig {
            path: folder.path().to_owned(),
            json_key: json_key.map(str::to_owned),
            class_names: Some(names.clone()),
        };
        assert_eq!(WebDataset::open(&config(Some("kind"))).unwrap().classes(), ["cat", "dog"]);
        let error = WebDataset::open(&config(None)).unwrap_err().to_string();
        assert!(
            error.contains("names.txt: expected a line for each of the classes 0 to 7, found 2 line(s)"),
            "{error}"
        );
    }

    #[test]
    fn without_any_class_all_are_of_one() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("0.tar"), tar(&[("a.png", &png(1)), ("b.png", &png(2))])).unwrap();
        let source = open(folder.path(), None).unwrap();
        assert_eq!((source.len(), source.classes().len(), source.notes().len()), (2, 1, 1));
    }

    #[test]
    fn what_is_wrong_is_told_with_file_and_member() {
        let image = png(1);
        let some = tar(&[("a.png", &image), ("a.cls", b"1"), ("b.png", &image)]);
        assert!(
            failure(&[("0.tar", &some)]).contains("0.tar: expected a class for every image, found none beside b.png")
        );
        let words = tar(&[("a.png", &image), ("a.cls", b"cat")]);
        assert!(failure(&[("0.tar", &words)]).contains("expected a class from 0 in a.cls, found \"cat\""));
        let negative = tar(&[("a.png", &image), ("a.json", b"{\"label\": -1}")]);
        assert!(failure(&[("0.tar", &negative)]).contains("expected a class from 0 in a.json, found -1"));
        let two = tar(&[("a.png", &image), ("a.jpg", &image)]);
        assert!(failure(&[("0.tar", &two)]).contains("expected one image called a, found a.png and a.jpg"));
        assert!(failure(&[("0.tar.gz", b"x")]).contains("none of them a .tar"));
        let gzip = [&[0x1F_u8, 0x8B, 8, 0][..], &[7; 1020]].concat();
        assert!(failure(&[("0.tar", &gzip)]).contains("damage or another format"));
        assert!(failure(&[("0.tar", &tar(&[]))]).contains("no image in 1 tar file(s)"));
        let error = open(Path::new("/nowhere"), None).unwrap_err().to_string();
        assert!(error.contains("/nowhere: no such folder; expected tar files"), "{error}");
    }

    #[test]
    fn every_truncation_is_an_error_or_leaves_whole_images() {
        let bytes = tar(&[("a.png", &png(1)), ("a.cls", b"1"), ("b.png", &png(2)), ("b.cls", b"0")]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.tar");
        for length in (0..bytes.len()).step_by(7) {
            fs::write(&path, &bytes[..length]).unwrap();
            match open(&path, None) {
                Err(error) => assert!(error.to_string().contains("0.tar"), "{length}: {error}"),
                Ok(source) => (0..source.len()).for_each(|index| drop(source.load(index, 4).unwrap())),
            }
        }
    }
}
