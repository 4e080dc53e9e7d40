//! Who is still there: every process counts up a number of its own in the store, so that a failure can be told with the name of
//! who failed.

use std::collections::BTreeSet;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::store::Store;
use crate::TorchError;

/// Time between two beats.
const PERIOD: Duration = Duration::from_millis(500);
/// A process that has not beaten for so long, in which a living one beats several times, is gone.
const PATIENCE: Duration = Duration::from_millis(2500);

/// Where the first to find out writes who is lost.
const VERDICT: &str = "verdict";

/// Beats until it is dropped, and learns what others have found out.
pub(super) struct Heartbeat {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    verdict: Arc<Mutex<Option<String>>>,
}

impl Heartbeat {
    /// Starts to beat for `rank`, over a connection of its own.
    pub(super) fn start(store: Store, rank: usize) -> Result<Self, TorchError> {
        let (stop, stopped) = channel();
        let verdict = Arc::default();
        let heard: Arc<Mutex<Option<String>>> = Arc::clone(&verdict);
        let beat = move || {
            // Where the store is gone, the process that held it is, and the next common operation fails.
            while store.add(&key(rank), 1).is_ok()
                && matches!(stopped.recv_timeout(PERIOD), Err(RecvTimeoutError::Timeout))
            {
                if let Ok(true) = store.has(VERDICT)
                    && let Ok(lost) = store.get(VERDICT, PERIOD)
                {
                    heard.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(lost);
                }
            }
        };
        let thread = thread::Builder::new().name("dim-heartbeat".into()).spawn(beat);
        let thread = thread.map_err(|error| TorchError::Libtorch(format!("no thread for the heartbeat: {error}")))?;
        Ok(Self { stop: Some(stop), thread: Some(thread), verdict })
    }

    /// Who is lost, of `size` processes: what another has found out, or what the beats of all tell; nobody, if all of them beat.
    /// Whoever `holds` the store stays long enough for the others to hear of it.
    ///
    /// # Errors
    /// The store is gone.
    pub(super) fn lost(
        &self,
        store: &Store,
        size: usize,
        holds: bool,
        name: impl Fn(usize) -> String,
    ) -> Result<Option<String>, TorchError> {
        let heard = || self.verdict.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(lost) = heard() {
            return Ok(Some(lost));
        }
        let silent = silent(store, size);
        if let Some(lost) = heard() {
            return Ok(Some(lost)); // before it let the store end
        }
        let silent = silent?;
        if silent.is_empty() {
            return Ok(None);
        }
        let lost = silent.into_iter().map(name).collect::<Vec<_>>().join(", ");
        store.set(VERDICT, &lost)?;
        if holds {
            thread::sleep(4 * PERIOD);
        }
        Ok(Some(lost))
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.stop = None; // wakes the thread
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // it cannot panic, and if it did there would be nobody to tell
        }
    }
}

/// The ranks of `size` processes that no longer beat; waits as long as it takes to tell.
///
/// # Errors
/// The store itself is gone.
fn silent(store: &Store, size: usize) -> Result<Vec<usize>, TorchError> {
    let beats = |rank: usize| store.add(&key(rank), 0);
    let before = (0..size).map(beats).collect::<Result<Vec<_>, _>>()?;
    let mut silent: BTreeSet<usize> = (0..size).collect();
    let deadline = Instant::now() + PATIENCE;
    while !silent.is_empty() && Instant::now() < deadline {
        thread::sleep(PERIOD / 5);
        for rank in silent.clone() {
            if beats(rank)? != before[rank] {
                silent.remove(&rank);
            }
        }
    }
    Ok(silent.into_iter().collect())
}

fn key(rank: usize) -> String {
    format!("beat/{rank}")
}
