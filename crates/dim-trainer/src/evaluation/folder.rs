//! From a folder of images to sets: of whole images, and of patches of them. One thread reads and resizes ahead while the device computes.

use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::thread;

use dim_data::Image;
use dim_data::sources::ImageFiles;
use dim_eval::PatchGrid;
use dim_eval::features::Input;
use dim_torch::distributed::World;
use rayon::prelude::*;
use tch::Device;

use super::extractor::Extractor;
use super::measure::{Measure, Measuring, input_of};
use super::metric::Needs;
use super::set::Set;
use crate::error::TrainerError;

/// Images that are read at once, at least; each may be cut into hundreds of patches, which wait in memory.
const READ_AT_ONCE: usize = 16;
/// The same of each thread, so that few of them wait for the last one.
const READ_BY_EACH: usize = 4;

/// How folders are measured.
pub(crate) struct Folders<'a> {
    pub extractor: &'a Extractor,
    pub device: Device,
    pub batch_size: usize,
    /// Which patches are measured, too; of them mean and covariance alone.
    pub patches: Option<PatchGrid>,
    /// The processes that measure a share each; what all of them know is the leader's in the end.
    pub world: Option<&'a World>,
}

/// What is known of the images of a folder.
pub(crate) struct FolderSets {
    /// Of whole images.
    pub whole: Set,
    /// Of patches.
    pub patches: Option<Set>,
}

/// An image as the network is to see it, and its patches.
struct Prepared {
    whole: Image,
    size: [usize; 2],
    patches: Vec<Image>,
}

impl Folders<'_> {
    /// Measures every image of a folder; `progress` hears how many are done.
    ///
    /// # Errors
    /// The first image that cannot be read or is smaller than a patch, by name; features that are no numbers; no memory.
    pub(crate) fn measure(
        &self,
        files: &ImageFiles,
        subject: serde_json::Value,
        needs: Needs,
        mut progress: impl FnMut(usize),
    ) -> Result<FolderSets, TrainerError> {
        let _no_grad = tch::no_grad_guard();
        let measure = Measure { network: &*self.extractor.network, device: self.device, batch_size: self.batch_size };
        let paths = files.paths();
        let share = self.world.map_or(0..paths.len(), |world| {
            let first = |rank: usize| paths.len() * rank / world.size();
            first(world.rank())..first(world.rank() + 1)
        });
        let set = |needs, subject| {
            let set = Set::new(self.extractor, needs, paths.len() as u64, self.device, subject)?;
            Ok::<_, TrainerError>(set.starting_at(share.start as u64))
        };
        let mut whole = Measuring::new(measure, set(needs, subject.clone())?);
        let mut patches = Measuring::new(measure, set(Needs::default(), subject)?);
        let (input, grid) = (measure.network.input(), self.patches);
        let at_once = match grid {
            None => READ_AT_ONCE.max(READ_BY_EACH * rayon::current_num_threads()),
            Some(_) => READ_AT_ONCE,
        };
        thread::scope(|scope| {
            let (sender, receiver) = sync_channel(1);
            scope.spawn(move || {
                for paths in paths[share].chunks(at_once) {
                    let prepared: Vec<_> = paths.par_iter().map(|path| prepare(path, input, grid.as_ref())).collect();
                    // Of several that cannot be read, the first by name is told.
                    let prepared: Result<Vec<Prepared>, TrainerError> = prepared.into_iter().collect();
                    let failed = prepared.is_err();
                    if sender.send(prepared).is_err() || failed {
                        break;
                    }
                }
            });
            let mut done = 0;
            for prepared in receiver {
                for Prepared { whole: image, size, patches: cut } in prepared? {
                    done += 1;
                    whole.push(image, size)?;
                    let side = grid.map_or(0, |grid| grid.size());
                    cut.into_iter().try_for_each(|patch| patches.push(patch, [side; 2]))?;
                }
                progress(done);
            }
            Ok::<_, TrainerError>(())
        })?;
        let (mut whole, mut patches) = (whole.finish()?, grid.map(|_| patches.finish()).transpose()?);
        if let Some(world) = self.world {
            whole = whole.gathered(world)?;
            patches = patches.map(|patches| patches.gathered(world)).transpose()?;
        }
        Ok(FolderSets { whole, patches })
    }
}

fn prepare(path: &Path, input: Input, grid: Option<&PatchGrid>) -> Result<Prepared, TrainerError> {
    let image = ImageFiles::load(path)?;
    let resized = |image: Image| input_of(input, image);
    let patches = match grid {
        None => Vec::new(),
        Some(grid) => {
            let corners = grid
                .corners(image.height(), image.width())
                .map_err(|error| TrainerError::Unsupported(format!("{}: {error}", path.display())))?;
            let patch = |(row, column)| resized(image.cut(row, column, grid.size(), grid.size())?);
            corners.into_iter().map(patch).collect::<Result<_, _>>()?
        }
    };
    let size = [image.height(), image.width()];
    Ok(Prepared { whole: resized(image)?, size, patches })
}
