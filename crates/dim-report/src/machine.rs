//! On what, by what and when something was measured or trained.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

/// Version of the NVIDIA driver; `unknown` where there is none.
#[must_use]
pub fn driver_version() -> String {
    let module = fs::read_to_string("/sys/module/nvidia/version").ok();
    let asked = || {
        let output = Command::new("nvidia-smi").args(["--query-gpu=driver_version", "--format=csv,noheader"]).output();
        Some(String::from_utf8_lossy(&output.ok()?.stdout).lines().next()?.to_owned())
    };
    module.or_else(asked).map_or_else(|| "unknown".to_owned(), |version| version.trim().to_owned())
}

/// Name of the processor; `unknown` where the system does not say.
#[must_use]
pub fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    name.map_or_else(|| "unknown".to_owned(), |(_, name)| name.trim().to_owned())
}

/// Names of the NVIDIA cards that the system has, in its order; none where there is no driver.
#[must_use]
pub fn cards() -> Vec<String> {
    let mut folders: Vec<_> =
        fs::read_dir("/proc/driver/nvidia/gpus").into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    folders.sort();
    let name = |text: String| {
        let (_, name) = text.lines().find_map(|line| line.strip_prefix("Model")?.split_once(':'))?;
        Some(name.trim().to_owned())
    };
    folders.iter().filter_map(|folder| name(fs::read_to_string(folder.join("information")).ok()?)).collect()
}

/// The commit of a folder's checkout; `-dirty` if files of it were changed.
#[must_use]
pub fn commit_of(folder: &Path) -> Option<String> {
    let mut git = Command::new("git");
    let describe = ["describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"];
    let output = git.args(["--no-optional-locks", "-C"]).arg(folder).args(describe).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

/// The day of a time, in UTC. Source: H. Hinnant, "chrono-compatible low-level date algorithms", `civil_from_days`.
#[must_use]
pub fn date(time: SystemTime) -> String {
    let days = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / 86_400) + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = 400 * era + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// Day and minute of a time, in UTC.
#[must_use]
pub fn minute(time: SystemTime) -> String {
    let minutes = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / 60 % 1440);
    format!("{} {:02}:{:02}", date(time), minutes / 60, minutes % 60)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let day = |seconds| date(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(day(0), "1970-01-01");
        assert_eq!(day(951_782_399), "2000-02-28");
        assert_eq!(day(951_782_400), "2000-02-29");
        assert_eq!(day(1_795_651_199), "2026-11-25");
        assert_eq!(minute(UNIX_EPOCH + Duration::from_secs(951_782_399)), "2000-02-28 23:59");
    }
}
