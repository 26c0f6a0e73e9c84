//! A data set on the device, and batches of it.

use super::loss::{self, ElementLoss, LossOut};
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::{Caps, Gpu, Recording};
use crate::graph::Graph;
use crate::tensor::Tensor;
