//! The summary in Markdown.

use std::fmt::Write as _;

use crate::{
    caveats::{caveats, machine},
    record::Run,
    table::{Table, escape},
    tables,
};

/// The whole run in Markdown: the machine, who passes whom in each group, and every quantity by mode and image size.
pub fn markdown(run: &Run) -> String {
    let mut text = format!("# Scaling on {}\n\n", escape(&run.header.device));
    for caveat in caveats(run) {
        let _ = writeln!(text, "> **{}**\n", escape(&caveat));
    }
    let facts: Vec<_> = machine(run).iter().map(|(name, value)| format!("{name} {}", escape(value))).collect();
    let _ = writeln!(text, "{}\n", facts.join(", "));

    for group in run.groups() {
        let _ = writeln!(text, "## {}\n", escape(&group.name));
        if !group.note.is_empty() {
            let _ = writeln!(text, "{}\n", escape(&group.note));
        }
        tables::of_group(run, &group).iter().for_each(|table| add(&mut text, table));
        for mode in run.modes() {
            tables::ratios_of_first(run, &group, mode).iter().for_each(|table| add(&mut text, table));
        }
    }
    for mode in run.modes() {
        let _ = writeln!(text, "## All numbers: {}\n", mode.name());
        tables::of_mode(run, mode).iter().for_each(|table| add(&mut text, table));
    }
    text
}

fn add(text: &mut String, table: &Table) {
    let _ = writeln!(text, "**{}**\n\n{}", escape(&table.title), table.markdown());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fixture, record::DeviceKind};

    #[test]
    fn summary_has_the_machine_the_groups_and_every_mode() {
        let text = markdown(&fixture::run());
        assert!(text.starts_with("# Scaling on NVIDIA H200\n\ndevice NVIDIA H200, driver 580.159.04, "), "{text}");
        for heading in ["## equal published size", "## large models", "## All numbers: forward pass"] {
            assert!(text.contains(heading), "{heading}");
        }
        assert!(text.contains("| DiM-H/2 passes DiT-XL/2 | at "), "{text}");
    }

    #[test]
    fn cpu_and_quick_runs_say_so_before_any_number() {
        let mut run = fixture::run();
        run.header.device_kind = DeviceKind::Cpu;
        run.header.quick = true;
        let text = markdown(&run);
        let (before, _) = text.split_once('|').unwrap_or_default();
        assert!(before.contains("say nothing about a GPU") && before.contains("A quick run"), "{before}");
    }

    #[test]
    fn names_cannot_break_the_document() {
        let text = markdown(&fixture::power_law(&[("<b>|x", 1.0, 1.0), ("b", 1.0, 2.0)], &[512, 1024], 0.0));
        assert!(!text.contains("<b>") && text.contains("&lt;b&gt;\\|x"), "{text}");
    }
}
