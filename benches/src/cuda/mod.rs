//! What the benchmarks of CUDA kernels share: timing on the device, floors, results as lines of JSON, and their table.
//!
//! A bench makes cases ([`Case`]), each checked against the f64 reference first; [`Clock`] times a case; [`Record`] is what
//! is kept of it; [`table`] sets records beside what was published ([`published`]).

mod case;
mod clock;
mod floor;
mod numbers;
pub mod published;
mod record;
pub mod table;

pub use case::{Case, Check, Make, Run};
pub use clock::{Clock, Spread};
pub use floor::{Ceilings, Work};
pub use numbers::{assert_near, columns, device_tensor, patterned, values};
pub use record::{Machine, Record, read_records};
