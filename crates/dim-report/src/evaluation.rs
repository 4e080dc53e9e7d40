//! The page of an evaluation: what networks draw at several weights of guidance, and the numbers of it. One HTML file that needs nothing else.

use maud::{Markup, html};

use crate::{
    format,
    page::{
        chart::{Chart, Series},
        legend::{Entry, legend},
        look::Look,
        picture,
        shell::{caveat, facts, shell},
        table,
    },
    table::Table,
};

/// All that the page shows.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// Names and values that hold for all numbers: the features, the reference.
    pub facts: Vec<(String, String)>,
    /// In the order of the table.
    pub judged: Vec<Judged>,
}

/// The samples of one network at one weight of guidance.
#[derive(Clone, Debug)]
pub struct Judged {
    /// Which network.
    pub network: String,
    /// Weight of guidance.
    pub cfg_scale: f64,
    /// Whether there was guidance at all.
    pub guided: bool,
    /// Number of samples.
    pub samples: u64,
    /// Names and values of the metrics.
    pub scores: Vec<(String, f64)>,
    /// What makes the numbers worth less.
    pub notes: Vec<String>,
    /// The first samples, a PNG.
    pub picture: Vec<u8>,
}

/// The page.
#[must_use]
pub fn page(evaluation: &Evaluation) -> String {
    let names = names(evaluation);
    let networks = networks(evaluation);
    let notes: Vec<&String> = {
        let mut notes: Vec<&String> = Vec::new();
        for note in evaluation.judged.iter().flat_map(|judged| &judged.notes) {
            if !notes.contains(&note) {
                notes.push(note);
            }
        }
        notes
    };
    let header = html! {
        (facts(evaluation.facts.iter().map(|(name, value)| (name.as_str(), value.as_str()))))
        @for note in notes { (caveat(note)) }
    };
    let has_curves = networks.iter().any(|network| {
        let mut scales =
            evaluation.judged.iter().filter(|judged| judged.network == *network).map(|judged| judged.cfg_scale);
        scales.next().is_some_and(|first| scales.any(|other| other != first))
    });
    let entry = |(number, name)| Entry { number, look: Look::numbered(number), name, detail: None };
    let entries: Vec<Entry<'_>> = networks.iter().copied().enumerate().map(entry).collect();
    let main = html! {
        (table::of_numbers(&scores(evaluation, &names)))
        @if has_curves {
            section #curves {
                h2 { "Against guidance" }
                @if networks.len() > 1 { (legend(&entries, "networks")) }
                div.figures { @for (index, name) in names.iter().enumerate() { (curve(evaluation, &networks, name, index)) } }
            }
        }
        section #samples {
            h2 { "Samples" }
            div.gallery {
                @for judged in &evaluation.judged {
                    figure {
                        (picture::png(&judged.picture, &format!("samples of {}", judged.network)))
                        figcaption { (judged.network) ", " (format::guidance(judged.guided.then_some(judged.cfg_scale))) }
                    }
                }
            }
        }
    };
    shell("Evaluation", header, main)
}

fn guidance(judged: &Judged) -> String {
    if judged.guided { judged.cfg_scale.to_string() } else { "none".to_owned() }
}

fn score(judged: &Judged, name: &str) -> Option<f64> {
    judged.scores.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
}

/// Names of all metrics, in their order.
fn names(evaluation: &Evaluation) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (name, _) in evaluation.judged.iter().flat_map(|judged| &judged.scores) {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

/// The networks, in their order.
fn networks(evaluation: &Evaluation) -> Vec<&str> {
    let mut networks: Vec<&str> = Vec::new();
    for judged in &evaluation.judged {
        if !networks.contains(&judged.network.as_str()) {
            networks.push(&judged.network);
        }
    }
    networks
}

/// Every number.
fn scores(evaluation: &Evaluation, names: &[String]) -> Table {
    let row = |judged: &Judged| {
        let mut row = vec![judged.network.clone(), guidance(judged), format::count(judged.samples)];
        row.extend(names.iter().map(|name| score(judged, name).map_or(String::new(), |value| format!("{value:.4}"))));
        row
    };
    let mut header: Vec<String> = ["network", "guidance", "samples"].map(str::to_owned).to_vec();
    header.extend(names.iter().cloned());
    Table { title: "All numbers".to_owned(), header, rows: evaluation.judged.iter().map(row).collect() }
}

/// A metric against the weight of guidance, network by network.
fn curve(evaluation: &Evaluation, networks: &[&str], name: &str, index: usize) -> Markup {
    let series = |(number, network): (usize, &&str)| {
        let of = evaluation.judged.iter().filter(|judged| judged.network == *network);
        let mut points: Vec<[f64; 2]> =
            of.filter_map(|judged| Some([judged.cfg_scale, score(judged, name)?])).collect();
        points.sort_by(|a, b| a[0].total_cmp(&b[0]));
        Series { number, look: Look::numbered(number), name: (*network).to_owned(), points }
    };
    let chart = Chart {
        id: format!("curve-{index}"),
        title: name,
        x_name: "weight of guidance",
        y_name: name,
        may_be_logarithmic: false,
        series: networks.iter().enumerate().map(series).collect(),
        events: Vec::new(),
    };
    chart.figure()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(network: &str, cfg_scale: f64, fid: f64) -> Judged {
        Judged {
            network: network.to_owned(),
            cfg_scale,
            guided: cfg_scale != 1.0,
            samples: 100,
            scores: vec![("FID".to_owned(), fid)],
            notes: vec!["few <images>".to_owned()],
            picture: b"\x89PNG".to_vec(),
        }
    }

    #[test]
    fn page_has_every_number_a_curve_and_needs_nothing_else() {
        let evaluation = Evaluation {
            facts: vec![("features".to_owned(), "inception".to_owned())],
            judged: vec![judged("a", 1.0, 12.5), judged("a", 3.0, 7.25), judged("<b>", 1.0, 9.125)],
        };
        let page = page(&evaluation);
        for needle in [
            "12.5000",
            "7.2500",
            "9.1250",
            "none",
            "few &lt;images&gt;",
            "&lt;b&gt;",
            "a: FID 12.5; weight of guidance 1",
            "a: FID 7.25; weight of guidance 3",
            "data:image/png;base64,iVBORw==",
        ] {
            assert!(page.contains(needle), "{needle}: {page}");
        }
        assert_eq!(page.matches("few &lt;images&gt;").count(), 1);
        assert!(!page.contains("http") && !page.contains("<b>:"));
    }

    #[test]
    fn one_weight_of_guidance_has_no_curve() {
        let evaluation = Evaluation { facts: Vec::new(), judged: vec![judged("a", 1.0, 1.0)] };
        assert!(!page(&evaluation).contains("<svg") && page(&evaluation).contains("1.0000"));
    }
}
