//! The model of a chunk: how often each symbol occurs, in 4096ths, and how that is written down.

use super::payload::damaged;
use crate::error::Result;

/// Bits of a frequency.
pub(super) const BITS: u32 = 12;
/// Sum of all frequencies.
pub(super) const SUM: u32 = 1 << BITS;

/// Frequencies of 256 symbols with sum 4096, at least 1 for those that occur; the kernel `rans_table` says why.
pub(super) fn frequencies(counts: &[u32; 256]) -> [u32; 256] {
    let mut fixed = [false; 256];
    let (mut slots, mut mass) = (u64::from(SUM), counts.iter().map(|&c| u64::from(c)).sum::<u64>());
    let share = |count: u32, slots: u64, mass: u64| {
        let product = u64::from(count) * slots;
        (product / mass.max(1), product % mass.max(1))
    };
    loop {
        let small = |&s: &usize| counts[s] > 0 && !fixed[s] && share(counts[s], slots, mass).0 == 0;
        let small: Vec<usize> = (0..256).filter(small).collect();
        if small.is_empty() {
            break;
        }
        for s in small {
            fixed[s] = true;
            slots -= 1;
            mass -= u64::from(counts[s]);
        }
    }
    let mut frequencies: [u32; 256] = std::array::from_fn(|s| match (counts[s], fixed[s]) {
        (0, _) => 0,
        (_, true) => 1,
        (count, false) => share(count, slots, mass).0 as u32,
    });
    let mut others: Vec<usize> = (0..256).filter(|&s| counts[s] > 0 && !fixed[s]).collect();
    // A stable sort: the first symbol first.
    others.sort_by_key(|&s| std::cmp::Reverse(share(counts[s], slots, mass).1));
    let left = SUM.saturating_sub(frequencies.iter().sum());
    for &s in others.iter().take(left as usize) {
        frequencies[s] += 1;
    }
    frequencies
}

/// Start and frequency of each symbol, as kernels want them: start | frequency << 16.
pub(super) fn symbols(frequencies: &[u32; 256]) -> [u32; 256] {
    let mut start = 0;
    frequencies.map(|frequency| {
        start += frequency;
        (start - frequency) | frequency << 16
    })
}

/// Words of a written model of so many symbols.
pub(super) fn words(symbols: usize) -> usize {
    8 + (symbols * BITS as usize).div_ceil(32)
}

/// A bit for each symbol that occurs, in 8 words, and its frequency less 1 in 12 bits, one behind the other.
pub(super) fn write(frequencies: &[u32; 256], out: &mut Vec<u32>) {
    for eight in frequencies.chunks(32) {
        out.push((0..32).filter(|&bit| eight[bit] > 0).fold(0, |word, bit| word | 1 << bit));
    }
    let (mut held, mut bits) = (0_u64, 0);
    for &frequency in frequencies.iter().filter(|&&f| f > 0) {
        held |= u64::from(frequency - 1) << bits;
        bits += BITS;
        if bits >= 32 {
            out.push(held as u32);
            held >>= 32;
            bits -= 32;
        }
    }
    if bits > 0 {
        out.push(held as u32);
    }
}

/// Reads what [`write`] wrote at word `at`: frequencies, and the word behind them.
///
/// # Errors
/// [`crate::ErrorKind::BadInput`] for anything else.
pub(super) fn read(payload: &[u32], at: usize) -> Result<([u32; 256], usize)> {
    let Some(present) = payload.get(at..at + 8) else {
        return Err(damaged(payload.len(), "ends inside the list of symbols"));
    };
    let count = present.iter().map(|word| word.count_ones() as usize).sum::<usize>();
    let end = at + words(count);
    let Some(packed) = payload.get(at + 8..end) else {
        return Err(damaged(payload.len(), "ends inside the frequencies"));
    };
    let mut place = 0;
    let frequencies = std::array::from_fn(|s| {
        if present[s / 32] >> (s % 32) & 1 == 0 {
            return 0;
        }
        let (word, bit) = (place / 32, place % 32);
        place += BITS as usize;
        let pair = u64::from(packed[word]) | u64::from(packed.get(word + 1).copied().unwrap_or(0)) << 32;
        1 + (pair >> bit) as u32 % SUM
    });
    if frequencies.iter().sum::<u32>() != SUM {
        return Err(damaged(at, "has frequencies whose sum is not 4096"));
    }
    if !place.is_multiple_of(32) && packed[place / 32] >> (place % 32) != 0 {
        return Err(damaged(end - 1, "has bits behind the last frequency"));
    }
    Ok((frequencies, end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn counts() -> impl Strategy<Value = [u32; 256]> {
        let one = prop_oneof![3 => Just(0_u32), 3 => 1..4_u32, 2 => 1..16_384_u32, 1 => Just(16_000)];
        proptest::collection::vec(one, 256).prop_map(|v| {
            let mut counts: [u32; 256] = v.try_into().unwrap();
            counts[17] += 1;
            counts
        })
    }

    proptest! {
        #[test]
        fn frequencies_add_up_and_come_back(counts in counts()) {
            let frequencies = frequencies(&counts);
            prop_assert_eq!(frequencies.iter().sum::<u32>(), SUM);
            prop_assert!((0..256).all(|s| (counts[s] > 0) == (frequencies[s] > 0)));
            let mut written = vec![7; 3];
            write(&frequencies, &mut written);
            prop_assert_eq!(written.len(), 3 + words(frequencies.iter().filter(|&&f| f > 0).count()));
            prop_assert_eq!(read(&written, 3).unwrap(), (frequencies, written.len()));
            for cut in 3..written.len() {
                prop_assert!(read(&written[..cut], 3).is_err());
            }
        }

        // No way to move one slot from a symbol to another makes the coded values clearly shorter.
        #[test]
        fn frequencies_are_near_the_best(counts in counts()) {
            let frequencies = frequencies(&counts);
            let total: f64 = counts.iter().map(|&c| f64::from(c)).sum();
            let cost = |s: usize, f: u32| -f64::from(counts[s]) * (f64::from(f) / 4096.0).log2();
            let present: Vec<usize> = (0..256).filter(|&s| counts[s] > 0).collect();
            let gain = present.iter().map(|&s| cost(s, frequencies[s]) - cost(s, frequencies[s] + 1)).fold(0.0, f64::max);
            let loss = present.iter().filter(|&&s| frequencies[s] > 1)
                .map(|&s| cost(s, frequencies[s] - 1) - cost(s, frequencies[s])).fold(f64::INFINITY, f64::min);
            prop_assert!(gain - loss < 2e-3 * total, "{} bits of {total} values", gain - loss);
        }
    }

    #[test]
    fn one_symbol_has_all_and_rare_ones_keep_their_slot() {
        let mut counts = [0; 256];
        counts[3] = 5;
        assert_eq!(frequencies(&counts)[3], 4096);
        counts[200] = 4_000_000;
        let both = frequencies(&counts);
        assert_eq!((both[3], both[200]), (1, 4095));
        assert_eq!(frequencies(&[1; 256]), [16; 256]);
    }
}
