//! In which order the buckets leave.

/// The buckets in the order in which they leave, and how far a backward pass has come in it.
///
/// It begins as the order of the plan. What is computed with in every block, as the time's embedding is, gets its gradient last wherever
/// it lies in the buffer; so the first backward pass says the order.
#[derive(Debug)]
pub(super) struct Departures {
    order: Vec<usize>,
    /// Of each bucket, its place in the order.
    places: Vec<usize>,
    left: usize,
}

impl Departures {
    /// So many buckets, in the order of the plan.
    pub(super) fn new(buckets: usize) -> Self {
        Self { order: (0..buckets).collect(), places: (0..buckets).collect(), left: 0 }
    }

    /// Another order, a permutation.
    pub(super) fn set_order(&mut self, order: Vec<usize>) {
        for (place, &bucket) in order.iter().enumerate() {
            self.places[bucket] = place;
        }
        self.order = order;
    }

    /// The buckets, those first whose last gradient came first in a backward pass. `last_arrival` counts gradients; 0 stands for none.
    pub(super) fn by_arrival(last_arrival: &[u64]) -> Vec<usize> {
        let mut order: Vec<usize> = (0..last_arrival.len()).collect();
        order.sort_by_key(|&bucket| last_arrival[bucket]);
        order
    }

    /// A backward pass begins: all buckets are there.
    pub(super) fn restart(&mut self) {
        self.left = 0;
    }

    /// The bucket that leaves next.
    pub(super) fn next(&self) -> Option<usize> {
        self.order.get(self.left).copied()
    }

    /// It leaves.
    pub(super) fn leave(&mut self) {
        self.left += 1;
    }

    /// Whether a bucket has left.
    pub(super) fn has_left(&self, bucket: usize) -> bool {
        self.places[bucket] < self.left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_leave_as_they_were_completed() {
        let mut departures = Departures::new(4);
        // The plan's first bucket holds what comes last, its third gets no gradient at all.
        departures.set_order(Departures::by_arrival(&[9, 4, 0, 7]));
        let mut left = Vec::new();
        while let Some(bucket) = departures.next() {
            assert!(!departures.has_left(bucket));
            departures.leave();
            assert!(departures.has_left(bucket));
            left.push(bucket);
        }
        assert_eq!(left, [2, 1, 3, 0]);
        departures.restart();
        assert_eq!(departures.next(), Some(2));
        assert!((0..4).all(|bucket| !departures.has_left(bucket)));
    }
}
