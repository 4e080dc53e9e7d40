//! How two configurations differ, and what that means for a run that goes on from a checkpoint.

use toml::{Table, Value};

use super::RunConfig;
use crate::error::TrainerError;

/// A key whose value differs.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// The full key, such as `train.lr`.
    pub key: String,
    /// Its value in the first configuration; `None` if it is absent.
    pub before: Option<Value>,
    /// Its value in the second.
    pub after: Option<Value>,
    /// What the change does to a resumed run.
    effect: Effect,
}

/// What another value of a key does to a run that is resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// The weights come out the same, bit for bit.
    None,
    /// The weights come out the same to rounding.
    Rounding,
    /// The run becomes another one.
    Trajectory,
    /// The checkpoint does not fit at all.
    Shapes,
}

impl Difference {
    /// What the change means for a resumed run.
    pub fn effect(&self) -> Effect {
        self.effect
    }
}

impl Effect {
    /// Of another value of `key`, where keys that begin as `shapes` say decide about shapes.
    fn of(key: &str, shapes: &[&str]) -> Self {
        match key {
            "train.images"
            | "train.log_every_steps"
            | "train.checkpoint_every_images"
            | "train.keep_checkpoints"
            | "train.snapshot_every_images"
            | "train.max_broken_files"
            | "train.recompute_blocks"
            | "train.recompute_scan"
            | "train.distributed.start_timeout_s"
            | "train.distributed.timeout_s"
            | "ema.snapshot_every_images" => Self::None,
            "train.micro_batch_size" | "train.precision" | "train.threads" => Self::Rounding,
            key if key.starts_with("train.distributed") => Self::Rounding,
            key if ["sample.", "evaluation.", "pictures."].iter().any(|section| key.starts_with(section)) => Self::None,
            key if shapes.iter().any(|section| key.starts_with(section)) => Self::Shapes,
            _ => Self::Trajectory,
        }
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let show = |value: &Option<Value>| value.as_ref().map_or_else(|| "absent".to_owned(), ToString::to_string);
        write!(formatter, "{}: there {}, here {}", self.key, show(&self.before), show(&self.after))
    }
}

/// Every key whose value differs, sorted.
///
/// # Errors
/// [`TrainerError::Usage`] if a path in them is not UTF-8.
pub fn differences<C: RunConfig>(before: &C, after: &C) -> Result<Vec<Difference>, TrainerError> {
    let mut found = Vec::new();
    compare("", &as_table(before)?, &as_table(after)?, C::SHAPES, &mut found);
    Ok(found)
}

fn as_table(config: &impl RunConfig) -> Result<Table, TrainerError> {
    Table::try_from(config)
        .map_err(|error| TrainerError::Usage(format!("the configuration cannot be written as TOML: {error}")))
}

fn compare(section: &str, before: &Table, after: &Table, shapes: &[&str], found: &mut Vec<Difference>) {
    let keys: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for key in keys {
        let full = if section.is_empty() { key.clone() } else { format!("{section}.{key}") };
        let empty = Table::new();
        match (before.get(key), after.get(key)) {
            (one, other) if one == other => {}
            (Some(Value::Table(one)), Some(Value::Table(other))) => compare(&full, one, other, shapes, found),
            (Some(Value::Table(one)), None) => compare(&full, one, &empty, shapes, found),
            (None, Some(Value::Table(other))) => compare(&full, &empty, other, shapes, found),
            (one, other) => {
                let effect = Effect::of(&full, shapes);
                found.push(Difference { key: full, before: one.cloned(), after: other.cloned(), effect });
            }
        }
    }
}
