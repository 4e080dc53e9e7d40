//! Rows of f32 in the host's memory: how CPU kernels reach the elements of checked views.

use std::marker::PhantomData;
use std::ops::Range;

use crate::token_map::TokenMap;
use crate::view::{DType, Device, Layout, TensorView, TensorViewMut};

/// Where the rows of a view lie; a row is its last dimension, and is named by the two dimensions before it.
///
/// A view of fewer dimensions has a single index, zero, in those that it lacks.
#[derive(Clone, Copy, Debug)]
struct Grid {
    shape: [usize; 3],
    strides: [usize; 2],
}

impl Grid {
    fn new(layout: &Layout) -> Self {
        let (shape, strides) = (layout.shape(), layout.strides());
        let rank = shape.len();
        assert!(
            layout.dtype == DType::F32 && layout.device == Device::Cpu && layout.rows_are_contiguous(),
            "the op's check lets only contiguous rows of f32 on the CPU through"
        );
        assert!((1..=3).contains(&rank), "the op's check lets only tensors of one to three dimensions through");
        let mut grid = Self { shape: [1; 3], strides: [0; 2] };
        grid.shape[3 - rank..].copy_from_slice(shape);
        grid.strides[3 - rank..].copy_from_slice(&strides[..rank - 1]);
        grid
    }

    /// Offset of a row's first element.
    #[inline(always)]
    fn offset(&self, i: usize, j: usize) -> usize {
        assert!(i < self.shape[0] && j < self.shape[1], "a row outside of its view");
        i * self.strides[0] + j * self.strides[1]
    }

    #[inline(always)]
    fn check_columns(&self, columns: &Range<usize>) {
        assert!(columns.start <= columns.end && columns.end <= self.shape[2], "columns outside of their row");
    }
}

/// The rows of an input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows<'a> {
    first: *const f32,
    grid: Grid,
    lifetime: PhantomData<&'a [f32]>,
}

/// The rows of an output, which several threads fill.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowsMut<'a> {
    first: *mut f32,
    grid: Grid,
    lifetime: PhantomData<&'a mut [f32]>,
}

// SAFETY: like `&[f32]`, it gives no way to write.
unsafe impl Send for Rows<'_> {}
// SAFETY: as above.
unsafe impl Sync for Rows<'_> {}
// SAFETY: what it gives a way to write, it gives through an unsafe method that asks for disjointness.
unsafe impl Send for RowsMut<'_> {}
// SAFETY: as above.
unsafe impl Sync for RowsMut<'_> {}

impl<'a> Rows<'a> {
    /// The rows of a view that the op's check has passed.
    pub(crate) fn new(view: &TensorView<'a>) -> Self {
        Self { first: view.as_ptr().cast(), grid: Grid::new(&view.layout), lifetime: PhantomData }
    }

    /// Some columns of row `(i, j)`.
    #[inline(always)]
    pub(crate) fn columns(&self, i: usize, j: usize, columns: Range<usize>) -> &'a [f32] {
        self.grid.check_columns(&columns);
        let offset = self.grid.offset(i, j) + columns.start;
        // SAFETY: the indices are inside of the view, whose elements are readable f32 for 'a; a row is contiguous.
        unsafe { std::slice::from_raw_parts(self.first.add(offset), columns.len()) }
    }

    /// Row `(i, j)`.
    #[inline(always)]
    pub(crate) fn row(&self, i: usize, j: usize) -> &'a [f32] {
        self.columns(i, j, 0..self.grid.shape[2])
    }
}

impl<'a> RowsMut<'a> {
    /// The rows of a view that the op's check has passed.
    pub(crate) fn new(view: &'a mut TensorViewMut<'_>) -> Self {
        Self { grid: Grid::new(&view.layout), first: view.as_mut_ptr().cast(), lifetime: PhantomData }
    }

    /// Some columns of row `(i, j)`.
    ///
    /// # Safety
    /// As long as the result lives, nobody may ask for any of the same elements.
    #[inline(always)]
    pub(crate) unsafe fn columns(&self, i: usize, j: usize, columns: Range<usize>) -> &'a mut [f32] {
        self.grid.check_columns(&columns);
        let offset = self.grid.offset(i, j) + columns.start;
        // SAFETY: the indices are inside of the view, whose elements are f32, borrowed exclusively for 'a and distinct;
        // a row is contiguous; the caller keeps the results disjoint.
        unsafe { std::slice::from_raw_parts_mut(self.first.add(offset), columns.len()) }
    }

    /// Row `(i, j)`.
    ///
    /// # Safety
    /// As for [`RowsMut::columns`].
    #[inline(always)]
    pub(crate) unsafe fn row(&self, i: usize, j: usize) -> &'a mut [f32] {
        // SAFETY: the caller keeps the results disjoint.
        unsafe { self.columns(i, j, 0..self.grid.shape[2]) }
    }
}

/// The token of every step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order<'a>(Option<&'a [u32]>);

impl<'a> Order<'a> {
    pub(crate) fn new(map: Option<&'a TokenMap>) -> Self {
        Self(map.map(TokenMap::as_slice))
    }

    #[inline(always)]
    pub(crate) fn token(&self, step: usize) -> usize {
        self.0.map_or(step, |tokens| tokens[step] as usize)
    }
}
