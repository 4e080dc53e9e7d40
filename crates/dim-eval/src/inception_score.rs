//! The inception score: how sure a classifier is of each image, and how different its answers are.
//!
//! `exp(mean of KL(p(y|x) ‖ p(y)))` (Salimans et al. 2016, arXiv 1606.03498, section 4), in parts of the images whose mean and spread are
//! reported. Only sums are kept: of a part's probabilities, and of `Σ p ln p`.

use tch::{Device, Kind, Tensor};

use crate::EvalError;

/// Sums over the images so far, part by part.
#[derive(Debug)]
pub struct InceptionScore {
    images: u64,
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    count: u64,
    /// Sum of the probabilities, `[class]`, f64 on the CPU.
    probabilities: Tensor,
    /// Sum over images and classes of `p ln p`.
    negative_entropy: f64,
}

/// Mean over the parts, and their standard deviation (over their number).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MeanStd {
    /// Mean.
    pub mean: f64,
    /// Standard deviation.
    pub std: f64,
}

impl MeanStd {
    /// Of some values.
    #[must_use]
    pub fn of(values: &[f64]) -> Self {
        let count = values.len().max(1) as f64;
        let mean = values.iter().sum::<f64>() / count;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
        Self { mean, std: variance.sqrt() }
    }
}

impl InceptionScore {
    /// Of `images` images to come, in `parts` parts of neighbours, as equal as can be.
    ///
    /// # Errors
    /// [`EvalError::TooFewImages`] for parts of less than two images, [`EvalError::Argument`] for none.
    pub fn new(classes: usize, images: u64, parts: usize) -> Result<Self, EvalError> {
        if parts == 0 {
            let (expected, got) = ("at least 1".to_owned(), "0".to_owned());
            return Err(EvalError::Argument { argument: "the parts of the inception score", expected, got });
        }
        let needed = 2 * parts as u64;
        if images < needed {
            return Err(EvalError::TooFewImages {
                quantity: "an inception score of so many parts",
                needed,
                got: images,
            });
        }
        let part = |_| {
            let probabilities = Tensor::f_zeros([classes as i64], (Kind::Double, Device::Cpu))?;
            Ok::<_, EvalError>(Part { count: 0, probabilities, negative_entropy: 0.0 })
        };
        Ok(Self { images, parts: (0..parts).map(part).collect::<Result<_, _>>()? })
    }

    /// Takes in scores before the softmax, `[image, class]`, of images the first of which is number `first` of the set.
    ///
    /// # Errors
    /// [`EvalError::Dimension`], [`EvalError::NotFinite`], [`EvalError::Argument`] for images beyond the number that was announced.
    pub fn add(&mut self, first: u64, logits: &Tensor) -> Result<(), EvalError> {
        let size = logits.size();
        let classes = self.parts[0].probabilities.numel();
        if size.len() != 2 || size[1] != classes as i64 {
            let got = format!("a tensor of shape {size:?}");
            return Err(EvalError::Dimension { what: "scores of classes", expected: classes, got });
        }
        let end = first + size[0].unsigned_abs();
        if end > self.images {
            let (expected, got) = (format!("at most {}", self.images), end.to_string());
            return Err(EvalError::Argument { argument: "the number of images", expected, got });
        }
        let logits = logits.detach().f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?;
        crate::statistics::refuse_what_is_no_number(&logits, first)?;
        let log_p = logits.f_log_softmax(1, Kind::Double)?;
        let p = log_p.f_exp()?;
        let entropies = p.f_mul(&log_p)?.f_sum_dim_intlist(&[1_i64][..], false, Kind::Double)?;
        let parts = self.parts.len() as u64;
        for (number, part) in self.parts.iter_mut().enumerate() {
            let number = number as u64;
            let (start, stop) = (number * self.images / parts, (number + 1) * self.images / parts);
            let (from, to) = (start.max(first), stop.min(end));
            if from >= to {
                continue;
            }
            let (offset, count) = ((from - first) as i64, (to - from) as i64);
            let sum = p.f_narrow(0, offset, count)?.f_sum_dim_intlist(&[0_i64][..], false, Kind::Double)?;
            part.probabilities = part.probabilities.f_add(&sum)?;
            part.negative_entropy += entropies.f_narrow(0, offset, count)?.f_sum(Kind::Double)?.double_value(&[]);
            part.count += to - from;
        }
        Ok(())
    }

    /// Number of its parts.
    #[must_use]
    pub fn parts(&self) -> u64 {
        self.parts.len() as u64
    }

    /// All that is known, to be stored: for each part the sum of its images' probabilities, then the sum of `p ln p`, then the number of
    /// images; `[part, class + 2]`, f64.
    ///
    /// # Errors
    /// No memory.
    pub fn sums(&self) -> Result<Tensor, EvalError> {
        let row = |part: &Part| {
            let rest = Tensor::f_from_slice(&[part.negative_entropy, part.count as f64])?;
            Tensor::f_cat(&[&part.probabilities, &rest], 0)
        };
        Ok(Tensor::f_stack(&self.parts.iter().map(row).collect::<Result<Vec<_>, _>>()?, 0)?)
    }

    /// What [`sums`](Self::sums) gave, of a set of `images` images.
    ///
    /// # Errors
    /// [`EvalError::Dimension`] for another shape.
    pub fn from_sums(images: u64, sums: &Tensor) -> Result<Self, EvalError> {
        let wrong = || {
            let got = format!("shape {:?}", sums.size());
            EvalError::Dimension { what: "the sums of an inception score", expected: 2, got }
        };
        let &[_, width] = sums.size().as_slice() else { return Err(wrong()) };
        let classes = width - 2;
        if classes < 1 {
            return Err(wrong());
        }
        let part = |row: Tensor| {
            Ok::<_, EvalError>(Part {
                probabilities: row.f_narrow(0, 0, classes)?.copy(),
                negative_entropy: row.double_value(&[classes]),
                count: row.double_value(&[classes + 1]) as u64,
            })
        };
        Ok(Self { images, parts: sums.f_unbind(0)?.into_iter().map(part).collect::<Result<_, _>>()? })
    }

    /// Takes in what `other` has seen of the same set.
    ///
    /// # Errors
    /// [`EvalError::Argument`] for a set of another size or in other parts.
    pub fn merge(&mut self, other: &Self) -> Result<(), EvalError> {
        let of = |score: &Self| format!("of {} images in {} parts", score.images, score.parts.len());
        if of(self) != of(other) {
            return Err(EvalError::Argument { argument: "another score", expected: of(self), got: of(other) });
        }
        for (part, other) in self.parts.iter_mut().zip(&other.parts) {
            part.count += other.count;
            part.probabilities = part.probabilities.f_add(&other.probabilities)?;
            part.negative_entropy += other.negative_entropy;
        }
        Ok(())
    }

    /// The score.
    ///
    /// # Errors
    /// [`EvalError::TooFewImages`] before all images have come.
    pub fn score(&self) -> Result<MeanStd, EvalError> {
        let got = self.parts.iter().map(|part| part.count).sum();
        if got != self.images {
            return Err(EvalError::TooFewImages {
                quantity: "the inception score of this set",
                needed: self.images,
                got,
            });
        }
        let of_part = |part: &Part| {
            let mean = part.probabilities.f_div_scalar(part.count as f64)?;
            // A class that no image is of adds nothing.
            let entropy = mean.f_xlogy(&mean)?.f_sum(Kind::Double)?.double_value(&[]);
            Ok::<_, EvalError>((part.negative_entropy / part.count as f64 - entropy).exp())
        };
        Ok(MeanStd::of(&self.parts.iter().map(of_part).collect::<Result<Vec<_>, _>>()?))
    }
}
