//! How numbers are stored, as users write it.

use std::fmt;
use std::str::FromStr;

use super::Calibration;
use crate::error::{Error, Result};
use crate::pack::values::{Element, Granularity};

/// How numbers of a network are stored: `i8`, `i8/channel`, `i4/32` (groups of 32), `i16`, `f16`, `bf16`; for activations also `u8` and, with a
/// range that leaves out 0.1 % of the numbers at each end, `u8@99.9`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Storage {
    /// The container.
    pub element: Element,
    /// How many numbers share a scale; activations have one a tensor.
    pub granularity: Granularity,
    /// How the range of activations is found.
    pub calibration: Calibration,
}

impl Storage {
    /// One scale a tensor (fp16 and bf16 have none).
    pub const fn per_tensor(element: Element) -> Self {
        let granularity = if element.is_float() { Granularity::Unknown } else { Granularity::Tensor };
        Self { element, granularity, calibration: Calibration::MinMax }
    }

    /// One scale an output channel.
    pub const fn per_channel(element: Element) -> Self {
        Self { granularity: Granularity::Channel, ..Self::per_tensor(element) }
    }

    /// One scale for so many consecutive values of a filter.
    pub const fn per_group(element: Element, values: usize) -> Self {
        Self { granularity: Granularity::Group(values), ..Self::per_tensor(element) }
    }
}

impl fmt::Display for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.element.name())?;
        match self.granularity {
            Granularity::Unknown | Granularity::Tensor => {}
            Granularity::Channel => f.write_str("/channel")?,
            Granularity::Group(values) => write!(f, "/{values}")?,
        }
        match self.calibration {
            Calibration::MinMax => Ok(()),
            Calibration::Percentile(share) => write!(f, "@{share}"),
        }
    }
}

impl FromStr for Storage {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::bad_input(format!("'{text}' is no way to store numbers")).with_help(
                "i4, i8, i16, u8, f16 or bf16; i8/channel, i4/32 (groups of 32); u8@99.9 (percentile) for activations",
            )
        };
        let (rest, percentile) = text.split_once('@').map_or((text, None), |(rest, share)| (rest, Some(share)));
        let (element, parts) = rest.split_once('/').map_or((rest, None), |(element, parts)| (element, Some(parts)));
        let element = match element {
            "i4" | "int4" => Element::I4,
            "i8" | "int8" => Element::I8,
            "u8" | "uint8" => Element::U8,
            "i16" | "int16" => Element::I16,
            "f16" | "fp16" => Element::F16,
            "bf16" => Element::Bf16,
            _ => return Err(wrong()),
        };
        let storage = match parts {
            None | Some("tensor") => Self::per_tensor(element),
            _ if element.is_float() => return Err(wrong()),
            Some("channel") => Self::per_channel(element),
            Some(values) => {
                Self::per_group(element, values.parse().ok().filter(|&values| values > 0).ok_or_else(wrong)?)
            }
        };
        let calibration = match percentile {
            None => Calibration::MinMax,
            Some(share) => {
                let share: f64 = share.parse().map_err(|_| wrong())?;
                Some(share)
                    .filter(|share| (50.0..=100.0).contains(share))
                    .map(Calibration::Percentile)
                    .ok_or_else(wrong)?
            }
        };
        Ok(Self { calibration, ..storage })
    }
}
