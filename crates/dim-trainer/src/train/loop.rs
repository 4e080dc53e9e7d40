//! The training loop, on one page.

use super::session::Session;
use super::state::learning_rate;
use super::task::Task;
use crate::config::RunConfig;
use crate::error::TrainerError;

/// How a session of training ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All images were seen, or the time was up.
    Finished,
    /// Somebody asked the process to stop; the state is saved.
    Interrupted {
        /// What the process should exit with.
        exit_code: u8,
    },
}

/// Trains until all images are seen, the time is up or somebody asks to stop.
///
/// # Errors
/// The first thing that goes wrong; checkpoints saved before it are good.
pub fn train<T: Task>(session: &mut Session<T>) -> Result<Outcome, TrainerError> {
    let (images, batch_size) = (session.config.train().images, session.config.train().batch_size as u64);
    while session.state.images_seen < images {
        let before = session.state.images_seen;
        let batch = session.next_batch()?;
        let lr = learning_rate(session.config.train(), before);

        let (loss, grad_norm) = session.step(&batch, lr)?;
        session.state.images_seen += batch_size;
        session.window.push(loss, grad_norm);

        let end = session.requested_end()?;
        if let Some(exit_code) = end.exit_code {
            session.report(lr)?;
            session.save_checkpoint()?;
            return Ok(Outcome::Interrupted { exit_code });
        }
        if session.state.images_seen >= images || end.time_is_up {
            session.report(lr)?;
            break; // what is due at the end comes below, also for a run that was killed right here
        }
        let due = |every: Option<u64>| every.is_some_and(|every| session.state.images_seen / every > before / every);
        let samples = due(session.config.pictures_every_images());
        let snapshot = due(session.config.train().snapshot_every_images);
        let averages = due(session.config.ema().map(|ema| ema.snapshot_every_images));
        let evaluation = due(session.config.evaluation().map(|evaluation| evaluation.every_images));
        let checkpoint = due(Some(session.config.train().checkpoint_every_images));
        let log = session.state.optimizer.step.is_multiple_of(session.config.train().log_every_steps);
        if log || samples || evaluation || snapshot || averages || checkpoint {
            session.report(lr)?; // before anything is saved: it stops at a loss that is no number
        }
        if samples {
            session.draw_samples()?;
        }
        if evaluation {
            session.evaluate()?;
        }
        if snapshot {
            session.save_snapshot()?;
        }
        if averages {
            session.save_averages()?;
        }
        if checkpoint {
            session.save_checkpoint()?;
        }
    }
    session.finish()?;
    Ok(Outcome::Finished)
}
