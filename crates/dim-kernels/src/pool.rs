//! Scratch memory that the tasks of one call hand on to each other.

use std::sync::{Mutex, PoisonError};

/// Scratch spaces: as many as tasks run at once, however many there are in all.
pub(crate) struct Pool<T, New> {
    free: Mutex<Vec<T>>,
    new: New,
}

impl<T, New: Fn() -> T> Pool<T, New> {
    /// A pool that makes a space when none is free.
    pub(crate) fn new(new: New) -> Self {
        Self { free: Mutex::new(Vec::new()), new }
    }

    /// Lends a space, as the last task left it.
    pub(crate) fn with<R>(&self, task: impl FnOnce(&mut T) -> R) -> R {
        let free = || self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = free().pop();
        let mut space = taken.unwrap_or_else(&self.new);
        let result = task(&mut space);
        free().push(space);
        result
    }
}
