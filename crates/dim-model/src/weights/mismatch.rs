//! All that stands between a set of tensors and the network that should take them, in one error.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use dim_torch::ParameterSpec;
use tch::Kind;

/// How many entries of a list an error shows before it only counts.
const SHOWN: usize = 10;

/// A key whose tensor came, but not as the network needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// The key.
    pub name: String,
    /// The shape or element type needed.
    pub expected: String,
    /// The shape or element type that came.
    pub got: String,
}

/// Every key at which weights and network differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mismatch {
    /// Keys of the network that did not come, with their shapes.
    pub missing: Vec<String>,
    /// Keys that the network does not have, or that came twice, with their shapes.
    pub unexpected: Vec<String>,
    /// Keys whose shapes differ.
    pub wrong_shape: Vec<Misfit>,
    /// Keys whose elements are not floating-point numbers.
    pub wrong_type: Vec<Misfit>,
}

/// A tensor that came.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) name: String,
    /// The shape, or why the tensor cannot have one in our layout.
    pub(super) shape: Result<Vec<i64>, Misfit>,
    pub(super) kind: Kind,
}

impl Mismatch {
    /// Compares what a network needs with what came; an empty result means that all fits.
    pub(super) fn between(needed: &[ParameterSpec], came: impl IntoIterator<Item = Candidate>) -> Self {
        let by_name: BTreeMap<&str, &ParameterSpec> = needed.iter().map(|spec| (spec.name.as_str(), spec)).collect();
        let mut seen = BTreeSet::new();
        let mut mismatch = Self::default();
        for Candidate { name, shape, kind } in came {
            let Some(spec) = by_name.get(name.as_str()).filter(|spec| seen.insert(spec.name.as_str())) else {
                let shape = shape.map_or_else(|misfit| misfit.got, |shape| format!("{shape:?}"));
                mismatch.unexpected.push(format!("{name} {shape}"));
                continue;
            };
            match shape {
                Ok(shape) if shape == spec.shape => {}
                Ok(shape) => mismatch.wrong_shape.push(Misfit {
                    name: name.clone(),
                    expected: format!("{:?}", spec.shape),
                    got: format!("{shape:?}"),
                }),
                Err(misfit) => mismatch.wrong_shape.push(misfit),
            }
            if !matches!(kind, Kind::Float | Kind::Half | Kind::BFloat16 | Kind::Double) {
                mismatch.wrong_type.push(Misfit {
                    name,
                    expected: "floating point".to_owned(),
                    got: format!("{kind:?}"),
                });
            }
        }
        for spec in needed.iter().filter(|spec| !seen.contains(spec.name.as_str())) {
            mismatch.missing.push(format!("{} {:?}", spec.name, spec.shape));
        }
        mismatch
    }

    /// Whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty()
            && self.unexpected.is_empty()
            && self.wrong_shape.is_empty()
            && self.wrong_type.is_empty()
    }

    /// `Ok` if nothing differs.
    pub(super) fn into_result(self) -> Result<(), Self> {
        if self.is_empty() { Ok(()) } else { Err(self) }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let misfits = |misfits: &[Misfit]| -> Vec<String> {
            misfits.iter().map(|m| format!("{} expected {} got {}", m.name, m.expected, m.got)).collect()
        };
        write!(formatter, "the weights do not fit the network")?;
        for (what, entries) in [
            ("missing", self.missing.clone()),
            ("unexpected", self.unexpected.clone()),
            ("of the wrong shape", misfits(&self.wrong_shape)),
            ("of the wrong type", misfits(&self.wrong_type)),
        ] {
            if !entries.is_empty() {
                write!(formatter, "\n  {} {what}: {}", entries.len(), list(&entries))?;
            }
        }
        Ok(())
    }
}

/// The entries with commas between them, a long list cut with a count of the rest.
pub(super) fn list(entries: &[String]) -> String {
    let shown = entries.len().min(SHOWN);
    let rest = match entries.len() - shown {
        0 => String::new(),
        rest => format!(", … and {rest} more"),
    };
    entries[..shown].join(", ") + &rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_difference_is_listed_at_once() {
        let needed = [
            ParameterSpec::new("a", &[2, 3]),
            ParameterSpec::new("b", &[4]),
            ParameterSpec::new("c", &[]),
            ParameterSpec::new("d", &[1]),
        ];
        let came = [
            ("d", vec![1], Kind::Int64),
            ("b", vec![5], Kind::Half),
            ("c", vec![], Kind::Float),
            ("e", vec![7], Kind::Float),
            ("c", vec![], Kind::Float),
        ]
        .map(|(name, shape, kind)| Candidate { name: name.to_owned(), shape: Ok(shape), kind });
        let mismatch = Mismatch::between(&needed, came);
        assert_eq!(
            mismatch.to_string(),
            "the weights do not fit the network\
             \n  1 missing: a [2, 3]\
             \n  2 unexpected: e [7], c []\
             \n  1 of the wrong shape: b expected [4] got [5]\
             \n  1 of the wrong type: d expected floating point got Int64"
        );
    }

    #[test]
    fn a_long_list_is_cut_with_a_count() {
        let names: Vec<String> = (0..13).map(|i| i.to_string()).collect();
        assert_eq!(list(&names), "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, … and 3 more");
        assert_eq!(list(&names[..10]), "0, 1, 2, 3, 4, 5, 6, 7, 8, 9");
    }
}
