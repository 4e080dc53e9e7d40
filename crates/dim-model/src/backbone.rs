//! What all networks have in common.

use dim_torch::{ParameterSpec, Parameters, distributed::World};
use tch::Tensor;

use crate::{ConfigError, Cost, ModelError, Precision, Recompute};

/// A network that predicts the noise in an image. Its tensors are views of the [`Parameters`] that it owns.
pub trait Backbone {
    /// Predicts the noise in `x`, `[batch, channel, row, column]`, at network time `t`, `[batch]` (0 to 1000), for `class`,
    /// `[batch]` i64 (`None`: no class); of the shape of `x`, f32.
    ///
    /// # Errors
    /// A shape, type or label that does not fit, named in the error.
    fn forward(&self, x: &Tensor, t: &Tensor, class: Option<&Tensor>) -> Result<Tensor, ModelError>;

    /// The network's parameters.
    fn parameters(&self) -> &Parameters;

    /// Chooses what backward computes again.
    fn set_recompute(&mut self, recompute: Recompute);

    /// From now on splits the tokens of every image over all processes of `world`, which then run [`Backbone::forward`] together, with the same
    /// inputs, and all get the whole result. They go back through it together, too, each from the same loss of the whole result; the gradients of the
    /// parameters are then the sum of what each process has.
    ///
    /// # Errors
    /// [`ModelError::Sequence`] for a network without a scan.
    fn split_sequence(&mut self, world: &World) -> Result<(), ModelError> {
        let _ = world;
        Err(ModelError::Sequence)
    }

    /// Draws fresh weights; each parameter's depend on `seed` and its name alone.
    ///
    /// # Errors
    /// An error of libtorch.
    fn initialise(&self, seed: u64) -> Result<(), ModelError>;
}

/// The sizes of a network, from which all else follows.
pub trait BackboneConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// All problems at once, each naming the field, what it must be and what it is.
    fn validate(&self) -> Result<(), ConfigError>;

    /// Name and shape of every parameter, in the order of the published state dictionary.
    fn parameter_specs(&self) -> Vec<ParameterSpec>;

    /// The network over `parameters`, which must be those of [`BackboneConfig::parameter_specs`].
    ///
    /// # Errors
    /// An invalid configuration, or a parameter that is missing.
    fn build(&self, parameters: Parameters, precision: Precision) -> Result<Box<dyn Backbone>, ModelError>;

    /// Side of the square input that the network is made for, in pixels of its input (latents count as pixels).
    fn image_size(&self) -> usize;

    /// The same network made for another size.
    #[must_use]
    fn with_image_size(&self, image_size: usize) -> Self
    where
        Self: Sized;

    /// Channels of the input and of the predicted noise.
    fn in_channels(&self) -> usize;

    /// Number of classes; 0 for a network that takes none.
    fn classes(&self) -> usize;

    /// The label that means "no class", if there is one.
    fn null_class(&self) -> Option<usize>;

    /// What the sides of an input must be multiples of.
    fn size_multiple(&self) -> usize;

    /// Length of the sequence that the blocks see, for an input of these sides; pixels for a network without tokens.
    fn tokens(&self, height: usize, width: usize) -> usize;

    /// Which parameters are used together and nowhere else, as [`dim_torch::Parameters::sharded`] takes it; none for a network that cannot run with slices
    /// of its parameters.
    fn parameter_units(&self) -> Vec<String> {
        Vec::new()
    }

    /// Whether the tokens of an input of these sides can be split over so many processes ([`Backbone::split_sequence`]).
    ///
    /// # Errors
    /// [`ModelError::Sequence`] for a network without a scan; [`ModelError::Input`] for an input that is too small.
    fn check_split(&self, height: usize, width: usize, processes: usize) -> Result<(), ModelError> {
        let _ = (height, width, processes);
        Err(ModelError::Sequence)
    }

    /// Multiply-accumulates of one image's forward pass in matrix products, by part.
    fn cost(&self, height: usize, width: usize) -> Cost;

    /// Number of parameters.
    fn parameter_count(&self) -> u64 {
        self.parameter_specs().iter().map(|spec| spec.elements().unsigned_abs()).sum()
    }
}
