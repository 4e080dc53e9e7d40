//! Collecting every problem of a configuration before any is reported.

use crate::ConfigError;

/// The problems found so far.
#[derive(Default)]
pub(crate) struct Checks {
    problems: Vec<String>,
}

impl Checks {
    /// Fields that must be at least 1.
    pub(crate) fn positive(fields: &[(&str, usize)]) -> Self {
        let zero = fields.iter().filter(|(_, value)| *value == 0);
        Self { problems: zero.map(|(name, _)| format!("`{name}` must be at least 1, got 0")).collect() }
    }

    /// A problem unless `holds`.
    pub(crate) fn require(&mut self, holds: bool, problem: impl FnOnce() -> String) {
        if !holds {
            self.problems.push(problem());
        }
    }

    /// A problem unless `value` is a multiple of `divisor`, or the divisor is 0, which is a problem by itself.
    pub(crate) fn multiple(&mut self, name: &str, value: usize, divisor_name: &str, divisor: usize) {
        self.require(divisor == 0 || value.is_multiple_of(divisor), || {
            format!("`{name}` must be a multiple of `{divisor_name}` = {divisor}, got {value}")
        });
    }

    /// `Ok` if there are none.
    pub(crate) fn into_result(self) -> Result<(), ConfigError> {
        if self.problems.is_empty() { Ok(()) } else { Err(ConfigError { problems: self.problems }) }
    }
}
