//! The page as a whole.

use maud::{Markup, html};

use super::{
    download, group,
    look::Looks,
    shell::{caveat, facts, sections, shell},
    table,
};
use crate::{
    analysis::FIT_PX,
    caveats::{caveats, machine},
    format,
    record::{Mode, Run},
    tables,
};

/// The run as one self-contained HTML page: headline, plots by group and mode, every number, and how it was measured.
pub fn page(run: &Run) -> String {
    let looks = Looks::of(run);
    let groups = run.groups();
    let title = format!("Scaling on {}", run.header.device);
    let own = groups.iter().enumerate().map(|(index, group)| (format!("group-{index}"), group.name.clone()));
    let mut places = vec![("short".to_owned(), "in short".to_owned())];
    places.extend(own);
    places.extend(
        [("numbers", "all numbers"), ("how", "how it was measured")].map(|(a, b)| (a.to_owned(), b.to_owned())),
    );
    let machine = machine(run);
    let header = html! {
        p.lead { (lead(run)) }
        @for text in caveats(run) { (caveat(&text)) }
        (facts(machine.iter().map(|(name, value)| (*name, value.as_str()))))
        p { (download::link(run)) }
        (sections(&places))
    };
    let main = html! {
        section #short {
            h2 { "In short" }
            @for group in &groups {
                @if let Some(short) = tables::of_group(run, group) { (table::of_words(&short)) }
            }
        }
        @for (index, group) in groups.iter().enumerate() { (group::section(run, group, index, &looks)) }
        section #numbers {
            h2 { "All numbers" }
            @for mode in run.modes() { (numbers(run, mode)) }
        }
        (how(run))
    };
    shell(&title, header, main)
}

/// What was compared, in one sentence.
fn lead(run: &Run) -> String {
    let modes: Vec<_> = run.modes().into_iter().map(Mode::name).collect();
    let sizes: Vec<u32> = run.modes().into_iter().flat_map(|mode| run.sizes(mode)).collect();
    let px = |size: Option<&u32>| size.map_or(0.0, |size| f64::from(*size));
    let (from, to) = (px(sizes.iter().min()), format::px(px(sizes.iter().max())));
    let (models, precision) = (run.models().len(), &run.header.precision);
    format!("{models} models compared at images of {from} to {to}, in {precision}: {}.", modes.join(", "))
}

fn numbers(run: &Run, mode: Mode) -> Markup {
    let mut name = mode.name().to_owned();
    name[..1].make_ascii_uppercase();
    html! {
        h3 { (name) }
        @for table in tables::of_mode(run, mode) { (table::of_numbers(&table)) }
    }
}

fn how(run: &Run) -> Markup {
    html! {
        section #how {
            h2 { "How it was measured" }
            ul {
                li { "Every time is the median of its repeats; bars reach from the 10th to the 90th percentile." }
                li { "Latency is the time of a batch of one. All else is of the largest sensible batch, and times are per image." }
                li { "A guided sampling step evaluates both branches in one batch; an image counts once." }
                li { "A training step is forward pass, backward pass and optimiser." }
                li { "Useful work counts the multiply-adds that the mode needs, each as two operations." }
                li {
                    "The share that the hardware's limits explain is the least time that they allow, over the time it took: at 100 % "
                    "nothing could be faster."
                }
                li {
                    "Exponents are fitted by least squares to log time against log tokens, from " (FIT_PX.start()) " to "
                    (format::px(f64::from(*FIT_PX.end()))) " where two sizes or more lie there. ± is one standard error: of the "
                    "distances from the line or of the spread of the repeats, whichever is larger."
                }
                li {
                    "Where one model passes another is interpolated between the two neighbouring sizes, on log scales. In brackets: "
                    "the interval from the 16th to the 84th percentile that the spread of the repeats gives, by drawing them anew. "
                    "It does not cover what may happen between two sizes. Two models are compared at the sizes at which both were measured."
                }
            }
            details.config {
                summary { "The sweep's configuration" }
                pre tabindex="0" { code { (run.header.config) } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fixture, record::DeviceKind};

    #[test]
    fn page_loads_nothing() {
        let page = page(&fixture::run());
        for loader in ["src=", "@import", "url(", "http:", "https:"] {
            assert!(!page.contains(loader), "{loader}");
        }
        let links: Vec<_> = page.split("href=\"").skip(1).collect();
        assert!(links.iter().all(|link| link.starts_with('#') || link.starts_with("data:")), "a link leads elsewhere");
    }

    #[test]
    fn every_link_leads_to_a_place_and_no_place_is_there_twice() {
        let page = page(&fixture::run());
        let values = |attribute: &str| -> Vec<String> {
            let attribute = format!(" {attribute}=\"");
            let after = page.split(&attribute).skip(1);
            after.filter_map(|rest| rest.split('"').next().map(str::to_owned)).collect()
        };
        let mut places = values("id");
        for link in values("href").iter().filter_map(|link| link.strip_prefix('#')) {
            assert!(places.iter().any(|place| place == link), "#{link}");
        }
        let all = places.len();
        places.sort();
        places.dedup();
        assert_eq!(places.len(), all);
    }

    #[test]
    fn cpu_and_quick_runs_say_so_before_any_number() {
        let mut run = fixture::power_law(&[("a", 1.0, 1.0)], &[512, 1024], 0.0);
        assert!(!page(&run).contains("class=\"caveat\""));
        run.header.device_kind = DeviceKind::Cpu;
        run.header.quick = true;
        let page = page(&run);
        let (before, _) = page.split_once("<main>").unwrap_or_default();
        assert!(before.contains("say nothing about a GPU") && before.contains("A quick run"));
    }

    #[test]
    fn no_text_breaks_out_of_its_place() {
        let evil = "<b>\"'&</script></svg>";
        let mut run = fixture::power_law(&[(evil, 1.0, 1.0), ("b", 1.0, 2.0)], &[512, 1024], 0.0);
        run.header.device = evil.to_owned();
        run.header.config = evil.to_owned();
        run.points[0].note = Some(evil.to_owned());
        run.warnings.push(evil.to_owned());
        let page = page(&run);
        assert!(!page.contains("<b>") && !page.contains("&</"));
        assert_eq!(page.matches("</script>").count(), 1);
    }
}
