//! What is demanded of the reader of TFLite networks.

use wavehull::ErrorKind;
use wavehull::pack::integer::{Samples, Tensor};
use wavehull::pack::tflite as format;

/// Networks with more products or numbers than this are read but not run: the target is the reader.
const SMALL: usize = 30_000;

/// The TFLite reader: an error that says what to do, or a network whose tensors are what their shapes promise. True for a network.
pub fn tflite(bytes: &[u8]) -> bool {
    let network = match format::parse(bytes, "fuzzed") {
        Ok(network) => network,
        Err(error) => {
            let expected = matches!(error.kind(), ErrorKind::BadInput | ErrorKind::Unsupported);
            assert!(expected && error.help().is_some(), "no next step: {error}");
            return false;
        }
    };
    let values = network.tensors().iter().fold(0_usize, |sum, tensor| sum.saturating_add(tensor.len()));
    if network.macs() < SMALL as u64 && values < SMALL {
        let input = vec![1; network.input().len()];
        let activations = network.run_reference(Samples::Codes(&input)).expect("a whole sample");
        for (i, tensor) in network.tensors().iter().enumerate() {
            assert_eq!(activations.codes(i).len(), Tensor::len(tensor), "tensor {i}");
        }
    }
    true
}
