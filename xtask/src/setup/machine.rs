//! What this machine is: its platform, its GPU, its C++ compiler.

use std::{
    env, fs, io,
    path::Path,
    process::{Command, Stdio},
};

use super::error::SetupError;

/// The wheels are built for one platform.
pub(crate) fn check_platform(os: &'static str, arch: &'static str) -> Result<(), SetupError> {
    if (os, arch) == ("linux", "x86_64") { Ok(()) } else { Err(SetupError::Platform { os, arch }) }
}

/// An NVIDIA driver is loaded and has a device: its control file exists, or `nvidia-smi` answers.
pub(crate) fn has_gpu() -> bool {
    Path::new("/dev/nvidiactl").exists()
        || Command::new("nvidia-smi")
            .arg("-L")
            .stdin(Stdio::null())
            .output()
            .is_ok_and(|output| output.status.success() && !output.stdout.is_empty())
}

/// The C++ parts of torch-sys and dim-torch need a compiler; the `cc` crate takes CXX or else `c++`.
pub(crate) fn check_compiler() -> Result<(), SetupError> {
    let compiler = env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
    // CXX may hold options or a launcher such as ccache; the program is its first word.
    let program = compiler.split_whitespace().next().unwrap_or("c++").to_owned();
    if is_program(&program) { Ok(()) } else { Err(SetupError::NoCompiler(program)) }
}

/// Looks a program up as a shell would, without starting it.
pub(crate) fn is_program(program: &str) -> bool {
    if program.contains('/') {
        return is_executable(Path::new(program)).unwrap_or(false);
    }
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| is_executable(&folder.join(program)).unwrap_or(false))
}

fn is_executable(path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::PermissionsExt;
    let metadata = fs::metadata(path)?;
    Ok(metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_platform_of_the_wheels_is_accepted() {
        assert!(check_platform("linux", "x86_64").is_ok());
        assert!(matches!(check_platform("macos", "aarch64"), Err(SetupError::Platform { os: "macos", .. })));
        assert!(check_platform("linux", "aarch64").is_err());
    }

    #[test]
    fn programs_are_found_on_path_and_by_path() {
        assert!(is_program("sh"));
        assert!(is_program("/bin/sh"));
        assert!(!is_program("/etc/passwd"));
        assert!(!is_program("no-such-program-anywhere"));
    }
}
