//! Device memory of some slots of an array, and what runs on it: blocks of training steps, and evaluations.

use std::collections::HashMap;

use super::super::batch::{self, Augment, DeviceSet};
use super::super::loss::{LossOut, RESULTS};
use super::super::lower::{Plan, Tables, Workspace};
use super::super::optimiser::{self, COEFFICIENTS, Kind, State};
use super::Shared;
use crate::error::Result;
use crate::gpu::{Binding, Control, Gpu, ReadTicket, Recording};
use crate::tensor::{ALIGNED, Element, Tensor};

/// Words of a random stream.
pub(super) const STREAM: usize = 4;

/// Rows of numbers that change from turn to turn, in one array: turn `t` has `[slots, width]` from an aligned place on.
#[derive(Debug)]
pub(super) struct Turns<T: Element> {
    tensor: Tensor<T>,
    slots: usize,
    width: usize,
}

impl<T: Element> Turns<T> {
    async fn new(gpu: &Gpu, turns: usize, slots: usize, width: usize) -> Result<Self> {
        let stride = (slots * width.next_multiple_of(4)).next_multiple_of(ALIGNED);
        Ok(Self { tensor: Tensor::uninit_async(gpu, &[turns, stride]).await?, slots, width })
    }

    fn of(&self, turn: usize) -> Result<Tensor<T>> {
        let first = turn * self.tensor.row_stride();
        let part = self.tensor.at(first, &[self.slots, self.width]);
        part.ok_or_else(|| crate::Error::internal("a turn that was not planned"))
    }

    /// Uploads what `value` says of each turn and slot.
    fn write(&self, gpu: &Gpu, turns: usize, value: impl Fn(usize, usize, &mut [T])) -> Result<()> {
        let (stride, pitch) = (self.tensor.row_stride(), self.width.next_multiple_of(4));
        let mut words = vec![T::default(); turns * stride];
        for (turn, row) in words.chunks_exact_mut(stride).enumerate() {
            for (slot, cell) in row.chunks_exact_mut(pitch).take(self.slots).enumerate() {
                value(turn, slot, &mut cell[..self.width]);
            }
        }
        gpu.upload(self.tensor.buffer(), bytemuck::cast_slice(&words))
    }

    /// What the device wrote, turn by turn and slot by slot.
    fn split(&self, words: &[T], turns: usize) -> Vec<Vec<Vec<T>>> {
        let (stride, pitch) = (self.tensor.row_stride(), self.width.next_multiple_of(4));
        let row = |row: &[T]| row.chunks_exact(pitch).take(self.slots).map(|cell| cell[..self.width].to_vec()).collect();
        words.chunks_exact(stride).take(turns).map(row).collect()
    }
}
