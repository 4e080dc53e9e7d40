//! How a model is told from the others: colour, marker and dashes, so that no one of them is needed.

use crate::record::Run;

/// Colours in the style sheet: the palette of Okabe and Ito, which colour-blind readers can tell apart.
const COLOURS: usize = 7;

/// Outlines around (0, 0).
const MARKERS: [&str; 5] = [
    "M4.5 0A4.5 4.5 0 1 1-4.5 0A4.5 4.5 0 1 1 4.5 0Z",
    "M-4-4H4V4H-4Z",
    "M0-5.2L4.9 3.6H-4.9Z",
    "M0-5.6L5.6 0L0 5.6L-5.6 0Z",
    "M0 5.2L4.9-3.6H-4.9Z",
];

const DASHES: [&str; 5] = ["none", "7 3", "2 3", "9 3 2 3", "4 2"];

/// The look of one model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    /// Number of the colour in the style sheet.
    pub(crate) colour: usize,
    /// Outline of the marker.
    pub(crate) marker: &'static str,
    /// Whether the marker is an outline only.
    pub(crate) is_hollow: bool,
    /// Dashes of the line, as SVG wants them.
    pub(crate) dashes: &'static str,
}

impl Look {
    /// The look of number `index` of things of which none is a relative of another.
    pub(crate) fn numbered(index: usize) -> Self {
        Self {
            colour: index % COLOURS,
            marker: MARKERS[index % MARKERS.len()],
            is_hollow: false,
            dashes: DASHES[index % DASHES.len()],
        }
    }

    /// A relative of it: number `rank` of those that share its colour, of which it is the first.
    pub(crate) fn relative(self, rank: usize) -> Self {
        let own = DASHES.iter().position(|dashes| *dashes == self.dashes).unwrap_or(0);
        Self { is_hollow: self.is_hollow != (rank % 2 == 1), dashes: DASHES[(own + rank) % DASHES.len()], ..self }
    }

    /// Classes of the elements that show the model.
    pub(crate) fn class(&self) -> String {
        format!("c{}{}", self.colour, if self.is_hollow { " hollow" } else { "" })
    }
}

/// The looks of a run's models: a family has a colour and a marker, its models differ in dashes and in being filled.
pub(crate) struct Looks(Vec<(String, Look)>);

impl Looks {
    pub(crate) fn of(run: &Run) -> Self {
        let mut families: Vec<(&str, usize)> = Vec::new();
        let mut looks = Vec::new();
        for model in run.models() {
            let family = run.points.iter().find(|point| point.model == model).map_or("", |point| &point.family);
            let index = families.iter().position(|(known, _)| *known == family).unwrap_or_else(|| {
                families.push((family, 0));
                families.len() - 1
            });
            let rank = families[index].1;
            families[index].1 += 1;
            let look = Look::numbered(index).relative(rank);
            looks.push((model.to_owned(), look));
        }
        Self(looks)
    }

    /// A model's look and its number in the run; none for a model without a point.
    pub(crate) fn get(&self, model: &str) -> Option<(usize, Look)> {
        let number = self.0.iter().position(|(known, _)| known == model)?;
        Some((number, self.0[number].1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn no_two_models_look_alike_and_a_family_keeps_its_colour() {
        let names: Vec<String> = (0..20).map(|index| format!("{index}")).collect();
        let models: Vec<_> = names.iter().map(|name| (name.as_str(), 1.0, 1.0)).collect();
        let mut run = fixture::power_law(&models, &[256], 0.0);
        for (index, point) in run.points.iter_mut().enumerate() {
            point.family = format!("{}", index % 4);
        }
        let looks = Looks::of(&run);
        for (index, (_, look)) in looks.0.iter().enumerate() {
            assert!(looks.0[..index].iter().all(|(_, other)| other != look), "{index}: {look:?}");
            assert_eq!(look.colour, index % 4);
        }
    }
}
