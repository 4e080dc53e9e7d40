//! The page of runs.

use maud::{Markup, html};

use super::{TrainingRun, curves, parts};
use crate::format;
use crate::page::{
    chart::{PLACES, SHADE},
    legend::{Entry, legend, swatch},
    picture,
    shell::{caveat, facts, sections, shell},
    table,
};

/// The page of one run, or of several whose curves lie over each other. The runs must have names of their own.
#[must_use]
pub fn page(runs: &[TrainingRun]) -> String {
    let names: Vec<&str> = runs.iter().map(|run| run.name.as_str()).collect();
    let title = format!("Training: {}", names.join(", "));
    let metrics = parts::metrics(runs);
    let has_pictures = runs.iter().any(|run| !run.pictures.is_empty());
    let places = [
        ("state", "state", true),
        ("curves", "curves", true),
        ("samples", "samples", has_pictures),
        ("evaluation", "evaluation", !metrics.is_empty()),
        ("configuration", "configuration", true),
        ("environment", "environment", true),
        ("files", "files", true),
    ];
    let places: Vec<(String, String)> =
        places.iter().filter(|place| place.2).map(|(place, name, _)| ((*place).into(), (*name).into())).collect();
    let header = html! {
        @for run in runs {
            p.lead { @if runs.len() > 1 { strong { (run.name) } ": " } (run.subject) "; " (parts::progress(run)) "." }
            @for note in &run.notes { (caveat(&of(runs, run, note))) }
            @if runs.len() == 1 { (facts(run.facts.iter().map(|(name, value)| (name.as_str(), value.as_str())))) }
        }
        (sections(&places))
    };
    let main = html! {
        (state(runs))
        section #curves {
            h2 { "Curves" }
            (switches(runs))
            @if runs.iter().any(|run| run.log.len() > PLACES) { p { (SHADE) } }
            (curves::of_logs(runs))
        }
        @if has_pictures { (samples(runs)) }
        @if !metrics.is_empty() { (evaluation(runs, &metrics)) }
        (configuration(runs))
        section #environment {
            h2 { "Environment" }
            @for run in runs {
                (heading(runs, run))
                @if run.sessions.is_empty() { p { "Not recorded: the run is of an older version of the program." } }
                @else {
                    @let (common, table) = parts::sessions(run);
                    (facts(common))
                    (table::of_words(&table))
                }
            }
        }
        section #files {
            h2 { "Files" }
            @for run in runs {
                (heading(runs, run))
                @if run.files.is_empty() { p { "None yet." } } @else { (table::of_numbers(&parts::files(run))) }
            }
        }
    };
    shell(&title, header, main)
}

/// How far the runs are; of one as names and values, for a line of a table would be long.
fn state(runs: &[TrainingRun]) -> Markup {
    let table = parts::states(runs);
    let pairs = table.rows.iter().filter_map(|row| Some((row.first()?.as_str(), row.get(1)?.as_str())));
    html! {
        section #state {
            h2 { "State" }
            @if runs.len() == 1 { (facts(pairs)) } @else { (table::of_numbers(&table)) }
        }
    }
}

/// A sentence about one of several runs.
fn of(runs: &[TrainingRun], run: &TrainingRun, text: &str) -> String {
    if runs.len() > 1 { format!("{}: {text}", run.name) } else { text.to_owned() }
}

/// The name of a run above what is its own.
fn heading(runs: &[TrainingRun], run: &TrainingRun) -> Markup {
    html! { @if runs.len() > 1 { h3.name { (table::unbroken(&run.name)) } } }
}

/// The legend of several runs; one needs none.
fn switches(runs: &[TrainingRun]) -> Markup {
    let numbered = runs.iter().enumerate();
    let entries: Vec<Entry<'_>> = numbered
        .map(|(number, run)| Entry {
            number,
            look: curves::look(number),
            name: &run.name,
            detail: run.log.last().map(|line| format!("{} images", format::count(line.images_seen))),
        })
        .collect();
    html! { @if runs.len() > 1 { (legend(&entries, "runs")) } }
}

fn samples(runs: &[TrainingRun]) -> Markup {
    html! {
        section #samples {
            h2 { "Samples" }
            @for run in runs {
                @if !run.pictures.is_empty() {
                    (heading(runs, run))
                    @if run.pictures.len() < run.pictures_in_all {
                        p { (run.pictures.len()) " of " (run.pictures_in_all) " pictures, evenly chosen, the newest last." }
                    }
                    div.gallery {
                        @for picture in &run.pictures {
                            @let what = format!("after {} images", format::count(picture.images_seen));
                            figure { (picture::png(&picture.png, &format!("{} {what}", run.name))) figcaption { (what) } }
                        }
                    }
                }
            }
        }
    }
}

fn evaluation(runs: &[TrainingRun], metrics: &[String]) -> Markup {
    let lines = runs.iter().enumerate().flat_map(|(number, run)| {
        let guidances = curves::guidances(run).into_iter().enumerate();
        guidances.map(move |(rank, guided_by)| {
            let name = of(runs, run, &format::guidance(guided_by));
            (curves::look(number).relative(rank), name)
        })
    });
    let lines: Vec<_> = lines.collect();
    html! {
        section #evaluation {
            h2 { "Evaluation" }
            @if lines.len() > 1 { ul.lines { @for (look, name) in &lines { li { (swatch(look)) " " (name) } } } }
            div.figures { @for (index, name) in metrics.iter().enumerate() { (curves::of_metric(runs, name, index)) } }
            (table::of_numbers(&parts::evaluations(runs, metrics)))
        }
    }
}

fn configuration(runs: &[TrainingRun]) -> Markup {
    html! {
        section #configuration {
            h2 { "Configuration" }
            @if let Some(differences) = parts::differences(runs) {
                @if differences.rows.is_empty() { p { "The runs have the same configuration." } }
                @else { (table::of_words(&differences)) }
            }
            @for run in runs {
                (heading(runs, run))
                @if let Some(preset) = &run.preset {
                    @match parts::of_preset(run) {
                        Some(table) => (table::of_words(&table)),
                        None => p { "The network is the preset " code { (preset.name) } "." },
                    }
                }
                details.config {
                    summary { "All of it" }
                    pre tabindex="0" { code { (run.config) } }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{LogLine, Picture, Session};
    use super::*;

    #[test]
    fn no_text_breaks_out_of_its_place_and_nothing_is_loaded() {
        let evil = "<b>\"'&</script></svg>".to_owned();
        let pair = || vec![(evil.clone(), evil.clone())];
        let run = TrainingRun {
            name: evil.clone(),
            subject: evil.clone(),
            facts: pair(),
            images: 5,
            notes: vec![evil.clone()],
            log: vec![LogLine { images_seen: 4, loss: 1.0, elapsed_s: 1.0, ..LogLine::default() }],
            evaluations: vec![super::super::Evaluated {
                images_seen: 4,
                guided_by: None,
                samples: 1,
                scores: vec![(evil.clone(), 1.0)],
            }],
            pictures: vec![Picture { images_seen: 4, png: b"\x89PNG".to_vec() }],
            sessions: vec![Session { started: evil.clone(), images_seen: 0, facts: pair() }],
            settings: pair(),
            config: evil.clone(),
            ..TrainingRun::default()
        };
        let page = page(&[run.clone(), TrainingRun { name: "b".to_owned(), ..run }]);
        assert!(!page.contains("<b>") && !page.contains("&</") && page.matches("</script>").count() == 1);
        for loader in ["@import", "url(", "http:", "https:"] {
            assert!(!page.contains(loader), "{loader}");
        }
        let sources: Vec<_> = page.split(" src=\"").skip(1).collect();
        assert!(
            sources.len() == 2 && sources.iter().all(|source| source.starts_with("data:image/png;base64,iVBORw=="))
        );
    }
}
