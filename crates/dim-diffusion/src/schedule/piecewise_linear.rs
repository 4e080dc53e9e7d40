//! A function given by its values at increasing knots, straight in between and beyond.

use tch::Tensor;

/// A strictly monotone function through the points `(knots[i], values[i])`, extended by its outermost segments.
#[derive(Debug)]
pub(super) struct PiecewiseLinear {
    knots: Tensor,
    values: Tensor,
}

impl PiecewiseLinear {
    /// `knots` must increase and number at least two; both are one-dimensional, of one length, kind and device.
    pub(super) fn new(knots: Tensor, values: Tensor) -> Self {
        Self { knots, values }
    }

    /// The inverse of a function whose values fall.
    pub(super) fn inverse_of_falling(&self) -> Self {
        Self { knots: self.values.flip([0]), values: self.knots.flip([0]) }
    }

    /// The knots and the values there.
    pub(super) fn points(&self) -> (Tensor, Tensor) {
        (self.knots.shallow_clone(), self.values.shallow_clone())
    }

    pub(super) fn at(&self, x: &Tensor) -> Tensor {
        let [x_0, x_1, y_0, y_1] = self.segment(x);
        &y_0 + (x - &x_0) * (y_1 - &y_0) / (x_1 - &x_0)
    }

    pub(super) fn slope_at(&self, x: &Tensor) -> Tensor {
        let [x_0, x_1, y_0, y_1] = self.segment(x);
        (y_1 - y_0) / (x_1 - x_0)
    }

    /// Both ends of the segment that each `x` lies on; a knot belongs to the segment on its left.
    fn segment(&self, x: &Tensor) -> [Tensor; 4] {
        let last_segment = self.knots.size()[0] - 2;
        let (knots, values) = (self.knots.to_device(x.device()), self.values.to_device(x.device()));
        let start = (x.bucketize(&knots, false, false) - 1).clamp(0, last_segment);
        let end = &start + 1;
        [knots.take(&start), knots.take(&end), values.take(&start), values.take(&end)]
    }
}
