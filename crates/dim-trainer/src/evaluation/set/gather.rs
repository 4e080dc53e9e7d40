//! What several processes know of a set, each of its own images, brought together.

use dim_eval::{InceptionScore, Statistics};
use dim_torch::distributed::World;
use tch::{Device, Kind, Tensor};

use super::{Set, sums::Sums};
use crate::error::TrainerError;

impl Set {
    /// All that the processes know, at the leader; the others' sets stay what they are. Of all processes the images follow each other by rank.
    ///
    /// # Errors
    /// The name of a process that is lost; [`TrainerError::Unsupported`] for moments of other programs.
    pub(crate) fn gathered(mut self, world: &World) -> Result<Self, TrainerError> {
        let [height, width] = self.resolution.unwrap_or_default();
        let own = [self.count() as usize, self.kept_images(), height, width].map(|number| number as i64);
        let numbers = world.gather(&own)?;
        let tensors = self.tensors()?;
        if !world.leads() {
            for (_, tensor) in &tensors {
                world.send(&tensor.f_contiguous()?, 0)?.wait()?;
            }
            return Ok(self);
        }
        // Kept features are there only of those who have some, and come last.
        let shapes: Vec<_> = tensors.iter().filter(|(name, _)| name != "features").map(|(_, tensor)| tensor).collect();
        for (rank, numbers) in numbers.iter().enumerate().skip(1) {
            let &[count, kept, height, width] = numbers.as_slice() else {
                return Err(TrainerError::Unsupported(format!(
                    "rank {rank} sent {} numbers of its set",
                    numbers.len()
                )));
            };
            let receive = |empty: Tensor| -> Result<Tensor, TrainerError> {
                world.receive(&empty, rank)?.wait()?;
                Ok(empty)
            };
            let received = shapes.iter().map(|like| receive(like.f_zeros_like()?)).collect::<Result<Vec<_>, _>>()?;
            let rows = [kept, self.dimension() as i64];
            let kept = (kept > 0).then(|| receive(Tensor::f_zeros(rows, (Kind::Float, Device::Cpu))?)).transpose()?;
            let resolution = (height > 0).then_some([height as usize, width as usize]);
            self.merge(count as u64, received, kept, resolution)?;
        }
        Ok(self)
    }

    /// Takes in what another process knows of the `count` images that follow: its tensors in the order of [`Set::tensors`], and its kept features.
    fn merge(
        &mut self,
        count: u64,
        tensors: Vec<Tensor>,
        kept: Option<Tensor>,
        resolution: Option<[usize; 2]>,
    ) -> Result<(), TrainerError> {
        if count == 0 {
            return Ok(());
        }
        self.resolution =
            if self.count() == 0 { resolution } else { self.resolution.filter(|own| Some(*own) == resolution) };
        let mut tensors = tensors.into_iter();
        let mut next = || {
            let missing = || TrainerError::Unsupported("a process sent less of its set than it has".to_owned());
            tensors.next().ok_or_else(missing)
        };
        for sums in [Some(&mut self.features), self.spatial.as_mut()].into_iter().flatten() {
            if let Sums::Known(statistics) = sums {
                statistics.merge(&Statistics::from_sums(count, next()?, next()?)?)?;
            }
        }
        if let Some(score) = &mut self.score {
            score.merge(&InceptionScore::from_sums(self.images, &next()?)?)?;
        }
        let room = self.keep.saturating_sub(self.kept_images()) as i64;
        if let Some(kept) = kept.filter(|_| room > 0) {
            self.kept.push(kept.f_narrow(0, 0, room.min(kept.size()[0]))?);
        }
        Ok(())
    }
}
