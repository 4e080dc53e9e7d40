//! `train --trace` records the steps that were asked for and what lies between them.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::Place;

/// The names in the trace of steps `steps` of a run of 32 steps, and what the run printed.
fn trace(place: &Place, run: &str, steps: &str) -> (Option<Vec<String>>, String) {
    let file = format!("{run}.json");
    let printed = place.train(run, &["--trace", &file, "--trace-steps", steps]);
    let names = fs::read(place.path(&file)).ok().map(|bytes| {
        let trace: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let events = trace["traceEvents"].as_array().unwrap();
        events.iter().map(|event| event["name"].as_str().unwrap().to_owned()).collect()
    });
    (names, printed)
}

fn products(names: &[String]) -> usize {
    names.iter().filter(|name| *name == "aten::mm").count()
}

#[test]
fn traced_are_the_steps_asked_for() {
    let place = Place::new();
    let (one, printed) = trace(&place, "one", "3-3");
    assert!(printed.contains("step 3: 0.0 ms on the GPU"), "{printed}");
    let (three, printed) = trace(&place, "three", "3-5");
    assert!(printed.contains("steps 3 to 5, each: "), "{printed}");
    let (one, three) = (products(&one.unwrap()), products(&three.unwrap()));
    assert!(one > 0 && three == 3 * one, "{one} products in a step, {three} in three");
}

#[test]
fn run_that_ends_before_writes_what_there_is_or_says_that_there_is_nothing() {
    let place = Place::new();
    let (names, printed) = trace(&place, "begun", "31-99");
    assert!(printed.contains("steps 31 to 32, each: "), "{printed}");
    assert!(products(&names.unwrap()) > 0);
    let (names, printed) = trace(&place, "late", "40-41");
    assert!(
        printed.contains("no trace: the run ended after step 32 of this session, and step 40 was to be recorded"),
        "{printed}"
    );
    assert!(names.is_none());
}

#[test]
fn steps_that_are_none_are_refused() {
    let place = Place::new();
    let refused = ["train", "--config", "config.toml", "--run", "r", "--trace", "t.json", "--trace-steps", "5-2"];
    place.fails(&refused, 2, &["--trace-steps", "got `5-2`"]);
    place.fails(&["train", "--config", "config.toml", "--trace-steps", "1-2"], 2, &["--trace <FILE>"]);
}
