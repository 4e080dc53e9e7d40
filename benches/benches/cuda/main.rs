//! The CUDA kernels beside their floors, timed by criterion with CUDA events: `cargo bench -p dim-bench --bench cuda`.
//!
//! The program needs the NVIDIA driver and nothing else, so that it can be taken to a machine without cargo. An op whose
//! results differ from the f64 reference is not timed. Results go to the file of `--out`, as lines of JSON;
//! `--table` prints such a file as Markdown beside the existing ops and the targets.
#![forbid(unsafe_code)]
#![allow(missing_docs)]

mod adamw_ema;
mod causal_conv1d;
mod norm_modulate;
mod selective_scan;

use std::cell::RefCell;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::Parser;
use criterion::{Criterion, SamplingMode};
use dim_bench::cuda::{Case, Ceilings, Check, Clock, Machine, Record, Run, Spread, read_records, table};
use dim_kernels::gpu::Gpu;
use dim_kernels::{KernelError, TokenMap};
use dim_report::machine::{commit_of, date, driver_version};

/// An op: its name, its check, and everything there is to time.
struct Op {
    name: &'static str,
    check: Check,
    cases: fn() -> Vec<Case>,
}

/// One line an op.
const OPS: [Op; 4] = [
    Op { name: "selective_scan", check: selective_scan::check, cases: selective_scan::cases },
    Op { name: "causal_conv1d", check: causal_conv1d::check, cases: causal_conv1d::cases },
    Op { name: "norm_modulate", check: norm_modulate::check, cases: norm_modulate::cases },
    Op { name: "adamw_ema", check: adamw_ema::check, cases: adamw_ema::cases },
];

/// Times the CUDA kernels.
#[derive(Debug, Parser)]
struct Arguments {
    /// Write a line of JSON for each timing to this file, which is replaced.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Time only what has this in its name, such as selective_scan/forward or /16x4494x.
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// The commit that was compiled; by default what git says here.
    #[arg(long, value_name = "HASH")]
    commit: Option<String>,
    /// Seconds for each case.
    #[arg(long, value_name = "SECONDS", default_value_t = 0.4)]
    seconds: f64,
    /// The number of the GPU.
    #[arg(long, value_name = "N", default_value_t = 0)]
    device: usize,
    /// Time nothing; print this file of results as a Markdown table.
    #[arg(long, value_name = "FILE")]
    table: Option<PathBuf>,
    /// Time nothing; list the cases.
    #[arg(long)]
    list: bool,
    /// Given by `cargo bench`, without meaning here.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Returns whether every op was sound.
fn run(arguments: &Arguments) -> Result<bool, String> {
    if let Some(path) = &arguments.table {
        let shown = path.display();
        let text = fs::read_to_string(path).map_err(|error| format!("{shown}: {error}"))?;
        print!("{}", table::markdown(&read_records(&text).map_err(|error| format!("{shown}: {error}"))?));
        return Ok(true);
    }
    if arguments.list {
        OPS.iter().flat_map(|op| (op.cases)()).for_each(|case| println!("{}", case.name()));
        return Ok(true);
    }
    let gpu = match Gpu::open(arguments.device) {
        Ok(gpu) => gpu,
        Err(error) => {
            println!("nothing was timed: there is no GPU {} here ({error})", arguments.device);
            return Ok(arguments.out.is_none());
        }
    };
    Session::start(&gpu, arguments).and_then(|mut session| session.run(arguments))
}

/// A run on one GPU.
struct Session<'a> {
    gpu: &'a Gpu,
    clock: Clock<'a>,
    ceilings: Ceilings,
    machine: Machine,
    l2_bytes: usize,
    criterion: Criterion,
    out: Option<fs::File>,
}

impl<'a> Session<'a> {
    fn start(gpu: &'a Gpu, arguments: &Arguments) -> Result<Self, String> {
        let out = match &arguments.out {
            Some(path) => Some(fs::File::create(path).map_err(|error| format!("{}: {error}", path.display()))?),
            None => None,
        };
        let text = |error: KernelError| error.to_string();
        let mut clock = Clock::new(gpu).map_err(text)?;
        let copy = clock.copy_bytes_per_s().map_err(text)?;
        let ceilings = Ceilings::new(copy, gpu.multiprocessors().map_err(text)?, gpu.clock_hz().map_err(text)?);
        let machine = Machine {
            card: gpu.name().map_err(text)?,
            driver: driver_version(),
            copy_bytes_per_s: copy,
            exponentials_per_s: ceilings.exponentials_per_s,
            commit: arguments
                .commit
                .clone()
                .or_else(|| commit_of(Path::new(".")))
                .unwrap_or_else(|| "unknown".to_owned()),
            date: date(SystemTime::now()),
        };
        println!("{}, driver {}, copy {:.2} TB/s", machine.card, machine.driver, copy / 1e12);
        let criterion = Criterion::default()
            .without_plots()
            .sample_size(10)
            .nresamples(1000)
            .warm_up_time(Duration::from_millis(50))
            .measurement_time(Duration::from_secs_f64(arguments.seconds.clamp(0.01, 60.0)));
        let l2_bytes = gpu.l2_bytes().map_err(text)?;
        Ok(Self { gpu, clock, ceilings, machine, l2_bytes, criterion, out })
    }

    fn run(&mut self, arguments: &Arguments) -> Result<bool, String> {
        let mut sound = true;
        for op in OPS {
            let cases: Vec<Case> =
                (op.cases)().into_iter().filter(|case| case.name().contains(&arguments.only)).collect();
            if cases.is_empty() {
                continue;
            }
            if let Err(message) = (op.check)(self.gpu) {
                println!("{} is wrong and was not timed: {message}", op.name);
                sound = false;
                continue;
            }
            for case in &cases {
                for warm in [false, true] {
                    self.time(case, warm).map_err(|error| format!("{}: {error}", case.name()))?;
                }
            }
        }
        Ok(sound)
    }

    /// Times a case with its inputs in memory, or, if the cache can hold them, warm.
    fn time(&mut self, case: &Case, warm: bool) -> Result<(), Box<dyn std::error::Error>> {
        #[allow(clippy::cast_precision_loss)] // a size in memory
        let l2_bytes = self.l2_bytes as f64;
        if warm && case.work.bytes > l2_bytes {
            return Ok(());
        }
        // Sets of buffers take turns until all together are twice what the cache holds.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a small positive number
        let buffer_sets = if warm { 1 } else { (2.0 * l2_bytes / case.work.bytes).ceil().clamp(1.0, 64.0) as usize };
        let mut sets: Vec<Run> = (0..buffer_sets).map(|_| (case.make)(self.gpu)).collect::<Result<_, _>>()?;
        let queue = self.gpu.queue();
        let mut next = 0;
        let mut call = || {
            next = (next + 1) % sets.len();
            sets[next](&queue)
        };
        // The first calls load kernels and copy token maps.
        self.clock.seconds_per_call(u32::try_from(buffer_sets)?, &mut call)?;
        let estimate = self.clock.seconds_per_call(2, &mut call)?;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a small positive number
        let calls = (1e-3 / estimate).ceil().clamp(1.0, 50.0) as u32;

        let cache = if warm { "warm" } else { "cold" };
        let samples = RefCell::new(Vec::new());
        let failure = RefCell::new(None);
        let clock = &mut self.clock;
        let mut group = self.criterion.benchmark_group(format!("{}/{}", case.op, case.direction));
        group.sampling_mode(SamplingMode::Flat);
        group.bench_function(format!("{}/{cache}", case.name()), |bencher| {
            // An iteration is a batch of calls; what criterion is told is the time of one call.
            bencher.iter_custom(|batches| {
                let mut total = 0.0;
                for _ in 0..batches {
                    match clock.seconds_per_call(calls, &mut call) {
                        Ok(seconds) => {
                            samples.borrow_mut().push(seconds);
                            total += seconds;
                        }
                        Err(error) => *failure.borrow_mut() = Some(error),
                    }
                }
                Duration::from_secs_f64(total)
            });
        });
        group.finish();
        if let Some(error) = failure.into_inner() {
            return Err(error.into());
        }
        self.keep(case, cache, buffer_sets, calls, &samples.into_inner())
    }

    fn keep(
        &mut self,
        case: &Case,
        cache: &str,
        buffer_sets: usize,
        calls: u32,
        samples: &[f64],
    ) -> Result<(), Box<dyn std::error::Error>> {
        let Spread { p10, median, p90 } = Spread::of(samples);
        let floor = self.ceilings.floor_s(case.work);
        let record = Record {
            op: case.op.to_owned(),
            direction: case.direction.to_owned(),
            shape: case.shape.clone(),
            dtype: case.dtype.to_owned(),
            token_map: case.token_map,
            cache: cache.to_owned(),
            buffer_sets,
            samples: samples.len(),
            calls,
            median_us: 1e6 * median,
            p10_us: 1e6 * p10,
            p90_us: 1e6 * p90,
            bytes: case.work.bytes,
            exponentials: case.work.exponentials,
            floor_us: 1e6 * floor,
            floor_share: floor / median,
            machine: self.machine.clone(),
        };
        println!(
            "{} {cache}: {:.1} us ({:.1} to {:.1}), floor {:.1} us, {:.0} % of it",
            case.name(),
            record.median_us,
            record.p10_us,
            record.p90_us,
            record.floor_us,
            100.0 * record.floor_share
        );
        if let Some(out) = &mut self.out {
            writeln!(out, "{}", serde_json::to_string(&record)?)?;
        }
        Ok(())
    }
}

/// Column by column through a padded square grid behind five tokens, as a block of the network walks it (spec: the scan
/// direction farthest from the order in memory); another number of tokens than such a grid has is walked backwards.
fn token_map(token: usize) -> TokenMap {
    const PREFIX: usize = 5;
    let side = (token - PREFIX).isqrt();
    let is_grid = side * side == token - PREFIX;
    let map = (0..token).map(|step| match step.checked_sub(PREFIX) {
        Some(cell) if is_grid => PREFIX + cell % side * side + cell / side,
        Some(_) => token - 1 - (step - PREFIX),
        None => step,
    });
    #[allow(clippy::cast_possible_truncation)] // a sequence of 2^32 tokens does not fit any memory
    let map = TokenMap::new(map.map(|token| token as u32).collect());
    map.unwrap_or_else(|error| unreachable!("each token is visited once: {error}"))
}
