//! The tables of a run.

use crate::{
    analysis::{FIT_PX, fit, overtakings, ratios},
    format::{self, NOTHING},
    record::{Group, Mode, Point, Role, Run},
    table::Table,
};

/// What is shown of every point: the title with its unit, the role, and the value.
type Quantity = (&'static str, Role, fn(&Point) -> Option<String>);

const QUANTITIES: [Quantity; 5] = [
    ("Images a second, largest sensible batch", Role::Throughput, |point| {
        Some(format::number(point.measurement()?.images_per_s))
    }),
    ("Latency of one image, ms", Role::Latency, |point| Some(format::number(point.measurement()?.median_ms))),
    ("Peak memory, GiB, largest sensible batch", Role::Throughput, |point| {
        Some(format::number(format::to_gib(point.measurement()?.peak_memory_bytes?)))
    }),
    ("Useful work, TFLOP/s, largest sensible batch", Role::Throughput, |point| {
        Some(format::number(point.teraflops()?))
    }),
    ("Share of the time that the hardware's limits explain", Role::Throughput, |point| {
        Some(format::percent(point.floor_share()?))
    }),
];

/// Every quantity of every model in a mode, by image size, and the exponents. What was measured nowhere has no table.
pub(crate) fn of_mode(run: &Run, mode: Mode) -> Vec<Table> {
    let tables = QUANTITIES.iter().filter_map(|quantity| by_size(run, mode, quantity));
    tables.chain(exponents(run, mode)).collect()
}

fn by_size(run: &Run, mode: Mode, (title, role, value): &Quantity) -> Option<Table> {
    let sizes = run.sizes(mode);
    let mut has_value = false;
    let mut rows = Vec::new();
    for model in run.models() {
        let series = run.series(model, mode, *role);
        if series.is_empty() {
            continue;
        }
        let cell = |px: &u32| match series.iter().find(|point| point.image_px == *px) {
            None => NOTHING.to_owned(),
            Some(point) if point.measurement().is_none() => point.outcome.name().to_owned(),
            Some(point) => value(point).inspect(|_| has_value = true).unwrap_or_else(|| NOTHING.to_owned()),
        };
        let cells: Vec<_> = sizes.iter().map(cell).collect();
        rows.push(std::iter::once(model.to_owned()).chain(cells).collect());
    }
    let sizes = sizes.iter().map(|size| format::px(f64::from(*size)));
    let header = std::iter::once("model".to_owned()).chain(sizes).collect();
    has_value.then(|| Table { title: (*title).to_owned(), header, rows })
}

fn exponents(run: &Run, mode: Mode) -> Option<Table> {
    let row = |model: &str| {
        let fit = fit(run, model, mode, FIT_PX)?;
        Some(vec![
            model.to_owned(),
            format!("{:.2} ± {:.2}", fit.exponent, fit.standard_error),
            format!("{} to {}", format::count(fit.from_px.into()), format::px(fit.to_px.into())),
            fit.points.to_string(),
        ])
    };
    let rows: Vec<_> = run.models().into_iter().filter_map(row).collect();
    let header = ["model", "exponent", "fitted", "points"].map(str::to_owned).to_vec();
    let title = "Exponent of time against tokens (1: linear, 2: quadratic)".to_owned();
    (!rows.is_empty()).then_some(Table { title, header, rows })
}

/// Who passes whom in a group, in every mode.
pub(crate) fn of_group(run: &Run, group: &Group) -> Option<Table> {
    let modes = run.modes();
    let mut rows: Vec<Vec<String>> = Vec::new();
    for (column, mode) in modes.iter().enumerate() {
        for found in overtakings(run, &group.models, *mode) {
            let name = format!("{} passes {}", found.behind, found.ahead);
            let place = rows.iter().position(|row| row[0] == name).unwrap_or_else(|| {
                let nothing = std::iter::repeat_n(NOTHING.to_owned(), modes.len());
                rows.push(std::iter::once(name).chain(nothing).collect());
                rows.len() - 1
            });
            rows[place][column + 1] = format::crossing(&found.crossing);
        }
    }
    let header = std::iter::once("images a second").chain(modes.iter().map(|mode| mode.name())).map(str::to_owned);
    let title = format!("Who passes whom: {}", group.name);
    (!rows.is_empty()).then(|| Table { title, header: header.collect(), rows })
}

/// How many times as fast the first model of a group is as each other.
pub(crate) fn ratios_of_first(run: &Run, group: &Group, mode: Mode) -> Option<Table> {
    let (first, others) = group.models.split_first()?;
    let sizes = run.sizes(mode);
    let row = |other: &String| {
        let ratios = ratios(run, first, other, mode);
        let cell = |px: &u32| match ratios.iter().find(|ratio| ratio.image_px == *px) {
            Some(ratio) => format::times(ratio.ratio.value),
            None => NOTHING.to_owned(),
        };
        let cells: Vec<_> = sizes.iter().map(cell).collect();
        (!ratios.is_empty()).then(|| std::iter::once(format!("as {other}")).chain(cells).collect())
    };
    let rows: Vec<_> = others.iter().filter_map(row).collect();
    let sizes = sizes.iter().map(|size| format::px(f64::from(*size)));
    let header = std::iter::once(format!("{first} is as fast")).chain(sizes).collect();
    let title = format!("Ratio of images a second, {}", mode.name());
    (!rows.is_empty()).then_some(Table { title, header, rows })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::fixture;

    #[test]
    fn tables_say_what_was_measured_and_why_not() {
        let run = fixture::run();
        let tables = of_mode(&run, Mode::TrainingStep);
        assert_eq!(tables.len(), 6);
        let memory = &tables[2];
        assert_eq!(memory.header, ["model", "256 px", "512 px", "1,024 px", "2,048 px", "4,096 px"]);
        assert_eq!(memory.rows[0][0], "DiM-H/2");
        assert!(memory.rows.iter().flatten().any(|cell| cell == "out of memory"), "{memory:?}");
    }

    #[test]
    fn what_was_never_measured_has_no_table() {
        let run = fixture::power_law(&[("a", 1.0, 1.0), ("b", 1.0, 2.0)], &[512, 1024], 0.0);
        let titles: Vec<_> = of_mode(&run, Mode::Forward).into_iter().map(|table| table.title).collect();
        assert_eq!(titles.len(), 2, "{titles:?}");
        assert!(of_mode(&run, Mode::TrainingStep).is_empty());
    }

    #[test]
    fn a_pair_has_one_row_over_all_modes_it_crosses_in_the_same_way() {
        let run = fixture::run();
        let table = of_group(&run, &run.groups()[1]).unwrap();
        assert_eq!(table.rows.len(), 1, "{table:?}");
        assert_eq!(table.rows[0].len(), 4);
        assert!(table.rows[0][1].starts_with("at "), "{table:?}");
    }
}
