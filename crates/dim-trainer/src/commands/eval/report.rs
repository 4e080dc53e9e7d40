//! The page of an evaluation: pictures, numbers, and how they change with guidance.

use std::fs;
use std::path::Path;

use dim_report::evaluation::{Evaluation, Judged, page as draw};
use serde_json::Value;

use super::networks::Outcome;
use crate::error::TrainerError;

/// The page, which needs nothing else: the pictures in `folder` are in it.
///
/// # Errors
/// [`TrainerError::Read`] for a picture that is gone.
pub(super) fn page(outcomes: &[Outcome], results: &Value, folder: &Path) -> Result<String, TrainerError> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let extractor = text(&results["features"]);
    let mut facts = vec![("features".to_owned(), extractor.clone())];
    facts.push(("resizing".to_owned(), text(&results["origin"]["preprocessing"])));
    facts.push(("reference".to_owned(), text(&results["reference"]["path"])));
    let count = results["reference"]["count"].as_u64().filter(|&count| count > 0);
    facts.push(("images of the reference".to_owned(), count.map_or("not known".to_owned(), |count| count.to_string())));
    let judged = |outcome: &Outcome| {
        let path = folder.join(&outcome.picture);
        let picture = fs::read(&path).map_err(|source| TrainerError::read(&path, source))?;
        Ok::<_, TrainerError>(Judged {
            network: outcome.network.clone(),
            cfg_scale: outcome.cfg_scale,
            guided: outcome.guided,
            samples: outcome.samples,
            scores: outcome.scores.named(&extractor),
            notes: outcome.notes.clone(),
            picture,
        })
    };
    let judged = outcomes.iter().map(judged).collect::<Result<_, _>>()?;
    Ok(draw(&Evaluation { facts, judged }))
}
