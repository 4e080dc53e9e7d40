//! The checkout, the folders that this tool uses in it, and how its cargo is called.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

/// What cargo is told to leave out where no program of the two is wanted: they compile bindgen and mdBook, and `cargo xtask ci` tests them by
/// what they make, in its steps `codegen` and `book`.
pub(crate) const WITHOUT_TOOLS: [&str; 4] = ["--exclude", "xtask-book", "--exclude", "xtask-codegen"];

/// Where things are. Made once, from the environment, and handed down.
#[derive(Clone, Debug)]
pub(crate) struct Workspace {
    root: PathBuf,
    cargo: PathBuf,
    libtorch: Option<PathBuf>,
}

impl Workspace {
    /// Reads what cargo tells a program that it runs: its own path, the package's folder, and `LIBTORCH`.
    pub(crate) fn from_environment() -> Self {
        let package =
            env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = package.parent().map_or_else(|| package.clone(), Path::to_path_buf);
        let cargo = env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from);
        let libtorch = env::var_os("LIBTORCH").map(PathBuf::from);
        Self::new(root, cargo, libtorch)
    }

    fn new(root: PathBuf, cargo: PathBuf, libtorch: Option<PathBuf>) -> Self {
        let ours = root.join(".deps/python/torch");
        let libtorch = libtorch.filter(|path| !is_same_folder(path, &ours));
        Self { root, cargo, libtorch }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Everything that set-up installs.
    pub(crate) fn deps(&self) -> PathBuf {
        self.root.join(".deps")
    }

    /// What pip installed; libtorch finds CUDA's libraries relative to its own place in here.
    pub(crate) fn site(&self) -> PathBuf {
        self.deps().join("python")
    }

    /// The user's own `LIBTORCH`, where it is not the one that set-up installs.
    pub(crate) fn libtorch_of_the_user(&self) -> Option<&Path> {
        self.libtorch.as_deref()
    }

    /// The libtorch that is built against.
    pub(crate) fn libtorch(&self) -> PathBuf {
        self.libtorch.clone().unwrap_or_else(|| self.site().join("torch"))
    }

    /// A cargo command in the root of the checkout.
    ///
    /// `LIBTORCH` as set by `.cargo/config.toml` is taken out again: the child reads the same file, and build
    /// scripts would otherwise run anew each time a plain `cargo build` follows `cargo xtask …`.
    pub(crate) fn cargo<const N: usize>(&self, arguments: [&str; N]) -> Command {
        let mut command = Command::new(&self.cargo);
        command.current_dir(&self.root).args(arguments);
        if self.libtorch.is_none() {
            command.env_remove("LIBTORCH");
        }
        command
    }
}

fn is_same_folder(a: &Path, b: &Path) -> bool {
    match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace(libtorch: Option<&str>) -> Workspace {
        Workspace::new(PathBuf::from("/checkout"), PathBuf::from("cargo"), libtorch.map(PathBuf::from))
    }

    #[test]
    fn libtorch_of_the_checkout_is_not_the_users() {
        assert_eq!(workspace(Some("/checkout/.deps/python/torch")).libtorch_of_the_user(), None);
        assert_eq!(workspace(None).libtorch_of_the_user(), None);
        assert_eq!(workspace(Some("/opt/libtorch")).libtorch_of_the_user(), Some(Path::new("/opt/libtorch")));
    }

    #[test]
    fn child_cargo_sees_only_a_libtorch_that_the_user_chose() {
        let removed = |command: &Command| command.get_envs().any(|(key, value)| key == "LIBTORCH" && value.is_none());
        assert!(removed(&workspace(Some("/checkout/.deps/python/torch")).cargo(["build"])));
        assert!(!removed(&workspace(Some("/opt/libtorch")).cargo(["build"])));
    }
}
