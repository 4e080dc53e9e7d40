//! What a reader must know before any number.

use crate::record::{DeviceKind, Run};

/// One sentence each; none for a full run on a GPU whose file is whole.
pub(crate) fn caveats(run: &Run) -> Vec<String> {
    let mut caveats = Vec::new();
    if run.header.device_kind == DeviceKind::Cpu {
        caveats.push("Measured on a CPU: these numbers say nothing about a GPU.".to_owned());
    }
    if run.header.quick {
        caveats.push(
            "A quick run, with small sizes and few repeats: it shows that everything works, and its numbers are no results."
                .to_owned(),
        );
    }
    caveats.extend(run.warnings.iter().map(|warning| format!("Of the file: {warning}.")));
    caveats
}

/// The machine, as pairs of a name and a value.
pub(crate) fn machine(run: &Run) -> Vec<(&'static str, String)> {
    let header = &run.header;
    let mut machine = vec![("device", header.device.clone())];
    machine.extend(header.driver.clone().map(|driver| ("driver", driver)));
    machine.extend([
        ("libtorch", header.libtorch.clone()),
        ("processor", header.cpu.clone()),
        ("threads", header.threads.to_string()),
        ("precision", header.precision.clone()),
        ("commit", header.commit.clone()),
        ("date", header.date.clone()),
    ]);
    machine
}
