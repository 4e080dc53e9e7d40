//! Runs an installer quietly: its words go to a log, the user sees what is being installed, how far, how long.

use std::{
    fs::{self, File},
    io::{self, IsTerminal, Write},
    path::Path,
    process::{Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::process::Interrupt;

use super::{component::Component, error::bytes};

const LOOK_EVERY: Duration = Duration::from_millis(50);
const SHOW_EVERY: Duration = Duration::from_millis(500);

/// Runs the command, its output appended to `log`, while showing how `work` grows. `None`: Ctrl-C came.
pub(crate) fn watch(
    command: &mut Command,
    component: &Component,
    work: &Path,
    log: &Path,
    interrupt: &Interrupt,
) -> io::Result<Option<ExitStatus>> {
    let output = File::options().create(true).append(true).open(log)?;
    let errors = output.try_clone()?;
    let mut child = command.stdin(Stdio::null()).stdout(output).stderr(errors).spawn()?;
    let start = Instant::now();
    let mut shown = start;
    let mut line = LiveLine::new();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(if interrupt.came() { None } else { Some(status) });
        }
        if interrupt.came() {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        if shown.elapsed() >= SHOW_EVERY {
            shown = Instant::now();
            line.show(&described(component, size(work), start.elapsed()));
        }
        thread::sleep(LOOK_EVERY);
    }
}

fn described(component: &Component, so_far: u64, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    if so_far < component.download_bytes {
        let (so_far, total) = (so_far / 1_000_000, bytes(component.download_bytes));
        format!("  {}: fetched {so_far} of {total}, {seconds} s", component.title)
    } else {
        format!("  {}: unpacking, {seconds} s", component.title)
    }
}

/// Bytes of all files under a folder that is being written to; what vanishes meanwhile counts nothing.
fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

/// A line that is written over on a terminal, and not written at all elsewhere.
struct LiveLine {
    on_terminal: bool,
    written: bool,
}

impl LiveLine {
    fn new() -> Self {
        Self { on_terminal: io::stdout().is_terminal(), written: false }
    }

    fn show(&mut self, text: &str) {
        if self.on_terminal {
            self.written = true;
            print!("\r\x1b[K{text}");
            let _ = io::stdout().flush();
        }
    }
}

impl Drop for LiveLine {
    fn drop(&mut self) {
        if self.written {
            print!("\r\x1b[K");
            let _ = io::stdout().flush();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{super::component::OPENMOJI, *};

    #[test]
    fn growth_is_fetching_up_to_the_download_and_unpacking_after() {
        let fetching = described(&OPENMOJI, 12_000_000, Duration::from_secs(3));
        assert_eq!(fetching, "  OpenMoji 17.0.0: fetched 12 of 31 MB, 3 s");
        let unpacking = described(&OPENMOJI, 40_000_000, Duration::from_secs(4));
        assert_eq!(unpacking, "  OpenMoji 17.0.0: unpacking, 4 s");
    }

    #[test]
    fn output_goes_to_the_log_and_the_status_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo err >&2; exit 3"]);
        let status = watch(&mut command, &OPENMOJI, folder.path(), &log, &Interrupt::default()).unwrap().unwrap();
        assert_eq!(status.code(), Some(3));
        assert_eq!(fs::read_to_string(log).unwrap(), "out\nerr\n");
    }

    #[test]
    fn size_counts_files_in_folders() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("a")).unwrap();
        fs::write(folder.path().join("a/b"), [0; 7]).unwrap();
        fs::write(folder.path().join("c"), [0; 5]).unwrap();
        assert_eq!(size(folder.path()), 12);
        assert_eq!(size(&folder.path().join("nowhere")), 0);
    }
}
