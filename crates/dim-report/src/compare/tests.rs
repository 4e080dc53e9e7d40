#![allow(clippy::unwrap_used)]
use super::*;
use crate::{
    fixture::{at_price, power_law},
    record::Measurement,
};

/// One model at one size, whose spread is so many hundredths to either side.
fn run(median_ms: f64, spread: f64) -> Run {
    let mut run = power_law(&[("a", 1.0, 1.0)], &[512], 0.0);
    let samples = [1.0 - spread, 1.0, 1.0 + spread].map(|factor| median_ms * factor);
    let [p10_ms, median_ms, p90_ms] = samples;
    let measurement = Measurement::from_samples(samples.to_vec(), 1, None).unwrap();
    run.points[0].outcome = Outcome::Measured(Measurement { p10_ms, median_ms, p90_ms, ..measurement });
    run
}

#[test]
fn change_must_pass_margin_and_both_spreads() {
    for (old, new, spread, verdict) in [
        (100.0, 104.0, 0.001, Verdict::Same),
        (100.0, 106.0, 0.001, Verdict::Slower),
        (100.0, 106.0, 0.04, Verdict::Same),
        (106.0, 100.0, 0.001, Verdict::Faster),
        (106.0, 100.0, 0.04, Verdict::Same),
    ] {
        let comparison = compare(&run(old, spread), &run(new, spread), 0.05, false).unwrap();
        assert_eq!(comparison.rows[0].verdict, verdict, "{old} to {new} ± {spread}");
        assert_eq!(comparison.has_regressions(), verdict == Verdict::Slower);
    }
}

#[test]
fn batches_do_not_count_as_a_change() {
    let mut new = run(200.0, 0.01);
    new.points[0].batch = 2;
    let comparison = compare(&run(100.0, 0.01), &new, 0.05, false).unwrap();
    assert_eq!(comparison.rows[0].verdict, Verdict::Same);
}

#[test]
fn table_shows_every_change_and_what_is_missing() {
    let mut old = power_law(&[("a", 1.0, 0.0), ("b", 1.0, 0.0), ("gone", 1.0, 0.0)], &[512, 1024], 0.01);
    let mut new = power_law(&[("a", 1.0, 0.0), ("b", 1.0, 0.0), ("fresh", 1.0, 0.0)], &[512, 1024], 0.01);
    at_price(&mut new, "a", &[1.5, 0.5]);
    new.points[3].outcome = Outcome::OutOfMemory;
    old.points.truncate(5);
    new.points.truncate(5);
    let comparison = compare(&old, &new, 0.05, false).unwrap();
    assert!(comparison.has_regressions());
    let table = comparison.table();
    let lines: Vec<_> = table.lines().collect();
    let ends: Vec<_> = lines[2..6].iter().map(|line| line.split_once("throughput").unwrap().1).collect();
    assert_eq!(ends[0], "        1.000       1.500      1.500  SLOWER");
    assert_eq!(ends[1], "       1.000       0.500      0.500  faster");
    assert_eq!(ends[2], "        1.000       1.000      1.000");
    assert_eq!(ends[3], "       1.000           –          –  LOST");
    assert_eq!(lines[6], "measured only in the old run: gone, forward pass, 512 px, throughput");
    assert_eq!(lines[7], "measured only in the new run: fresh, forward pass, 512 px, throughput");
    assert!(lines[8].starts_with("4 compared: 1 slower, 1 faster, by more than 5 %"), "{}", lines[8]);
    assert!(lines[8].ends_with("; 1 lost"), "{}", lines[8]);
}

#[test]
fn other_devices_and_precisions_are_refused_unless_forced() {
    let old = run(1.0, 0.0);
    let changes: [fn(&mut Header); 2] =
        [|header| header.device = "NVIDIA H100".into(), |header| header.precision = "f32".into()];
    for change in changes {
        let mut new = old.clone();
        change(&mut new.header);
        let error = compare(&old, &new, 0.05, false).unwrap_err().to_string();
        assert!(error.starts_with("the old run is of NVIDIA H200 in bf16, the new one of NVIDIA H"), "{error}");
        assert!(compare(&old, &new, 0.05, true).is_ok());
    }
}

#[test]
fn runs_without_a_common_point_do_not_compare() {
    let other = power_law(&[("b", 1.0, 1.0)], &[512], 0.0);
    assert!(matches!(compare(&run(1.0, 0.0), &other, 0.05, false), Err(ReportError::NothingInCommon)));
}
