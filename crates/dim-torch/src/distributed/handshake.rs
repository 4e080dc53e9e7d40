//! How processes meet: who is there, and whether all of them are of one mind.

use std::time::{Duration, Instant};

use super::store::Store;
use super::world::Place;
use crate::TorchError;

/// Tells the others who this is, and learns who they are: the machine of every rank.
pub(super) fn handshake(
    store: &Store,
    place: &Place,
    identity: &str,
    patience: Duration,
) -> Result<Vec<String>, TorchError> {
    let failed = |problem: String| TorchError::Join { who: place.describe(), problem };
    let deadline = Instant::now() + patience;
    let key = |rank: usize| format!("hello/{rank}");
    if store.add(&format!("seat/{}", place.rank), 1)? > 1 {
        return Err(failed("another process has this rank".to_owned()));
    }
    store.set(&key(place.rank), &format!("{}\nprocesses {}\n{identity}", place.host, place.size))?;
    let (mut hosts, mut problems) = (Vec::new(), Vec::new());
    for rank in 0..place.size {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let Ok(theirs) = store.get(&key(rank), left) else {
            let after = patience.as_secs_f64();
            return Err(failed(match missing(store, place, key) {
                Ok(ranks) => format!("after {after} s rank {} had not come", ranks.join(" and rank ")),
                Err(error) => format!("after {after} s not all had come, and the store is gone ({error})"),
            }));
        };
        let (host, theirs) = theirs.split_once('\n').unwrap_or((&theirs, ""));
        hosts.push(host.to_owned());
        let ours = format!("processes {}\n{identity}", place.size);
        problems.extend(
            different_lines(&ours, theirs)
                .into_iter()
                .map(|(ours, theirs)| format!("rank {rank} ({host}) has `{theirs}`, rank {} `{ours}`", place.rank)),
        );
        if !problems.is_empty() {
            break; // who differs in the number of processes would wait for some that never come
        }
    }
    if problems.is_empty() {
        return Ok(hosts);
    }
    // Rank 0 holds the store: the others must have read all they need before it ends.
    store.add("disagreed", 1)?;
    while opens_store(place) && store.add("disagreed", 0)? < place.size as i64 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(TorchError::Disagreement { problems })
}

/// How long rank 0 keeps the store for those who ask who is missing.
const GRACE: Duration = Duration::from_secs(5);

/// The ranks that have not come. Those who have all ask at about the same time: rank 0, which holds the store, waits for them.
fn missing(store: &Store, place: &Place, key: impl Fn(usize) -> String) -> Result<Vec<String>, TorchError> {
    let mut ranks = Vec::new();
    for rank in 0..place.size {
        if !store.has(&key(rank))? {
            ranks.push(rank.to_string());
        }
    }
    store.add("gave up", 1)?;
    let (came, until) = ((place.size - ranks.len()) as i64, Instant::now() + GRACE);
    while opens_store(place) && store.add("gave up", 0)? < came && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(ranks)
}

/// Whether this process holds the store.
pub(super) fn opens_store(place: &Place) -> bool {
    place.rank == 0 && !place.launcher_holds_store
}

/// The lines in which two texts differ, in pairs; a missing line is empty.
fn different_lines<'a>(one: &'a str, other: &'a str) -> Vec<(&'a str, &'a str)> {
    let (mut ours, mut theirs) = (one.lines(), other.lines());
    let mut found = Vec::new();
    loop {
        match (ours.next(), theirs.next()) {
            (None, None) => return found,
            (one, other) if one == other => {}
            (one, other) => found.push((one.unwrap_or(""), other.unwrap_or(""))),
        }
    }
}
