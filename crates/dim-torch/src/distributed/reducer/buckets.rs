//! Which part of the flat buffer travels with which.

/// A part of the flat buffer that travels at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bucket {
    /// Where it begins.
    pub(super) start: i64,
    /// Its elements.
    pub(super) length: i64,
    /// The rank whose slice it is a part of; 0 where nothing is split.
    pub(super) owner: usize,
}

/// The part of a parameter that lies in a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) bucket: usize,
    /// Its first element, counted in the bucket and in the parameter.
    pub(super) in_bucket: i64,
    pub(super) in_parameter: i64,
    pub(super) length: i64,
}

/// All buckets, in the order in which they leave.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) buckets: Vec<Bucket>,
    /// Of each parameter.
    pub(super) members: Vec<Vec<Piece>>,
}

impl Plan {
    /// Cuts a buffer of `length` elements from its end into buckets of at most `largest`, none across a border between `parts` equal
    /// parts; parameters begin at `offsets` and have `sizes` elements.
    pub(super) fn new(offsets: &[i64], sizes: &[i64], length: i64, parts: i64, largest: i64) -> Self {
        let part = (length / parts).max(1);
        let mut buckets = Vec::new();
        let mut end = length;
        while end > 0 {
            let owner = (end - 1) / part;
            let start = (end - largest).max(owner * part);
            buckets.push(Bucket { start, length: end - start, owner: owner as usize });
            end = start;
        }
        let pieces = |(&offset, &size): (&i64, &i64)| {
            // Buckets fall: the first that begins before the parameter's end is the first that holds any of it.
            let first = buckets.partition_point(|bucket| bucket.start >= offset + size);
            let overlapping = buckets[first..].iter().take_while(|bucket| bucket.start + bucket.length > offset);
            let piece = |(place, bucket): (usize, &Bucket)| {
                let start = bucket.start.max(offset);
                Piece {
                    bucket: first + place,
                    in_bucket: start - bucket.start,
                    in_parameter: start - offset,
                    length: (bucket.start + bucket.length).min(offset + size) - start,
                }
            };
            overlapping.enumerate().map(piece).collect()
        };
        let members = offsets.iter().zip(sizes).map(pieces).collect();
        Self { buckets, members }
    }

    /// Counts the parameters with a piece in each bucket, of those that `counts`.
    pub(super) fn count_members(&self, of: &mut [usize], counts: impl Fn(usize) -> bool) {
        of.fill(0);
        for (_, pieces) in self.members.iter().enumerate().filter(|(parameter, _)| counts(*parameter)) {
            pieces.iter().for_each(|piece| of[piece.bucket] += 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_travels_once_and_with_its_owner() {
        for (length, parts, largest) in [(640, 1, 200), (640, 2, 128), (640, 5, 1000), (640, 10, 7), (64, 1, 64)] {
            let offsets: Vec<i64> = (0..length / 64).map(|index| index * 64).collect();
            let sizes = vec![50; offsets.len()];
            let plan = Plan::new(&offsets, &sizes, length, parts, largest);
            let mut end = length;
            for bucket in &plan.buckets {
                assert_eq!(bucket.start + bucket.length, end);
                assert!(bucket.length <= largest);
                let part = length / parts;
                assert_eq!((bucket.start / part, (end - 1) / part), (bucket.owner as i64, bucket.owner as i64));
                end = bucket.start;
            }
            assert_eq!(end, 0);
            for (offset, pieces) in offsets.iter().zip(&plan.members) {
                let mut covered = vec![0; 50];
                for piece in pieces {
                    let bucket = plan.buckets[piece.bucket];
                    assert_eq!(bucket.start + piece.in_bucket, offset + piece.in_parameter);
                    assert!(piece.in_bucket + piece.length <= bucket.length);
                    (piece.in_parameter..piece.in_parameter + piece.length)
                        .for_each(|element| covered[element as usize] += 1);
                }
                assert!(covered.iter().all(|&count| count == 1), "{length} {parts} {largest}: {covered:?}");
            }
        }
    }
}
