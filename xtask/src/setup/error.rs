//! Everything that can stop set-up, each with what the user can do about it.

use std::{io, path::PathBuf};

use super::libtorch::{LibtorchError, VERSION};

#[derive(Debug, thiserror::Error)]
pub(crate) enum SetupError {
    #[error("no Python 3: neither `python3` nor `python` can be started")]
    NoPython,
    #[error("`{python}` has no pip")]
    NoPip { python: String },
    #[error("the pip of `{python}` is {found}; 20.3 or newer is needed")]
    OldPip { python: String, found: String },
    #[error("libtorch comes as a package for Linux on x86-64 only; this is {os} on {arch}")]
    Platform { os: &'static str, arch: &'static str },
    #[error("no C++ compiler: `{0}` cannot be started")]
    NoCompiler(String),
    #[error("LIBTORCH is set, but {0}")]
    Libtorch(LibtorchError),
    #[error("{folder} has {} free; {} are needed", bytes(*free), bytes(*needed))]
    TooLittleSpace { folder: PathBuf, needed: u64, free: u64 },
    #[error("the disk that holds {0} became full")]
    DiskFull(PathBuf),
    #[error("cannot fetch {title}: {reason}")]
    NoNetwork { title: &'static str, reason: String },
    #[error("the package index has no such build of {title}: {reason}")]
    NotOnIndex { title: &'static str, reason: String },
    #[error("{title} as fetched is not the pinned one: its hash differs")]
    OtherHash { title: &'static str },
    #[error("{title} can only be had through `{program}`, which is not there")]
    NoApt { title: &'static str, program: String },
    #[error("installing {title} failed: {reason}")]
    Failed { title: &'static str, reason: String, log: PathBuf },
    #[error("{title} was installed, but is not whole: {reason}")]
    NotWhole { title: &'static str, reason: String },
    #[error("cannot {doing}: {source}")]
    Io { doing: String, source: io::Error },
    #[error("stopped by Ctrl-C; nothing is left half installed")]
    Interrupted,
}

impl SetupError {
    /// What the user can do, as an instruction; nothing where there is nothing to mend.
    pub(crate) fn mend(&self) -> Option<String> {
        Some(match self {
            Self::NoPython => {
                "install Python 3 with pip (Debian, Ubuntu: `apt-get install python3 python3-pip`)".to_owned()
            }
            Self::NoPip { python } => {
                format!("install it (Debian, Ubuntu: `apt-get install python3-pip`; elsewhere: `{python} -m ensurepip`)")
            }
            Self::OldPip { python, .. } => {
                format!("upgrade it in a virtual environment: `{python} -m venv env && env/bin/pip install -U pip`, then put env/bin first on PATH")
            }
            Self::Platform { .. } => {
                format!("unpack libtorch {VERSION} for this platform yourself and set LIBTORCH to its folder")
            }
            Self::NoCompiler(_) => {
                "install one (Debian, Ubuntu: `apt-get install g++`), or set CXX to the one to use".to_owned()
            }
            Self::Libtorch(_) => {
                format!("`unset LIBTORCH` to use the one that set-up installs, or point it to libtorch {VERSION}")
            }
            Self::TooLittleSpace { .. } | Self::DiskFull(_) => {
                "free some space, or make .deps a link to a folder on a larger disk, then run it again".to_owned()
            }
            Self::NoNetwork { .. } => "check the connection, and the proxy and index that pip is told to use \
                 (`python3 -m pip config list`, `env | grep -i -e pip -e proxy`), then run it again; what is installed stays"
                .to_owned(),
            Self::NotOnIndex { .. } => "use the public package index or a complete mirror of it \
                 (`python3 -m pip config list` shows which one pip asks)"
                .to_owned(),
            Self::OtherHash { .. } => "use the public package index or a faithful mirror of it; if you do, \
                 the download was damaged: run it again"
                .to_owned(),
            Self::NoApt { .. } => "on another system, put the four *-ubyte.gz files of Fashion-MNIST \
                 into .deps/fashion-mnist yourself"
                .to_owned(),
            Self::Failed { log, .. } => format!("read {}, then run it again", log.display()),
            Self::NotWhole { .. } => "run it again".to_owned(),
            Self::Io { .. } => "check the rights of the folder, then run it again".to_owned(),
            Self::Interrupted => return None,
        })
    }

    /// For `map_err`: an I/O error with what was being done, telling a full disk from the rest.
    pub(crate) fn io(doing: impl Into<String>, folder: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull(folder.to_owned()),
            _ => Self::Io { doing: doing.into(), source },
        }
    }
}

/// A number of bytes for people.
pub(crate) fn bytes(count: u64) -> String {
    match count {
        0..1_000_000 => "less than 1 MB".to_owned(),
        1_000_000..1_000_000_000 => format!("{} MB", count / 1_000_000),
        _ => format!("{}.{} GB", count / 1_000_000_000, count / 100_000_000 % 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_readable() {
        assert_eq!(bytes(999), "less than 1 MB");
        assert_eq!(bytes(531_000_000), "531 MB");
        assert_eq!(bytes(2_190_000_000), "2.1 GB");
    }

    #[test]
    fn full_disk_is_told_from_other_io_errors() {
        let folder = std::path::Path::new(".deps");
        let error = SetupError::io("write a stamp", folder)(io::ErrorKind::StorageFull.into());
        assert!(matches!(error, SetupError::DiskFull(_)));
        let error = SetupError::io("write a stamp", folder)(io::ErrorKind::PermissionDenied.into());
        assert!(error.to_string().starts_with("cannot write a stamp: "), "{error}");
    }
}
