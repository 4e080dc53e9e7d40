//! One drawing to pixels.

use resvg::tiny_skia::{Color, Pixmap, Transform};
use resvg::usvg::{ImageHrefResolver, Options, Tree};

use crate::decode::guarded;

/// Names the code that renders; part of the cache's fingerprint, to be changed with whatever changes pixels.
pub(super) const RENDERER: &str = "resvg 0.49, fitted and centred";

/// Renders an SVG as `size` x `size` RGB pixels, `[row, column, channel]`, fitted and centred, on a background.
///
/// Text in an SVG is not drawn, since it would look different on machines with different fonts; no drawing of OpenMoji has
/// any. Nothing is read but `svg`: references to other files are ignored.
pub(super) fn render(svg: &[u8], size: usize, background: [u8; 3]) -> Result<Vec<u8>, String> {
    guarded(|| {
        let options = Options {
            image_href_resolver: ImageHrefResolver {
                resolve_string: Box::new(|_, _| None),
                ..ImageHrefResolver::default()
            },
            ..Options::default()
        };
        let tree = Tree::from_data(svg, &options).map_err(|error| error.to_string())?;
        let side = u32::try_from(size).map_err(|error| error.to_string())?;
        let mut pixmap =
            Pixmap::new(side, side).ok_or_else(|| format!("{size} x {size} pixels cannot be allocated"))?;
        let [red, green, blue] = background;
        pixmap.fill(Color::from_rgba8(red, green, blue, 255));
        let (width, height) = (tree.size().width(), tree.size().height());
        let scale = side as f32 / width.max(height);
        let margin = |length: f32| (side as f32 - length * scale) / 2.0;
        let transform = Transform::from_row(scale, 0.0, 0.0, scale, margin(width), margin(height));
        resvg::render(&tree, transform, &mut pixmap.as_mut());
        // The background is opaque, so every pixel is, and premultiplied colours are the colours.
        Ok(pixmap.data().chunks_exact(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect())
    })
}
