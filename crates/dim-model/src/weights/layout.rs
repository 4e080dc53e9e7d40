//! How one parameter's layout differs between the authors' code and ours.

use tch::Tensor;

/// The difference between the authors' layout of a parameter and ours; going there and back changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// The same sizes in the same order.
    Same,
    /// Theirs `[1, …]`, ours without the leading one (tables that they broadcast over the batch).
    LeadingOne,
    /// Theirs `[channel, 1, …]`, ours `[channel, …]` (the one input channel of a depthwise convolution).
    SecondOne,
    /// Theirs `[1, channel, token]`, ours `[token, channel]`.
    ChannelMajor,
    /// Theirs `[output, input]`, ours `[output, input, 1, 1]` (a linear map over the channels of every pixel).
    PointConvolution,
}

impl Layout {
    /// Our shape of a parameter that has the authors' shape `authors`; `None` if their layout cannot have it.
    #[must_use]
    pub fn shape_to_ours(self, authors: &[i64]) -> Option<Vec<i64>> {
        match (self, authors) {
            (Self::Same, _) => Some(authors.to_vec()),
            (Self::LeadingOne, [1, rest @ ..]) => Some(rest.to_vec()),
            (Self::SecondOne, [channels, 1, rest @ ..]) => Some([&[*channels], rest].concat()),
            (Self::ChannelMajor, [1, channels, tokens]) => Some(vec![*tokens, *channels]),
            (Self::PointConvolution, [outputs, inputs]) => Some(vec![*outputs, *inputs, 1, 1]),
            _ => None,
        }
    }

    /// The authors' shape of a parameter that has our shape `ours`; `None` if our layout cannot have it.
    #[must_use]
    pub fn shape_to_authors(self, ours: &[i64]) -> Option<Vec<i64>> {
        match (self, ours) {
            (Self::Same, _) => Some(ours.to_vec()),
            (Self::LeadingOne, _) => Some([&[1], ours].concat()),
            (Self::SecondOne, [channels, rest @ ..]) => Some([&[*channels, 1], rest].concat()),
            (Self::ChannelMajor, [tokens, channels]) => Some(vec![1, *channels, *tokens]),
            (Self::PointConvolution, [outputs, inputs, 1, 1]) => Some(vec![*outputs, *inputs]),
            _ => None,
        }
    }

    /// A view of the authors' tensor in our layout; `None` if their layout cannot have its shape.
    #[must_use]
    pub fn to_ours(self, authors: &Tensor) -> Option<Tensor> {
        self.shape_to_ours(&authors.size())?;
        match self {
            Self::Same => Some(authors.shallow_clone()),
            Self::LeadingOne => authors.f_squeeze_dim(0).ok(),
            Self::SecondOne => authors.f_squeeze_dim(1).ok(),
            Self::ChannelMajor => authors.f_squeeze_dim(0).and_then(|grid| grid.f_transpose(0, 1)).ok(),
            Self::PointConvolution => authors.f_unsqueeze(2).and_then(|map| map.f_unsqueeze(3)).ok(),
        }
    }

    /// A view of our tensor in the authors' layout; `None` if our layout cannot have its shape.
    #[must_use]
    pub fn to_authors(self, ours: &Tensor) -> Option<Tensor> {
        self.shape_to_authors(&ours.size())?;
        match self {
            Self::Same => Some(ours.shallow_clone()),
            Self::LeadingOne => ours.f_unsqueeze(0).ok(),
            Self::SecondOne => ours.f_unsqueeze(1).ok(),
            Self::ChannelMajor => ours.f_transpose(0, 1).and_then(|grid| grid.f_unsqueeze(0)).ok(),
            Self::PointConvolution => ours.f_squeeze_dim(3).and_then(|map| map.f_squeeze_dim(2)).ok(),
        }
    }

    /// The authors' layout in words, for errors.
    pub(super) fn authors_form(self) -> &'static str {
        match self {
            Self::Same => "[…]",
            Self::LeadingOne => "[1, …]",
            Self::SecondOne => "[channel, 1, …]",
            Self::ChannelMajor => "[1, channel, token]",
            Self::PointConvolution => "[output, input]",
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;
    use tch::{Device, Kind};

    use super::*;

    const LAYOUTS: [Layout; 5] =
        [Layout::Same, Layout::LeadingOne, Layout::SecondOne, Layout::ChannelMajor, Layout::PointConvolution];

    proptest! {
        #[test]
        fn layouts_go_there_and_back_and_tensors_agree_with_shapes(
            layout in prop::sample::select(&LAYOUTS),
            shape in prop::collection::vec(0i64..4, 0..5),
        ) {
            let tensor = Tensor::arange(shape.iter().product::<i64>(), (Kind::Int64, Device::Cpu)).view(&shape[..]);
            let authors = layout.to_authors(&tensor);
            prop_assert_eq!(authors.as_ref().map(Tensor::size), layout.shape_to_authors(&shape));
            if let Some(authors) = authors {
                let back = layout.to_ours(&authors).unwrap();
                prop_assert_eq!(back.size(), shape.clone());
                prop_assert!(back.equal(&tensor));
                prop_assert_eq!(layout.shape_to_ours(&authors.size()), Some(shape.clone()));
            }
            let ours = layout.to_ours(&tensor);
            prop_assert_eq!(ours.as_ref().map(Tensor::size), layout.shape_to_ours(&shape));
            if let Some(ours) = ours {
                let back = layout.to_authors(&ours).unwrap();
                prop_assert_eq!(back.size(), shape);
                prop_assert!(back.equal(&tensor));
            }
        }
    }

    #[test]
    fn channel_major_tables_are_transposed() {
        let authors = Tensor::from_slice(&[0.0f32, 1.0, 2.0, 10.0, 11.0, 12.0]).view([1, 2, 3]);
        let ours = Layout::ChannelMajor.to_ours(&authors).unwrap();
        let expected = Tensor::from_slice(&[0.0f32, 10.0, 1.0, 11.0, 2.0, 12.0]).view([3, 2]);
        assert!(ours.equal(&expected));
    }
}
