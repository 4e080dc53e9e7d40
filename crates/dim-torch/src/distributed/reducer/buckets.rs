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

/// Where layers begin, in rising order: parameters lie at `offsets`, and their names say which are one layer's, all in `blocks.3.` for
/// instance. A layer is what is numbered first in a name, or the name's beginning.
pub(super) fn layer_starts<'a>(names: impl Iterator<Item = &'a str>, offsets: &[i64]) -> Vec<i64> {
    let layer = |name: &'a str| {
        let mut ends = name.match_indices('.').map(|(end, _)| end);
        let numbered = |&end: &usize| name[..end].rsplit('.').next().is_some_and(|last| last.parse::<u32>().is_ok());
        let first = ends.clone().next();
        &name[..ends.find(numbered).or(first).unwrap_or(name.len())]
    };
    let mut parameters: Vec<(i64, &str)> = offsets.iter().copied().zip(names.map(layer)).collect();
    parameters.sort_unstable();
    parameters.dedup_by_key(|&mut (_, layer)| layer);
    parameters.into_iter().map(|(offset, _)| offset).collect()
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
    /// parts, and where a layer is no larger than a bucket none across the beginning of a layer that it does not hold whole; parameters begin at
    /// `offsets` and have `sizes` elements, layers begin at those of the `layers`, which rise.
    pub(super) fn new(
        (offsets, sizes): (&[i64], &[i64]),
        layers: &[i64],
        length: i64,
        parts: i64,
        largest: i64,
    ) -> Self {
        let part = (length / parts).max(1);
        let mut buckets = Vec::new();
        let mut end = length;
        while end > 0 {
            let owner = (end - 1) / part;
            let earliest = (end - largest).max(owner * part);
            let layer = layers[layers.partition_point(|&layer| layer < earliest)..].first();
            let start = layer.copied().filter(|&layer| layer < end).unwrap_or(earliest);
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
    fn layers_are_what_names_number() {
        let names = [
            "embed.weight",
            "embed.bias",
            "blocks.0.norm",
            "blocks.0.mamba.in",
            "blocks.10.norm",
            "down.1.2.a",
            "down.1.3.a",
            "end",
        ];
        let offsets = [0, 64, 128, 192, 256, 320, 384, 448];
        assert_eq!(layer_starts(names.into_iter(), &offsets), [0, 128, 256, 320, 448]);
        // In the order of the buffer, which need not be that of the names.
        let names = ["blocks.0.table", "blocks.0.norm", "blocks.1.table", "blocks.1.norm"];
        assert_eq!(layer_starts(names.into_iter(), &[128, 0, 192, 64]), [0, 64, 128, 192]);
    }

    #[test]
    fn buckets_hold_whole_layers_where_these_fit() {
        let starts = |largest| {
            let plan = Plan::new((&[], &[]), &[0, 100, 200, 350, 400], 460, 1, largest);
            plan.buckets.iter().map(|bucket| bucket.start).collect::<Vec<_>>()
        };
        assert_eq!(starts(160), [350, 200, 100, 0]);
        assert_eq!(starts(260), [200, 0]);
        assert_eq!(starts(70), [400, 350, 280, 210, 200, 130, 100, 30, 0], "a layer that does not fit is cut");
        assert_eq!(starts(1000), [0]);
    }

    #[test]
    fn every_element_travels_once_and_with_its_owner() {
        for (length, parts, largest) in [(640, 1, 200), (640, 2, 128), (640, 5, 1000), (640, 10, 7), (64, 1, 64)] {
            let offsets: Vec<i64> = (0..length / 64).map(|index| index * 64).collect();
            let sizes = vec![50; offsets.len()];
            let plan = Plan::new((&offsets, &sizes), &[0, 64, 320], length, parts, largest);
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
