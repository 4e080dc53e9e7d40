//! `bench-scaling`: times whole networks against each other as images grow, and makes a report of it.

#![forbid(unsafe_code)]

use std::fs;
use std::io::{stdin, stdout};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::SystemTime;

use clap::Parser;
use dim_bench::scaling::sweep::{Conversation, Sweep};
use dim_bench::scaling::worker::{Ready, Worker};
use dim_bench::scaling::{SweepConfig, SweepError, plan, profile};
use dim_report::machine::{commit_of, date, driver_version, processor};
use dim_report::record::{DeviceKind, Header, Run, RunWriter, VERSION};

/// The sweeps that the program carries with it.
const QUICK: &str = include_str!("../../../configs/bench/quick.toml");
const FULL: &str = include_str!("../../../configs/bench/full.toml");
/// libtorch's version, which the program is linked against.
const LIBTORCH: &str = "2.11.0";

/// Times DiM and the networks it is measured against as images grow; writes run.jsonl, summary.md and report.html.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    /// What to measure; by default the full sweep, on a CPU the quick one
    #[arg(long, value_name = "FILE", conflicts_with = "quick")]
    config: Option<PathBuf>,
    /// Small networks and sizes, minutes on two cores: shows that everything works
    #[arg(long)]
    quick: bool,
    /// Folder for the results
    #[arg(long, value_name = "DIR", default_value = "bench-scaling")]
    out: PathBuf,
    /// Go on with the results in the folder
    #[arg(long)]
    resume: bool,
    /// `auto` (a GPU if there is one), `cpu` or `cuda:N`
    #[arg(long, default_value = "auto", value_name = "DEVICE")]
    device: String,
    /// CPU threads; by default one for each physical core
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Measure only models with this in their name
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// Pass over points of which one run would take longer
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0)]
    longest_run: f64,
    /// The commit that was compiled; by default what git says here
    #[arg(long, value_name = "HASH")]
    commit: Option<String>,
    /// Measure nothing; list the points
    #[arg(long)]
    list: bool,
    /// Measure nothing; make summary and report anew from the folder's run.jsonl
    #[arg(long, conflicts_with = "resume")]
    report: bool,
    /// Time no point; run each once under a profiler, and say in profile.md and profile.jsonl which kernel took how long
    #[arg(long, conflicts_with_all = ["resume", "report", "compare"])]
    profile: bool,
    /// Compare with this earlier run.jsonl; fail if something became slower
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// With --compare: measure nothing, compare this run.jsonl instead
    #[arg(long, value_name = "FILE", requires = "compare")]
    with: Option<PathBuf>,
    /// Slower by more than so many hundredths, and beyond both runs' spreads, is a failure
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0)]
    margin: f64,
    /// Compare although the runs are of different devices
    #[arg(long)]
    force: bool,
    /// Answer tasks on standard input, with the sweep of this text
    #[arg(long, hide = true, value_name = "TOML")]
    worker: Option<String>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<ExitCode, SweepError> {
    let threads = arguments.threads.map_or_else(num_cpus::get_physical, usize::from);
    if let Some(text) = &arguments.worker {
        let config = SweepConfig::parse(text, "the sweep")?;
        Worker::start(config, &arguments.device, threads)?.serve(stdin().lock(), stdout().lock())?;
        return Ok(ExitCode::SUCCESS);
    }
    // Read before minutes are spent on measuring: it may be missing or broken.
    let old = arguments.compare.as_deref().map(Run::read).transpose()?;
    let new = match &arguments.with {
        Some(path) => Run::read(path)?,
        None if arguments.list => return list(arguments),
        None if arguments.profile => return profile(arguments, threads),
        None => {
            let path = arguments.out.join("run.jsonl");
            if !arguments.report {
                sweep(arguments, &path, threads)?;
            }
            let run = Run::read(&path)?;
            write_report(&run, &arguments.out)?;
            run
        }
    };
    let Some(old) = old else { return Ok(ExitCode::SUCCESS) };
    let comparison = dim_report::compare(&old, &new, arguments.margin / 100.0, arguments.force)?;
    print!("{}", comparison.table());
    Ok(if comparison.has_regressions() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn list(arguments: &Arguments) -> Result<ExitCode, SweepError> {
    let (text, origin) = config_text(arguments, !arguments.quick)?;
    let config = SweepConfig::parse(&text, &origin)?;
    for task in plan(&config) {
        let (model, batch) = (&config.models[task.model].name, config.batch(&task));
        println!("{model}, {}, {} px, {}, batch {batch}", task.mode.name(), task.image_px, task.role.name());
    }
    Ok(ExitCode::SUCCESS)
}

/// Profiles every point, in this process: there are few, and a point that does not fit is left out.
fn profile(arguments: &Arguments, threads: usize) -> Result<ExitCode, SweepError> {
    let (text, origin) = config_text(arguments, !arguments.quick)?;
    let config = SweepConfig::parse(&text, &origin)?;
    let mut worker = Worker::start(config.clone(), &arguments.device, threads)?;
    let (markdown, lines) = (arguments.out.join("profile.md"), arguments.out.join("profile.jsonl"));
    let write = |path: &Path, text: &str| {
        fs::write(path, text).map_err(|source| SweepError::File { action: "write", path: path.to_owned(), source })
    };
    fs::create_dir_all(&arguments.out).map_err(|source| SweepError::File {
        action: "write",
        path: arguments.out.clone(),
        source,
    })?;
    let header = header(arguments, worker.ready(), &config, text, arguments.quick);
    let mut profiles = Vec::new();
    for task in plan(&config) {
        if !config.models[task.model].name.contains(&arguments.only) {
            continue;
        }
        match worker.profile(task) {
            Ok(profile) => profiles.push(profile),
            Err(error) => eprintln!("left out: {}, {} px: {error}", config.models[task.model].name, task.image_px),
        }
        // After each: what was seen is kept if a later one ends the program.
        write(&lines, &profile::lines(&header, &profiles))?;
        write(&markdown, &profile::markdown(&header, &profiles))?;
    }
    println!("{}\n{}", markdown.display(), lines.display());
    Ok(ExitCode::SUCCESS)
}

/// The sweep's text, and what it is called in errors.
fn config_text(arguments: &Arguments, full: bool) -> Result<(String, String), SweepError> {
    match &arguments.config {
        Some(path) => {
            let text = fs::read_to_string(path).map_err(|source| SweepError::File {
                action: "read",
                path: path.clone(),
                source,
            })?;
            Ok((text, path.display().to_string()))
        }
        None => Ok((if full { FULL } else { QUICK }.to_owned(), "the built-in sweep".to_owned())),
    }
}

fn sweep(arguments: &Arguments, path: &Path, threads: usize) -> Result<(), SweepError> {
    let file_error = |action, source| SweepError::File { action, path: path.to_owned(), source };
    if path.exists() && !arguments.resume {
        let source = std::io::Error::other("it exists; go on with it by --resume, or give another folder by --out");
        return Err(file_error("write", source));
    }
    fs::create_dir_all(&arguments.out).map_err(|source| file_error("write", source))?;
    let resumed = if arguments.resume { Some(RunWriter::resume(path)?) } else { None };
    // Which sweep it is may depend on the device, which the first worker tells; any sweep serves to ask it.
    let quick = arguments.quick || (arguments.config.is_none() && !has_gpu(arguments, threads)?);
    let (text, origin) = config_text(arguments, !quick)?;
    let config = SweepConfig::parse(&text, &origin)?;
    let worker = || worker(arguments, &text, threads);
    let conversation = Conversation::start(&mut worker())?;
    let header = header(arguments, conversation.ready(), &config, text.clone(), quick);
    let (mut writer, known) = match resumed {
        Some((writer, run)) => {
            check_same(&run.header, &header, path)?;
            (writer, run.points)
        }
        None => (RunWriter::create(path, &header)?, Vec::new()),
    };
    eprintln!("{}; Ctrl-C stops, --resume goes on", header.device);
    if header.device_kind == DeviceKind::Cpu {
        eprintln!("This is a CPU: small sizes, which say nothing about a GPU.");
    }
    let (only, longest_run_s) = (arguments.only.as_str(), arguments.longest_run);
    Sweep { config: &config, worker: &worker, only, longest_run_s }.run(conversation, &known, &mut writer)
}

fn has_gpu(arguments: &Arguments, threads: usize) -> Result<bool, SweepError> {
    Ok(Conversation::start(&mut worker(arguments, QUICK, threads))?.ready().on_gpu)
}

/// The process that measures, with the settings that its libraries read when they are loaded.
fn worker(arguments: &Arguments, text: &str, threads: usize) -> Command {
    let program = std::env::current_exe().unwrap_or_else(|_| "bench-scaling".into());
    let mut command = Command::new(program);
    command.args(["--worker", text, "--device", &arguments.device, "--threads", &threads.to_string()]);
    // Two pools of threads take turns on the processors: OpenMP's must not spin while the kernels' work.
    command.envs([("OMP_WAIT_POLICY", "passive"), ("OMP_DYNAMIC", "false")]);
    command
}

fn header(arguments: &Arguments, ready: &Ready, config: &SweepConfig, text: String, quick: bool) -> Header {
    let cpu = processor();
    Header {
        version: VERSION,
        device: ready.gpu.clone().unwrap_or_else(|| cpu.clone()),
        device_kind: if ready.on_gpu { DeviceKind::Cuda } else { DeviceKind::Cpu },
        driver: ready.on_gpu.then(driver_version),
        libtorch: LIBTORCH.to_owned(),
        cpu,
        threads: ready.threads,
        precision: ready.precision.clone(),
        commit: arguments.commit.clone().or_else(|| commit_of(Path::new("."))).unwrap_or_else(|| "unknown".to_owned()),
        date: date(SystemTime::now()),
        quick,
        config: text,
        groups: config.groups.clone(),
    }
}

/// A run goes on only as what it was.
fn check_same(old: &Header, new: &Header, path: &Path) -> Result<(), SweepError> {
    let mut problems = Vec::new();
    for (what, old, new) in [
        ("device", &old.device, &new.device),
        ("precision", &old.precision, &new.precision),
        ("sweep", &old.config, &new.config),
    ] {
        if old != new {
            let shown = if what == "sweep" { "another text".to_owned() } else { format!("{old}, here {new}") };
            problems.push(format!("another {what}: there {shown}"));
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(SweepError::Config { origin: format!("going on with {}", path.display()), problems })
}

fn write_report(run: &Run, out: &Path) -> Result<(), SweepError> {
    for warning in &run.warnings {
        eprintln!("warning: {warning}");
    }
    for (name, text) in [("summary.md", dim_report::markdown(run)), ("report.html", dim_report::page(run))] {
        let path = out.join(name);
        fs::write(&path, text).map_err(|source| SweepError::File { action: "write", path: path.clone(), source })?;
        println!("{}", path.display());
    }
    Ok(())
}
