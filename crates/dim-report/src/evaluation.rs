//! The page of an evaluation: what networks draw at several weights of guidance, and the numbers of it. One HTML file that needs nothing else.

use data_encoding::BASE64;
use maud::{DOCTYPE, Markup, PreEscaped, html};

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

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}\
table{border-collapse:collapse}th,td{padding:.3rem .8rem;border-bottom:1px solid #ddd;text-align:right}\
th:first-child,td:first-child{text-align:left}img{max-width:100%;image-rendering:pixelated}svg{max-width:26rem;margin-right:1rem}\
.note{border-left:3px solid #c80;padding-left:.6rem}svg text{font-size:11px;fill:#222}";

/// Colours of the networks' lines, which differ in their dashes, too.
const COLOURS: [&str; 5] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#555555"];
const DASHES: [&str; 5] = ["none", "6 3", "2 3", "8 3 2 3", "1 2"];

/// The plot's own units.
const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 346.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = 182.0;

/// The page.
#[must_use]
pub fn page(evaluation: &Evaluation) -> String {
    let names = names(evaluation);
    let notes: Vec<&String> = {
        let mut notes: Vec<&String> = Vec::new();
        for note in evaluation.judged.iter().flat_map(|judged| &judged.notes) {
            if !notes.contains(&note) {
                notes.push(note);
            }
        }
        notes
    };
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head { meta charset="utf-8"; meta name="viewport" content="width=device-width"; title { "Evaluation" } style { (PreEscaped(STYLE)) } }
            body {
                h1 { "Evaluation" }
                p { @for (index, (name, value)) in evaluation.facts.iter().enumerate() { @if index > 0 { ", " } (name) " " b { (value) } } }
                @for note in notes { p.note { (note) } }
                table {
                    thead { tr { th { "network" } th { "guidance" } th { "samples" } @for name in &names { th { (name) } } } }
                    tbody { @for judged in &evaluation.judged { tr {
                        td { (judged.network) } td { (guidance(judged)) } td { (judged.samples) }
                        @for name in &names { td { @if let Some(value) = score(judged, name) { (format!("{value:.4}")) } } }
                    } } }
                }
                @for name in &names { (curve(evaluation, name)) }
                @for judged in &evaluation.judged {
                    h2 { (judged.network) ", " (guidance(judged)) }
                    img alt=(format!("samples of {}", judged.network)) src=(format!("data:image/png;base64,{}", BASE64.encode(&judged.picture)));
                }
            }
        }
    };
    page.into_string()
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

/// A metric against the weight of guidance, network by network; nothing where there is but one weight.
fn curve(evaluation: &Evaluation, name: &str) -> Markup {
    let mut networks: Vec<(&str, Vec<[f64; 2]>)> = Vec::new();
    for judged in &evaluation.judged {
        let Some(value) = score(judged, name).filter(|value| value.is_finite()) else { continue };
        let point = [judged.cfg_scale, value];
        match networks.iter_mut().find(|(network, _)| *network == judged.network) {
            Some((_, points)) => points.push(point),
            None => networks.push((&judged.network, vec![point])),
        }
    }
    networks.iter_mut().for_each(|(_, points)| points.sort_by(|a, b| a[0].total_cmp(&b[0])));
    let range = |axis: usize| {
        let values = networks.iter().flat_map(|(_, points)| points.iter().map(move |point| point[axis]));
        values.fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], value| [low.min(value), high.max(value)])
    };
    let (x, y) = (range(0), range(1));
    if x[0] >= x[1] {
        return html! {};
    }
    let y = if y[0] < y[1] { y } else { [y[0] - 1.0, y[1] + 1.0] };
    let at_x = |value: f64| LEFT + (value - x[0]) / (x[1] - x[0]) * (RIGHT - LEFT);
    let at_y = |value: f64| BOTTOM - (value - y[0]) / (y[1] - y[0]) * (BOTTOM - TOP);
    let path = |points: &[[f64; 2]]| {
        let mut path = String::new();
        for (index, point) in points.iter().enumerate() {
            let letter = if index == 0 { 'M' } else { 'L' };
            path.push_str(&format!("{letter}{:.1} {:.1}", at_x(point[0]), at_y(point[1])));
        }
        path
    };
    html! {
        svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(format!("{name} against guidance")) {
            text x="4" y="14" { (name) }
            rect x=(LEFT) y=(TOP) width=(RIGHT - LEFT) height=(BOTTOM - TOP) fill="none" stroke="#bbb" {}
            @for value in y { text x=(LEFT - 5.0) y=(at_y(value) + 4.0) text-anchor="end" { (format!("{value:.3}")) } }
            @for value in x { text x=(at_x(value)) y=(BOTTOM + 16.0) text-anchor="middle" { (value) } }
            text x=((LEFT + RIGHT) / 2.0) y=(HEIGHT - 6.0) text-anchor="middle" { "weight of guidance" }
            @for (index, (network, points)) in networks.iter().enumerate() {
                @let colour = COLOURS[index % COLOURS.len()];
                path d=(path(points)) fill="none" stroke=(colour) stroke-width="2" stroke-dasharray=(DASHES[index % DASHES.len()]) {}
                @for point in points {
                    circle cx=(format!("{:.1}", at_x(point[0]))) cy=(format!("{:.1}", at_y(point[1]))) r="3" fill=(colour) {
                        title { (format!("{network}: {} at {}", point[1], point[0])) }
                    }
                }
            }
        }
    }
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
            "M58.0",
            "L346.0",
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
        assert!(!page(&evaluation).contains("<svg"));
    }
}
