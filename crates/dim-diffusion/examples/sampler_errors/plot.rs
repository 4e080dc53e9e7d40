//! The table as a figure: SVG, both axes logarithmic, one line a sampler.

use std::fmt::Write;

/// A sampler's errors, one for each number of calls.
pub(crate) struct Series {
    pub(crate) name: &'static str,
    pub(crate) errors: Vec<f64>,
}

/// The drawing area, and the whole figure, in pixels.
const LEFT: f64 = 64.0;
const TOP: f64 = 20.0;
const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 400.0;
const FULL_WIDTH: f64 = 850.0;
const FULL_HEIGHT: f64 = 474.0;
/// Powers of ten at the ends of the error's axis.
const DECADES: [i32; 2] = [-5, 0];
/// Colours that stay apart for the colour-blind (Okabe and Ito), and dashes for their second round.
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#000000"];
const DASHES: [&str; 2] = ["none", "6 4"];

/// The figure. The legend stands in the order of the errors at the most calls, the largest on top, as the lines do.
pub(crate) fn svg(calls: &[usize], series: &[Series]) -> String {
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{FULL_WIDTH}\" height=\"{FULL_HEIGHT}\" viewBox=\"0 0 {FULL_WIDTH} \
         {FULL_HEIGHT}\" font-family=\"sans-serif\" font-size=\"13\">\n<title>Errors of the samplers by calls of the network</title>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    axes(&mut out, calls);
    let mut order: Vec<usize> = (0..series.len()).collect();
    let last = |index: &usize| series[*index].errors.last().copied().unwrap_or(0.0);
    order.sort_by(|one, other| last(other).total_cmp(&last(one)));
    for (place, &index) in order.iter().enumerate() {
        let (colour, dash) = (COLOURS[index % COLOURS.len()], DASHES[index / COLOURS.len() % DASHES.len()]);
        let points: Vec<[f64; 2]> =
            calls.iter().zip(&series[index].errors).map(|(calls_, error)| [x(calls, *calls_), y(*error)]).collect();
        let path: Vec<String> = points.iter().map(|[x, y]| format!("{x:.1},{y:.1}")).collect();
        let style = format!("stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dash}\" fill=\"none\"");
        let _ = writeln!(out, "<polyline points=\"{}\" {style}/>", path.join(" "));
        for [x, y] in points {
            let _ = writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"/>");
        }
        let (x, y) = (LEFT + WIDTH + 24.0, TOP + 14.0 + 24.0 * place as f64);
        let _ = writeln!(out, "<line x1=\"{x}\" x2=\"{}\" y1=\"{y}\" y2=\"{y}\" {style}/>", x + 32.0);
        let _ =
            writeln!(out, "<text x=\"{}\" y=\"{}\">{}</text>", x + 40.0, y + 4.5, series[index].name.replace('`', ""));
    }
    out + "</svg>\n"
}

fn axes(out: &mut String, calls: &[usize]) {
    let (bottom, right) = (TOP + HEIGHT, LEFT + WIDTH);
    for decade in DECADES[0]..=DECADES[1] {
        let y = y(10_f64.powi(decade));
        let _ = writeln!(out, "<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>");
        let label = format!("10<tspan dy=\"-5\" font-size=\"10\">{}</tspan>", decade.to_string().replace('-', "−"));
        let _ = writeln!(out, "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>", LEFT - 8.0, y + 4.5);
    }
    for &number in calls {
        let x = x(calls, number);
        let _ = writeln!(out, "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{bottom}\" stroke=\"#ddd\"/>");
        let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{number}</text>", bottom + 20.0);
    }
    let _ = writeln!(
        out,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">calls of the network</text>",
        LEFT + WIDTH / 2.0,
        bottom + 42.0
    );
    let middle = TOP + HEIGHT / 2.0;
    let _ = writeln!(
        out,
        "<text x=\"16\" y=\"{middle}\" text-anchor=\"middle\" transform=\"rotate(-90 16 {middle})\">root of the mean square error</text>"
    );
}

/// With a margin at both ends.
fn x(calls: &[usize], number: usize) -> f64 {
    let ends = [calls.first(), calls.last()].map(|calls| calls.copied().unwrap_or(1) as f64);
    let share = (number as f64 / ends[0]).ln() / (ends[1] / ends[0]).ln();
    LEFT + WIDTH * (0.05 + 0.9 * share)
}

fn y(error: f64) -> f64 {
    let [low, high] = DECADES.map(f64::from);
    TOP + HEIGHT * (high - error.log10()) / (high - low)
}
