//! One set-up at a time in one checkout.

use std::{
    fs::{self, File},
    path::Path,
};

use rustix::fs::{FlockOperation, flock};

use super::error::SetupError;

/// Held while files under `deps` change; the system lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    pub(crate) fn take(deps: &Path) -> Result<Self, SetupError> {
        let failed = |doing: &str| SetupError::io(format!("{doing} {}", deps.display()), deps);
        fs::create_dir_all(deps).map_err(failed("make the folder"))?;
        let file = File::create(deps.join("lock")).map_err(failed("write in"))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            println!("another `cargo xtask` is setting this checkout up; waiting for it …");
            flock(&file, FlockOperation::LockExclusive).map_err(|error| failed("lock")(error.into()))?;
        }
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn lock_keeps_others_out_until_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let lock = Lock::take(&folder.path().join("deps")).unwrap();
        let other = File::open(folder.path().join("deps/lock")).unwrap();
        assert!(flock(&other, FlockOperation::NonBlockingLockExclusive).is_err());
        drop(lock);
        assert!(flock(&other, FlockOperation::NonBlockingLockExclusive).is_ok());
    }
}
