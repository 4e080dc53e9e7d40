//! Where the time of one run goes, kernel by kernel, beside the least that each part can take.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use dim_report::record::{Header, Mode};
use dim_torch::Event;
use serde::{Deserialize, Serialize};

use super::Task;
use super::floor::Floor;

/// A kernel, by name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kernel {
    /// As the compiler mangled it or the library called it, cut to a readable length.
    pub name: String,
    /// What it belongs to.
    pub part: Part,
    /// How often it ran.
    pub calls: u32,
    /// All its runs together.
    pub ms: f64,
}

/// What a kernel does for a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Matrix products.
    Products,
    /// Attention.
    Attention,
    /// The selective scan.
    Scan,
    /// The convolution over tokens.
    Convolution,
    /// Norm, modulation and residual in one.
    Norm,
    /// AdamW, moving average and the gradient's norm.
    Optimiser,
    /// Copies and fills.
    Copies,
    /// Elementwise work of libtorch, sums, and what is not known.
    Rest,
}

impl Part {
    const ALL: [Self; 8] = [
        Self::Products,
        Self::Attention,
        Self::Scan,
        Self::Convolution,
        Self::Norm,
        Self::Optimiser,
        Self::Copies,
        Self::Rest,
    ];

    /// By words in the kernel's name. Those of the first column that has one decide.
    fn of(kernel: &str) -> Self {
        let name = kernel.to_ascii_lowercase();
        let words: [(Self, &[&str]); 7] = [
            (Self::Scan, &["selective_scan"]),
            (Self::Convolution, &["causal_conv1d"]),
            (Self::Norm, &["norm_modulate", "layer_norm"]),
            (Self::Optimiser, &["adamw_ema", "gradient_norm"]),
            (Self::Attention, &["flash", "fmha", "sdpa", "attention"]),
            (Self::Products, &["gemm", "nvjet", "cutlass", "splitk", "gemv", "sm90_xmma"]),
            (Self::Copies, &["memcpy", "memset", "copy", "fill"]),
        ];
        words
            .iter()
            .find(|(_, words)| words.iter().any(|word| name.contains(word)))
            .map_or(Self::Rest, |(part, _)| *part)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Products => "matrix products",
            Self::Attention => "attention",
            Self::Scan => "scan",
            Self::Convolution => "convolution over tokens",
            Self::Norm => "norm, modulation, residual",
            Self::Optimiser => "optimiser",
            Self::Copies => "copies and fills",
            Self::Rest => "other elementwise work and sums",
        }
    }

    /// The least it can take, where that was counted.
    fn floor_ms(self, floor: &Floor) -> Option<f64> {
        match self {
            Self::Products => Some(floor.products_ms),
            Self::Scan => Some(floor.scan_ms),
            _ => None,
        }
    }
}

/// One run of one network, taken apart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// The network's name.
    pub model: String,
    /// What it did.
    pub mode: Mode,
    /// Side of the images, in pixels.
    pub image_px: u32,
    /// Images.
    pub batch: u32,
    /// From the first call of the host to the end of the device's work, the profiler's own work included.
    pub wall_ms: f64,
    /// From the start of the first kernel to the end of the last.
    pub span_ms: f64,
    /// Kernels together.
    pub busy_ms: f64,
    /// The least that products, scan and what stands between them take.
    pub floor_ms: Floor,
    /// Every kernel, the most expensive first; on a CPU libtorch's operations, which include what they call.
    pub kernels: Vec<Kernel>,
}

/// Longest name of a kernel that is kept: templates have names of thousands of letters.
const LONGEST_NAME: usize = 160;

impl Profile {
    /// Sums up what a profiler saw.
    #[must_use]
    pub fn new(model: String, task: Task, batch: u32, wall_ms: f64, events: &[Event], floor: &Floor) -> Self {
        // Where a GPU works, the operations on the CPU only start its kernels.
        let on_gpu = events.iter().any(|event| event.on_gpu);
        let mut kernels: BTreeMap<String, Kernel> = BTreeMap::new();
        let (mut first, mut last, mut busy_ns) = (u64::MAX, 0, 0);
        for event in events.iter().filter(|event| event.on_gpu == on_gpu && !is_mark(event)) {
            let name: String = event.name.chars().take(LONGEST_NAME).collect();
            let part = Part::of(&event.name);
            let kernel = kernels.entry(name.clone()).or_insert(Kernel { name, part, calls: 0, ms: 0.0 });
            kernel.calls += 1;
            kernel.ms += ms(event.duration_ns);
            busy_ns += event.duration_ns;
            first = first.min(event.start_ns);
            last = last.max(event.start_ns + event.duration_ns);
        }
        let mut kernels: Vec<Kernel> = kernels.into_values().collect();
        kernels.sort_by(|a, b| b.ms.total_cmp(&a.ms));
        Self {
            model,
            mode: task.mode,
            image_px: task.image_px,
            batch,
            wall_ms,
            span_ms: ms(last.saturating_sub(first)),
            busy_ms: ms(busy_ns),
            floor_ms: *floor,
            kernels,
        }
    }

    /// Milliseconds and calls of a part.
    fn part(&self, part: Part) -> (f64, u32) {
        let kernels = self.kernels.iter().filter(|kernel| kernel.part == part);
        kernels.fold((0.0, 0), |(ms, calls), kernel| (ms + kernel.ms, calls + kernel.calls))
    }
}

/// Marks of the profiler on the device's time line, which are no work.
fn is_mark(event: &Event) -> bool {
    event.name.starts_with("Context Sync")
        || event.name.starts_with("Stream Sync")
        || event.name.starts_with("Event Sync")
}

#[allow(clippy::cast_precision_loss)] // of a run that takes minutes at most
fn ms(ns: u64) -> f64 {
    ns as f64 / 1e6
}

/// A line for what the profiles were made on, then one for each.
#[must_use]
pub fn lines(header: &Header, profiles: &[Profile]) -> String {
    let mut text = format!("{}\n", serde_json::json!(header));
    for profile in profiles {
        let _ = writeln!(text, "{}", serde_json::json!(profile));
    }
    text
}

/// Kernels that a table shows one by one.
const SHOWN: usize = 24;

/// Tables for people: by part beside the floors, then the most expensive kernels.
#[must_use]
pub fn markdown(header: &Header, profiles: &[Profile]) -> String {
    let driver = header.driver.as_ref().map_or_else(String::new, |driver| format!(", driver {driver}"));
    let mut text = format!(
        "# Where the time goes\n\n{}{driver}, {}, libtorch {}, commit {}, {}. One run under libtorch's profiler, kernels started one \
         by one.\n",
        header.device, header.precision, header.libtorch, header.commit, header.date
    );
    for profile in profiles {
        let Profile { model, mode, image_px, batch, wall_ms, span_ms, busy_ms, floor_ms, kernels } = profile;
        let _ = writeln!(
            text,
            "\n## {model}, {}, {image_px} px, batch {batch}\n\nKernels {busy_ms:.3} ms, from the first to the last {span_ms:.3} ms, seen \
             by the host {wall_ms:.3} ms; floor {:.3} ms, of which {:.3} ms convolution, norms and residual.\n\n\
             | part | ms | share | calls | floor ms | of the floor |\n| --- | --- | --- | --- | --- | --- |",
            mode.name(),
            floor_ms.total_ms(),
            floor_ms.between_ms
        );
        for part in Part::ALL {
            let (ms, calls) = profile.part(part);
            if calls == 0 {
                continue;
            }
            let (floor, share) = part.floor_ms(floor_ms).filter(|floor| *floor > 0.0).map_or_else(
                || (String::new(), String::new()),
                |floor| (format!("{floor:.3}"), format!("{:.0} %", 100.0 * floor / ms)),
            );
            let of_all = 100.0 * ms / busy_ms;
            let _ = writeln!(text, "| {} | {ms:.3} | {of_all:.1} % | {calls} | {floor} | {share} |", part.name());
        }
        text.push_str("\n| kernel | part | calls | ms | µs a call |\n| --- | --- | --- | --- | --- |\n");
        for Kernel { name, part, calls, ms } in kernels.iter().take(SHOWN) {
            let each = 1e3 * ms / f64::from(*calls);
            let name = name.replace('|', "\\|");
            let _ = writeln!(text, "| `{name}` | {} | {calls} | {ms:.3} | {each:.1} |", part.name());
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use dim_report::record::Role;

    use super::*;

    fn event(name: &str, on_gpu: bool, start_ns: u64, duration_ns: u64) -> Event {
        Event { name: name.to_owned(), on_gpu, start_ns, duration_ns }
    }

    const TASK: Task = Task { model: 0, mode: Mode::Forward, image_px: 256, role: Role::Latency };
    const FLOOR: Floor = Floor { products_ms: 1.0, scan_ms: 0.5, between_ms: 0.25 };

    #[test]
    fn kernels_are_summed_and_the_host_is_left_out() {
        let events = [
            event("aten::mm", false, 0, 9_000_000),
            event("nvjet_hsh_128x256", true, 1_000_000, 2_000_000),
            event("selective_scan_fwd_bf16_16", true, 3_500_000, 1_000_000),
            event("nvjet_hsh_128x256", true, 5_000_000, 1_000_000),
            event("Context Sync", true, 0, 50_000_000),
        ];
        let profile = Profile::new("DiM".into(), TASK, 1, 12.0, &events, &FLOOR);
        assert_eq!((profile.busy_ms, profile.span_ms), (4.0, 5.0));
        assert_eq!((profile.part(Part::Products), profile.part(Part::Scan)), ((3.0, 2), (1.0, 1)));
        assert_eq!(profile.kernels.len(), 2);
        assert_eq!(profile.kernels[0].calls, 2);
    }

    #[test]
    fn kernels_are_sorted_by_what_they_do() {
        for (name, part) in [
            ("_ZN5flash16flash_fwd_kernel", Part::Attention),
            ("cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma", Part::Attention),
            ("sm90_xmma_gemm_bf16bf16_bf16f32", Part::Products),
            ("void at::native::vectorized_elementwise_kernel<4, add>", Part::Rest),
            ("Memcpy DtoD (Device -> Device)", Part::Copies),
            ("norm_modulate_fwd_bf16", Part::Norm),
        ] {
            assert_eq!(Part::of(name), part, "{name}");
        }
    }

    #[test]
    fn on_a_cpu_operations_take_the_place_of_kernels() {
        let profile = Profile::new("DiM".into(), TASK, 1, 1.0, &[event("aten::mm", false, 0, 1_000)], &FLOOR);
        assert_eq!(profile.kernels[0].name, "aten::mm");
    }
}
