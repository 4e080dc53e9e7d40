//! The page in a browser: what a reader sees, clicks and prints.
//!
//! Needs Chromium or Chrome in PATH. Without one the tests are skipped aloud, or fail where `DIM_REQUIRE_BROWSER=1`.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

mod devtools;
mod fixture;

use std::{env, fs, sync::OnceLock};

use devtools::{Browser, Tab};
use dim_report::record::{Mode, Outcome, Role, Run};

/// Opens the made-up run's page in a tab that `prepare` has set up, and has it examined.
fn with_page(prepare: impl FnOnce(&mut Tab<'_>), examine: impl FnOnce(&mut Tab<'_>, &Run)) {
    static PAGE: OnceLock<String> = OnceLock::new();
    let page = PAGE.get_or_init(|| dim_report::page(&fixture::run()));
    with(page, prepare, |tab| examine(tab, &fixture::run()));
}

/// Opens a page in a tab that `prepare` has set up, and has it examined.
fn with(page: &str, prepare: impl FnOnce(&mut Tab<'_>), examine: impl FnOnce(&mut Tab<'_>)) {
    let Some(mut browser) = Browser::launch() else {
        let message = "skipped: no Chromium found in PATH; DIM_REQUIRE_BROWSER=1 makes this a failure";
        assert!(env::var("DIM_REQUIRE_BROWSER").as_deref() != Ok("1"), "{message}");
        eprintln!("{message}");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("page.html");
    fs::write(&path, page).unwrap();
    let mut tab = browser.tab();
    tab.screen(1200, 900, false);
    prepare(&mut tab);
    tab.open(&path);
    examine(&mut tab);
    assert!(tab.complaints().is_empty(), "{:?}", tab.complaints());
}

/// Every plot of the fixture: two groups, three modes, two quantities.
const PLOTS: usize = 12;

fn number_of(run: &Run, model: &str) -> usize {
    run.models().iter().position(|known| *known == model).unwrap()
}

fn assert_tables_and_plots_are_there(tab: &mut Tab<'_>) {
    assert_eq!(tab.count_visible("svg.plot"), PLOTS);
    // Who passes whom, ratios, and six tables in each mode.
    assert_eq!(tab.count_visible(".caption"), 2 + 6 + 3 * 6);
}

#[test]
fn every_plot_has_a_line_and_every_point_of_each_model() {
    with_page(
        |_| (),
        |tab, run| {
            assert_tables_and_plots_are_there(tab);
            let modes = run.modes();
            for (group_index, group) in run.groups().iter().enumerate() {
                for (mode_index, mode) in modes.iter().enumerate() {
                    for model in &group.models {
                        let series = run.series(model, *mode, Role::Throughput);
                        let measured = series.iter().filter(|point| point.measurement().is_some()).count();
                        let lost = series.iter().filter(|point| point.outcome == Outcome::OutOfMemory).count();
                        for quantity in ["time", "memory"] {
                            let plot = format!(
                                "#g{group_index}-m{mode_index}-{quantity} .plot [data-model='{}']",
                                number_of(run, model)
                            );
                            assert_eq!(tab.count_visible(&format!("{plot} .line")), 1, "{plot}");
                            assert_eq!(tab.count_visible(&format!("{plot} .marker")), measured, "{plot}");
                            assert_eq!(tab.count_visible(&format!("{plot} .cross")), lost, "{plot}");
                        }
                    }
                }
            }
            let crossings = tab.count_visible("#g0-m0-time .crossing .band");
            assert!(crossings >= 2, "{crossings}");
        },
    );
}

#[test]
fn legend_hides_and_shows_a_model_in_all_plots() {
    with_page(
        |_| (),
        |tab, run| {
            let number = number_of(run, "DiT-XL/2");
            let (key, line) =
                (format!("#group-0 .key[data-model='{number}']"), format!(".plot [data-model='{number}'] .line"));
            let (lines, all) = (tab.count_visible(&line), tab.count_visible(".plot .line"));
            assert_eq!(lines, 6);
            tab.click(&key);
            assert_eq!(tab.count_visible(&line), 0);
            assert_eq!(tab.count_visible(".plot .line"), all - lines);
            assert_eq!(tab.evaluate(&format!("document.querySelector(\"{key}\").ariaPressed")), "false");
            tab.click(&key);
            assert_eq!(tab.count_visible(&line), lines);
            assert_eq!(tab.evaluate(&format!("document.querySelector(\"{key}\").ariaPressed")), "true");
        },
    );
}

#[test]
fn raw_data_open_with_the_numbers_of_the_records() {
    with_page(
        |_| (),
        |tab, run| {
            let rows = "#g0-m0-time-raw tbody tr";
            assert_eq!(tab.count_visible(rows), 0);
            tab.click("#g0-m0-time-raw summary");
            let models = &run.groups()[0].models;
            let points: Vec<_> =
                models.iter().flat_map(|model| run.series(model, Mode::Forward, Role::Throughput)).collect();
            assert_eq!(tab.count_visible(rows), points.len());
            for point in points {
                let row =
                    format!("{rows}[data-model='{}'][data-px='{}']", number_of(run, &point.model), point.image_px);
                let cells =
                    tab.evaluate(&format!("[...document.querySelector(\"{row}\").cells].map(cell => cell.innerText)"));
                let cell = |index: usize| cells[index].as_str().unwrap().to_owned();
                assert_eq!((cell(0), cell(1)), (point.model.clone(), point.image_px.to_string()));
                assert_eq!(cell(3), point.batch.to_string());
                assert!(cell(4).starts_with(point.outcome.name()), "{}", cell(4));
                let Some((of, per_image)) = point.measurement().zip(point.ms_per_image()) else { continue };
                let shown = |text: &str| text.parse::<f64>().unwrap_or_else(|_| panic!("{text} is no number"));
                let is_near = |shown: f64, value: f64| (shown / value - 1.0).abs() < 1e-5;
                for (index, value) in per_image.into_iter().chain([of.images_per_s]).enumerate() {
                    assert!(is_near(shown(&cell(5 + index)), value), "{} for {value}", cell(5 + index));
                }
                let samples: Vec<f64> = cell(9).split_whitespace().map(shown).collect();
                assert_eq!(samples.len(), of.samples_ms.len());
                assert!(
                    samples.iter().zip(&of.samples_ms).all(|(shown, value)| is_near(*shown, *value)),
                    "{}",
                    cell(9)
                );
            }
        },
    );
}

#[test]
fn point_tells_its_numbers_and_leads_to_its_row() {
    with_page(
        |_| (),
        |tab, run| {
            let number = number_of(run, "DiM-H/2");
            let point = format!("#g0-m0-time .plot [data-model='{number}'] .point[data-px='4096']");
            tab.hover(&format!("{point} .reach"));
            let tip = tab.evaluate("document.getElementById('tip').innerText");
            assert!(tip.as_str().unwrap().starts_with("DiM-H/2, 4,096 px: 480 ms per image"), "{tip}");
            tab.click(&format!("{point} .reach"));
            assert_eq!(tab.count_visible(&format!("#g0-m0-time-{number}-4096")), 1);
            assert_eq!(tab.evaluate("location.hash"), format!("#g0-m0-time-{number}-4096"));
        },
    );
}

#[test]
fn narrow_screen_never_scrolls_sideways() {
    with_page(|tab| tab.screen(360, 740, false), |tab, _| assert_narrow_screen_is_enough(tab));
}

fn assert_narrow_screen_is_enough(tab: &mut Tab<'_>) {
    // With everything open that can be opened.
    tab.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })");
    assert_eq!(tab.number("innerWidth"), 360.0);
    let width = tab.number("document.documentElement.scrollWidth");
    assert!(width <= 360.0, "{width} px wide");
    let smallest = tab.number(
        "Math.min(...[...document.querySelectorAll('.plot text')].map(text =>
         parseFloat(getComputedStyle(text).fontSize) * text.getScreenCTM().a))",
    );
    assert!(smallest >= 9.5, "text of {smallest} px in a plot");
}

#[test]
fn labels_of_a_plot_stay_inside_it_on_every_screen() {
    for width in [360, 1200] {
        with_page(|tab| tab.screen(width, 900, true), |tab, _| assert_labels_stay_inside(tab));
    }
}

fn assert_labels_stay_inside(tab: &mut Tab<'_>) {
    let outside = tab.evaluate(
        "[...document.querySelectorAll('.plot')].flatMap(plot => {
           const frame = plot.getBoundingClientRect();
           return [...plot.querySelectorAll('text')].filter(text => {
             const box = text.getBoundingClientRect();
             return box.left < frame.left - 1 || box.right > frame.right + 1 || box.bottom > frame.bottom + 1 || box.top < frame.top - 1;
           }).map(text => text.textContent);
         })",
    );
    assert_eq!(outside, serde_json::json!([]));
}

#[test]
fn page_prints() {
    with_page(
        |_| (),
        |tab, _| {
            let pdf = tab.pdf();
            assert!(pdf.starts_with(b"%PDF-"));
            let text = String::from_utf8_lossy(&pdf);
            let pages = text.matches("/Type /Page\n").count();
            assert!((2..40).contains(&pages), "{pages} pages");
        },
    );
}

#[test]
fn page_without_scripts_still_shows_tables_and_plots() {
    with_page(
        |tab| tab.disable_scripts(),
        |tab, run| {
            assert_eq!(tab.evaluate("document.documentElement.className"), "");
            assert_tables_and_plots_are_there(tab);
            let point = format!("#g0-m0-time .plot [data-model='{}'] .point", number_of(run, "DiM-H/2"));
            let title = tab.evaluate(&format!("document.querySelector(\"{point} title\").textContent"));
            assert!(title.as_str().unwrap().starts_with("DiM-H/2, 256 px: "), "{title}");
            // A point is a link, and the browser opens what it leads into.
            assert_eq!(tab.count_visible("#g0-m0-time-raw tbody tr"), 0);
            tab.click(&format!("{point}[data-px='4096'] .reach"));
            assert!(tab.count_visible("#g0-m0-time-raw tbody tr") > 0);
            tab.click("#g0-m0-memory-raw summary");
            assert!(tab.count_visible("#g0-m0-memory-raw tbody tr") > 0);
        },
    );
}

#[test]
fn page_of_a_training_run_shows_state_curves_samples_metrics_and_files() {
    let runs = fixture::training::runs();
    with(
        &dim_report::training::page(&runs[..1]),
        |_| (),
        |tab| {
            let text = |tab: &mut Tab<'_>, of: &str| {
                tab.evaluate(&format!("document.querySelector('{of}').innerText")).as_str().unwrap().to_owned()
            };
            assert_eq!(text(tab, "h1"), "Training: openmoji-64");
            let lead = text(tab, ".lead");
            assert!(
                lead.contains("5,203,456 parameters") && lead.contains("stopped after 640,000 of 1,280,000"),
                "{lead}"
            );
            // Loss twice, gradient, learning rate, speed and memory; FID and precision.
            assert_eq!((tab.count_visible("#curves .plot"), tab.count_visible("#evaluation .plot")), (6, 2));
            assert_eq!(tab.count_visible("#curves .line"), 6);
            assert_eq!(tab.count_visible("#evaluation .plot .line"), 4);
            // A thousand lines of a log are so many that a plot shows means of them, and how far they reach.
            let points = tab.count_visible("#loss-images .point");
            assert!((100..=120).contains(&points), "{points}");
            assert_eq!(tab.count_visible("#loss-images .spread"), 1);
            // Where it went on: a line without a width.
            assert_eq!(tab.number("document.querySelectorAll('#loss-images .crossing .at').length"), 1.0);
            tab.hover("#loss-images .point .reach");
            let tip = text(tab, "#tip");
            assert!(tip.starts_with("openmoji-64: loss ") && tip.ends_with("images seen 640"), "{tip}");
            tab.hover("#metric-0 .point .reach");
            assert_eq!(text(tab, "#tip"), "openmoji-64, no guidance: FID 220; images seen 80,000");
            // A point without a table leads nowhere.
            tab.click("#metric-0 .point .reach");
            assert_eq!(tab.evaluate("location.hash"), "");
            let loaded = "[...document.images].filter(one => one.complete && one.naturalWidth === 16).length";
            tab.evaluate("document.images.forEach?.(one => one.scrollIntoView()); document.querySelector('#samples').scrollIntoView()");
            assert_eq!((tab.count_visible("#samples img"), tab.number(loaded)), (6, 6.0));
            assert!(text(tab, "#samples").contains("6 of 20 pictures"));
            assert_eq!(tab.count_visible("#evaluation tbody tr"), 16);
            assert_eq!(tab.count_visible("#environment tbody tr"), 2);
            assert_eq!(tab.count_visible("#files tbody tr"), 1);
            assert_eq!(tab.count_visible(".legend"), 0);
            assert_eq!(tab.count_visible("#configuration pre"), 0);
            tab.click("#configuration summary");
            assert!(text(tab, "#configuration pre").contains("depth = 13"));
        },
    );
}

#[test]
fn curves_of_several_runs_lie_over_each_other_and_can_be_hidden() {
    let runs = fixture::training::runs();
    let page = dim_report::training::page(&runs);
    with(
        &page,
        |_| (),
        |tab| {
            // Memory is of the one on a GPU alone.
            let lines = tab.count_visible("#curves .plot .line");
            assert_eq!(lines, 2 * 5 + 1);
            tab.click(".key[data-model='0']");
            assert_eq!(tab.count_visible("#curves .plot .line"), 5);
            assert_eq!(tab.count_visible("#evaluation .plot .line"), 0);
            tab.click(".key[data-model='0']");
            assert_eq!(tab.count_visible("#curves .plot .line"), lines);
            let differences = tab.evaluate(
                "[...document.querySelectorAll('#configuration table')].map(table => [...table.rows].map(row => row.innerText))[0]",
            );
            assert_eq!(differences.as_array().unwrap().len(), 2, "{differences}");
            assert_eq!(tab.number("document.querySelectorAll('#environment h3').length"), 2.0);
        },
    );
    for (width, is_dark) in [(360, false), (1200, true)] {
        with(
            &page,
            |tab| tab.screen(width, 900, is_dark),
            |tab| {
                assert_labels_stay_inside(tab);
                if width == 360 {
                    assert_narrow_screen_is_enough(tab);
                }
            },
        );
    }
}
