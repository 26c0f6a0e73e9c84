//! Which samples a member sees in which step: shuffled epochs, a pure function of seed and step.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use crate::ops::random::{Stream, purpose};

/// Most indices that are kept: 256 MiB.
const KEPT: usize = 1 << 26;

/// A shuffled epoch.
type Epoch = Arc<Vec<u32>>;

/// The order of samples.
#[derive(Debug)]
pub(super) struct Order {
    samples: usize,
    batch: usize,
    shared: Option<u64>,
    /// Shuffled epochs that are in use, by seed and epoch.
    epochs: Mutex<HashMap<(u64, u64), Epoch>>,
}

impl Order {
    pub fn new(samples: usize, batch: usize, shared: Option<u64>) -> Self {
        Self { samples, batch, shared, epochs: Mutex::default() }
    }

    /// Full batches of an epoch; the rest of the samples, fewer than a batch, are left to another epoch's order.
    pub fn batches(&self) -> u64 {
        (self.samples / self.batch) as u64
    }

    /// Writes the samples of a member's step, counted from 0.
    pub fn write(&self, seed: u64, step: u64, ids: &mut [u32]) {
        let (epoch, batch) = (step / self.batches(), (step % self.batches()) as usize);
        let order = self.epoch(self.shared.unwrap_or(seed), epoch);
        ids.copy_from_slice(&order[batch * self.batch..][..ids.len()]);
    }

    fn epoch(&self, seed: u64, epoch: u64) -> Epoch {
        let mut epochs = self.epochs.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // A member needs one epoch at a time; what others still use is made again if need be.
        if epochs.len() * self.samples > KEPT {
            epochs.clear();
        }
        let draw = || Arc::new(Stream::new(seed).permutation(self.samples, epoch as u32, purpose::SHUFFLE));
        let found = epochs.entry((seed, epoch)).or_insert_with(draw).clone();
        if epoch > 0 {
            epochs.remove(&(seed, epoch - 1));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::Order;

    /// The samples of some steps, batches of three.
    fn seen(order: &Order, seed: u64, steps: std::ops::Range<u64>) -> Vec<u32> {
        let of_step = |step| {
            let mut ids = [0; 3];
            order.write(seed, step, &mut ids);
            ids
        };
        steps.flat_map(of_step).collect()
    }

    #[test]
    fn every_epoch_holds_everything_once_in_an_order_of_its_own() {
        let order = Order::new(12, 3, None);
        let epochs = [0..4, 4..8, 8..12].map(|steps| seen(&order, 7, steps));
        for epoch in &epochs {
            let mut sorted = epoch.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..12).collect::<Vec<u32>>());
        }
        assert!(epochs[0] != epochs[1] && epochs[1] != epochs[2] && epochs[0] != epochs[2], "{epochs:?}");
        // Whatever was asked for before, and across the end of an epoch.
        assert_eq!(seen(&order, 7, 2..6), [&epochs[0][6..], &epochs[1][..6]].concat());
        assert_ne!(seen(&order, 8, 0..4), epochs[0]);
        assert_eq!(seen(&Order::new(12, 3, Some(7)), 8, 0..4), epochs[0]);
    }
}
