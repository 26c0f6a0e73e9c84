//! What to hash with, and what a bucket gives.

use crate::error::{Error, Result};

/// Most codes of all tables together: what a lane of a software device loops over before its loops end by themselves.
pub(super) const MOST_CODES: usize = 8192;
/// Most hidden elements: four rows are hashed at a time and lie in 16 KiB of workgroup memory.
pub(super) const MOST_HIDDEN: usize = 1016;
/// Most labels: places in a bucket times the most ids that it gives must fit a word.
pub(super) const MOST_LABELS: usize = (1 << 24) - 1;

/// A family of hash functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Family {
    /// Densified winner-take-all: a code is the place of the largest of eight elements, three bits.
    #[default]
    Dwta,
    /// Signs of sparse random projections with a third of their elements non-zero, one bit a code.
    SimHash,
}

impl Family {
    /// Bits of a code.
    pub const fn bits(self) -> usize {
        match self {
            Self::Dwta => 3,
            Self::SimHash => 1,
        }
    }
}

/// Which ids a bucket gives that holds more than may be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Policy {
    /// The last ids, which is what remains in a ring into which labels are inserted in ascending order. Always the same ones.
    Fifo,
    /// Distinct ids, each with the same chance, drawn anew for each step.
    #[default]
    Reservoir,
    /// Neighbours in the order of ids, from a place that is drawn anew for each step.
    Window,
}

/// Hash functions, tables and buckets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LshOptions {
    /// Hash functions.
    pub family: Family,
    /// Codes K that a key joins: up to 10 of DWTA and 16 of SimHash.
    pub codes: usize,
    /// Tables L.
    pub tables: usize,
    /// The most ids that a look-up takes from a bucket, unless it says so itself ([`super::Query`]): a power of two from 4 to 256.
    pub bucket: usize,
    /// Which ones those are.
    pub policy: Policy,
    /// Decides hash functions and draws.
    pub seed: u64,
}

impl Default for LshOptions {
    fn default() -> Self {
        Self { family: Family::Dwta, codes: 4, tables: 50, bucket: 32, policy: Policy::Reservoir, seed: 1 }
    }
}

impl LshOptions {
    /// Bits of a key.
    pub const fn key_bits(&self) -> usize {
        self.codes * self.family.bits()
    }

    /// Checks that the numbers can be had.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] that names the first which cannot.
    pub fn check(&self) -> Result<()> {
        let most = match self.family {
            Family::Dwta => 10,
            Family::SimHash => 16,
        };
        if self.codes == 0 || self.codes > most {
            return Err(Error::bad_input(format!("a key of {} codes of {:?}", self.codes, self.family))
                .with_help(format!("choose 1 to {most} codes")));
        }
        if self.tables == 0 || self.tables.saturating_mul(self.codes) > MOST_CODES {
            let what = format!("{} hash tables with keys of {} codes", self.tables, self.codes);
            let help = format!("choose 1 to {} tables for that many codes", MOST_CODES / self.codes);
            return Err(Error::bad_input(what).with_help(help));
        }
        if !self.bucket.is_power_of_two() || !(4..=256).contains(&self.bucket) {
            return Err(Error::bad_input(format!("{} ids from a bucket", self.bucket))
                .with_help("choose a power of two from 4 to 256"));
        }
        Ok(())
    }

    pub(in crate::hash) fn check_hidden(&self, hidden: usize) -> Result<()> {
        self.check()?;
        let least = if self.family == Family::Dwta { 8 } else { 1 };
        if !(least..=MOST_HIDDEN).contains(&hidden) {
            return Err(Error::bad_input(format!("hash functions of rows of {hidden} hidden elements"))
                .with_help(format!("choose {least} to {MOST_HIDDEN} hidden elements for {:?}", self.family)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Family, LshOptions};

    #[test]
    fn numbers_that_cannot_be_had_are_refused_with_the_next_step() {
        let good = LshOptions::default();
        good.check().unwrap();
        assert_eq!((good.key_bits(), LshOptions { codes: 10, ..good.clone() }.key_bits()), (12, 30));
        let sim = LshOptions { family: Family::SimHash, codes: 16, ..good.clone() };
        sim.check_hidden(1).unwrap();
        for bad in [
            LshOptions { codes: 0, ..good.clone() },
            LshOptions { codes: 11, ..good.clone() },
            LshOptions { codes: 17, ..sim.clone() },
            LshOptions { tables: 0, ..good.clone() },
            LshOptions { tables: 3000, ..good.clone() },
            LshOptions { tables: usize::MAX, ..good.clone() },
            LshOptions { bucket: 2, ..good.clone() },
            LshOptions { bucket: 48, ..good.clone() },
            LshOptions { bucket: 512, ..good.clone() },
        ] {
            let error = bad.check().unwrap_err();
            assert!(error.kind() == crate::ErrorKind::BadInput && error.help().is_some(), "{bad:?}");
        }
        assert!(good.check_hidden(7).is_err() && good.check_hidden(8).is_ok());
        assert!(good.check_hidden(1016).is_ok() && good.check_hidden(1017).is_err());
    }
}
