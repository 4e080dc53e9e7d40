//! Whether kernels have become worse than the table says.

use super::{Kernels, Resources};

/// Registers that a thread may take beyond the table's, as long as no fewer warps fit.
const REGISTER_MARGIN: u32 = 8;

/// The margins, for people.
pub(super) const MARGINS: &str = "8 registers if as many warps fit; no spill, no local and no shared memory more";

#[derive(Debug, Default)]
pub(super) struct Differences {
    /// Each fails the check.
    pub(super) worse: Vec<String>,
    pub(super) better: Vec<String>,
}

pub(super) fn compare(committed: &Kernels, built: &Kernels) -> Differences {
    let mut differences = Differences::default();
    for (key, now) in built {
        let Some(before) = committed.get(key) else {
            differences.worse.push(format!("{key}: not in the table"));
            continue;
        };
        for complaint in complaints(before, now) {
            differences.worse.push(format!("{key}: {complaint}"));
        }
        if warps(now.registers) > warps(before.registers) {
            differences.better.push(format!("{key}: {} registers, {} before", now.registers, before.registers));
        }
        if now.stack_bytes < before.stack_bytes || now.spill_bytes < before.spill_bytes {
            differences.better.push(format!("{key}: less local memory"));
        }
    }
    for key in committed.keys().filter(|key| !built.contains_key(key)) {
        differences.worse.push(format!("{key}: in the table, but not built"));
    }
    differences
}

fn complaints(before: &Resources, now: &Resources) -> Vec<String> {
    let mut complaints = Vec::new();
    for (what, before, now) in [
        ("bytes of spills", before.spill_bytes, now.spill_bytes),
        ("bytes of local memory", before.stack_bytes, now.stack_bytes),
        ("bytes of shared memory", before.shared_bytes, now.shared_bytes),
    ] {
        if now > before {
            complaints.push(format!("{now} {what}, {before} before"));
        }
    }
    let (registers, warps_now, warps_before) = (now.registers, warps(now.registers), warps(before.registers));
    if registers > before.registers + REGISTER_MARGIN {
        complaints
            .push(format!("{registers} registers, {} before; {REGISTER_MARGIN} more are allowed", before.registers));
    } else if warps_now < warps_before {
        let before = before.registers;
        complaints.push(format!(
            "{registers} registers, {before} before: {warps_now} warps a scheduler instead of {warps_before}"
        ));
    }
    complaints
}

/// Warps whose registers a scheduler can hold: it has 16384, and gives a warp's 32 threads eight at a time.
fn warps(registers: u32) -> u32 {
    const REGISTERS_OF_A_SCHEDULER: u32 = 16384;
    const MOST_WARPS: u32 = 16;
    (REGISTERS_OF_A_SCHEDULER / (registers.max(1).next_multiple_of(8) * 32)).min(MOST_WARPS)
}

#[cfg(test)]
mod tests {
    use super::{super::key, *};

    const BEFORE: Resources = Resources { registers: 97, spill_bytes: 0, stack_bytes: 0, shared_bytes: 1024 };

    fn worse(before: Resources, now: Resources) -> Vec<String> {
        let kernels = |resources| Kernels::from([(key("scan", "90a"), resources)]);
        compare(&kernels(before), &kernels(now)).worse
    }

    #[test]
    fn warps_fall_in_the_steps_of_the_register_file() {
        let steps = [(1, 16), (32, 16), (33, 12), (40, 12), (64, 8), (65, 7), (128, 4), (129, 3), (168, 3), (255, 2)];
        for (registers, expected) in steps {
            assert_eq!(warps(registers), expected, "{registers}");
        }
    }

    #[test]
    fn a_spill_is_a_regression_unless_the_table_has_it() {
        let spilling = Resources { spill_bytes: 8, stack_bytes: 8, ..BEFORE };
        assert_eq!(
            worse(BEFORE, spilling),
            ["scan on sm_90a: 8 bytes of spills, 0 before", "scan on sm_90a: 8 bytes of local memory, 0 before"]
        );
        assert!(worse(spilling, spilling).is_empty());
        assert!(worse(spilling, BEFORE).is_empty());
    }

    #[test]
    fn registers_may_grow_within_the_margin_unless_a_warp_less_fits() {
        let with = |registers| Resources { registers, ..BEFORE };
        assert!(worse(BEFORE, with(104)).is_empty());
        assert!(worse(BEFORE, with(106))[0].contains("8 more are allowed"));
        assert!(worse(with(80), with(81))[0].contains("5 warps a scheduler instead of 6"));
        assert!(worse(with(128), with(40)).is_empty());
    }

    #[test]
    fn shared_memory_may_not_grow() {
        assert_eq!(worse(BEFORE, Resources { shared_bytes: 1040, ..BEFORE }).len(), 1);
    }

    #[test]
    fn kernels_come_and_go_with_the_table_only() {
        let one = Kernels::from([(key("scan", "80"), BEFORE)]);
        assert_eq!(compare(&Kernels::new(), &one).worse, ["scan on sm_80: not in the table"]);
        assert_eq!(compare(&one, &Kernels::new()).worse, ["scan on sm_80: in the table, but not built"]);
    }
}
