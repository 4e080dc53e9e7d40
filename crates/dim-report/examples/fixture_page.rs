//! Renders a run, or the made-up one of the tests, to look at: `fixture_page OUT.html [RUN.jsonl]`; beside it, as `OUT.training.html` and
//! `OUT.several.html`, the pages of made-up runs of training.

use std::{env, error::Error, fs, path::Path};

#[path = "../tests/fixture/mod.rs"]
mod fixture;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let out = arguments.next().ok_or("usage: fixture_page OUT.html [RUN.jsonl]")?;
    let run = match arguments.next() {
        Some(path) => dim_report::Run::read(Path::new(&path))?,
        None => fixture::run(),
    };
    fs::write(&out, dim_report::page(&run))?;
    fs::write(Path::new(&out).with_extension("md"), dim_report::markdown(&run))?;
    let runs = fixture::training::runs();
    fs::write(Path::new(&out).with_extension("training.html"), dim_report::training::page(&runs[..1]))?;
    fs::write(Path::new(&out).with_extension("several.html"), dim_report::training::page(&runs))?;
    Ok(())
}
