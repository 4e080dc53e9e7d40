//! `cargo xtask setup`: installs, pinned and inside the checkout only, what a build needs and what is missing.
//!
//! Flow: [`plan`] decides what belongs on this machine, [`stamp`] says what is already there, [`space`] that the rest
//! fits, [`install`] makes it. A run that finds everything starts no Python and takes a fraction of a second.

mod component;
mod error;
mod fashion_mnist;
mod install;
mod libtorch;
mod lock;
mod machine;
mod merge;
mod pip;
mod plan;
mod progress;
mod python;
mod record;
mod space;
mod stamp;

use std::{env::consts, path::Path, time::Instant};

pub(crate) use error::SetupError;
pub(crate) use machine::{has_gpu, is_program};
pub(crate) use plan::Request;

use crate::{process::Interrupt, workspace::Workspace};
use component::Component;
use install::Tools;
use plan::{Machine, Need, Plan};
use python::Python;
use stamp::State;

/// What set-up found and left.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) gpu: bool,
    /// A line for each component that this machine does without.
    pub(crate) left_out: Vec<String>,
}

/// Brings the checkout up to the plan for this machine and says what it did.
pub(crate) fn run(workspace: &Workspace, request: Request, interrupt: &Interrupt) -> Result<Ready, SetupError> {
    let start = Instant::now();
    machine::check_compiler()?;
    let machine = Machine { gpu: has_gpu(), has_own_libtorch: check_own_libtorch(workspace.libtorch_of_the_user())? };
    let plan = plan::plan(machine, request);
    let deps = workspace.deps();

    let missing = to_do(&deps, &plan);
    if !missing.is_empty() {
        machine::check_platform(consts::OS, consts::ARCH)?;
        let _lock = lock::Lock::take(&deps)?;
        // Looked at once more: another set-up may have done the work while this one waited for the lock.
        bring_up(&deps, to_do(&deps, &plan), interrupt)?;
    }
    let elapsed = start.elapsed().as_secs_f64();
    if missing.is_empty() {
        let titles: Vec<_> = plan.wanted.iter().map(|(component, _)| component.title).collect();
        println!("set-up: all there ({}), {elapsed:.1} s", titles.join(", "));
    } else {
        println!("set-up: done in {elapsed:.1} s; everything is in .deps");
    }
    let left_out = plan.left_out.iter().map(|(component, why)| format!("{}: left out, {why}", component.title));
    Ok(Ready { gpu: machine.gpu, left_out: left_out.collect() })
}

/// A `LIBTORCH` of the user's own must be of the right version; the message for a wrong one is better here than
/// after minutes of building.
fn check_own_libtorch(folder: Option<&Path>) -> Result<bool, SetupError> {
    let Some(folder) = folder else { return Ok(false) };
    libtorch::check(folder).map_err(SetupError::Libtorch)?;
    Ok(true)
}

/// A component that is not as planned.
struct Task {
    component: &'static Component,
    need: Need,
    state: State,
}

fn to_do(deps: &Path, plan: &Plan) -> Vec<Task> {
    let tasks = plan.wanted.iter().map(|&(component, need)| {
        let state = stamp::inspect(deps, component);
        Task { component, need, state }
    });
    tasks.filter(|task| task.state != State::Complete).collect()
}

fn bring_up(deps: &Path, tasks: Vec<Task>, interrupt: &Interrupt) -> Result<(), SetupError> {
    let (whole, to_install): (Vec<_>, Vec<_>) = tasks.into_iter().partition(|task| task.state == State::Unstamped);
    for Task { component, .. } in whole {
        stamp::write(deps, component).map_err(SetupError::io("write a stamp", deps))?;
        println!("{}: found whole, kept", component.title);
    }
    let components: Vec<_> = to_install.iter().map(|task| task.component).collect();
    if components.is_empty() {
        return Ok(());
    }
    // What would stop everything is found out before anything is fetched.
    space::check(deps, &components)?;
    let tools = Tools { python: Python::find()?, interrupt };
    for Task { component, need, state } in to_install {
        match install_one(deps, component, &state, &tools) {
            Err(SetupError::Interrupted) => return Err(SetupError::Interrupted),
            Err(error) if need == Need::Optional => {
                println!("{}: skipped, everything else works without it: {error}", component.title);
            }
            result => result?,
        }
    }
    Ok(())
}

fn install_one(deps: &Path, component: &'static Component, state: &State, tools: &Tools<'_>) -> Result<(), SetupError> {
    let start = Instant::now();
    if let State::Broken(why) = state {
        println!("{}: {why}; installing it anew", component.title);
    }
    let (download, installed) = (error::bytes(component.download_bytes), error::bytes(component.installed_bytes));
    println!("{}: installing ({download} to fetch, {installed} on disk) …", component.title);
    install::install(deps, component, tools)?;
    println!("{}: installed in {:.1} s", component.title, start.elapsed().as_secs_f64());
    Ok(())
}
