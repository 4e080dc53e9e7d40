//! What a run is: one line that describes it, then a line for each point that was measured or could not be.
//!
//! A file is lines of JSON, so that a run that was killed keeps all it had, and one that goes on just appends.

mod header;
mod point;
mod read;
mod run;
mod write;

pub use header::{DeviceKind, Group, Header, VERSION};
pub use point::{Measurement, Mode, Outcome, Point, Role};
pub use run::Run;
pub use write::RunWriter;

use serde::{Deserialize, Serialize};

/// One line of a file.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Record {
    Run(Header),
    Point(Point),
}

/// [`Record`] for writing, which needs to own nothing.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum RecordRef<'a> {
    Run(&'a Header),
    Point(&'a Point),
}

impl RecordRef<'_> {
    /// The line, with its end.
    fn line(&self) -> String {
        format!("{}\n", serde_json::json!(self))
    }
}
