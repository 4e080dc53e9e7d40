//! A folder of single images, which a command that was stopped goes on with.

use std::path::{Path, PathBuf};

use dim_data::Image;
use rayon::prelude::*;

use crate::error::TrainerError;
use crate::files;
use crate::format::counted;
use crate::png_file;
use crate::provenance::{Drawing, Of};

/// The folder that the images of a command go to.
pub(super) struct ImageFolder<'a> {
    path: PathBuf,
    drawing: &'a Drawing,
}

impl<'a> ImageFolder<'a> {
    /// Who leads creates the folder if need be, and makes sure that it can be written to, before others open it.
    ///
    /// # Errors
    /// [`TrainerError::Write`].
    pub(super) fn open(path: &Path, drawing: &'a Drawing, leads: bool) -> Result<Self, TrainerError> {
        if leads {
            files::create_folder(path)?;
            files::remove_leftovers(path)?;
            files::check_writable(&path.join("000000.png"))?;
        }
        Ok(Self { path: path.to_owned(), drawing })
    }

    /// Which of `images` are still to be drawn: those that are not there, and those whose file is damaged, which is told if `tells`.
    ///
    /// # Errors
    /// [`TrainerError::OtherSamples`] if one is there that was drawn otherwise; [`TrainerError::Picture`] if it does not say how it
    /// was drawn.
    pub(super) fn missing(&self, images: &[Of], tells: bool) -> Result<Vec<u64>, TrainerError> {
        let state = |image: &Of| Ok::<_, TrainerError>((image.index, self.state(image)?));
        let states: Vec<(u64, State)> = images.par_iter().map(state).collect::<Result<_, _>>()?;
        for (index, state) in &states {
            if let (State::Damaged(problem), true) = (state, tells) {
                eprintln!("warning: {problem}; image {index} is drawn again");
            }
        }
        let missing: Vec<u64> =
            states.iter().filter(|(_, state)| !matches!(state, State::Drawn)).map(|(index, _)| *index).collect();
        let there = images.len() - missing.len();
        if there > 0 && tells {
            eprintln!("{} of {} are drawn already", counted(there, "image"), images.len());
        }
        Ok(missing)
    }

    fn state(&self, image: &Of) -> Result<State, TrainerError> {
        let path = self.file(image.index);
        if !path.exists() {
            return Ok(State::Missing);
        }
        let texts = match png_file::read(&path) {
            Ok((_, texts)) => texts,
            // What is no PNG at all is somebody else's.
            Err(error @ TrainerError::Picture { .. }) if png_file::is_png(&path) => {
                return Ok(State::Damaged(error.to_string()));
            }
            Err(error) => return Err(error),
        };
        match self.drawing.differences(image, &texts) {
            Some(differences) if differences.is_empty() => Ok(State::Drawn),
            Some(differences) => Err(TrainerError::OtherSamples { path, differences }),
            None => Err(TrainerError::Picture {
                path,
                problem:
                    "it is in the way: it does not say how it was drawn, so it is not a sample of this program; choose \
                          another folder with `--folder`"
                        .to_owned(),
            }),
        }
    }

    /// Writes images, each to its file.
    ///
    /// # Errors
    /// [`TrainerError::Write`].
    pub(super) fn write(&self, images: &[(Of, Image)]) -> Result<(), TrainerError> {
        images.par_iter().try_for_each(|(of, image)| {
            let bytes = png_file::encode(image, &self.drawing.texts_of(of))?;
            files::write_bytes_atomically(&self.file(of.index), &bytes)
        })
    }

    /// Reads an image that was drawn before.
    ///
    /// # Errors
    /// As [`png_file::read`].
    pub(super) fn read(&self, index: u64) -> Result<Image, TrainerError> {
        Ok(png_file::read(&self.file(index))?.0)
    }

    /// `000012.png`, so that names sort as numbers do.
    fn file(&self, index: u64) -> PathBuf {
        self.path.join(format!("{index:06}.png"))
    }
}

/// What stands in the place of an image.
enum State {
    Missing,
    Drawn,
    Damaged(String),
}
