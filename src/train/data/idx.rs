//! IDX, the format of MNIST: images and labels.

use std::path::Path;

use super::{Dataset, Inputs, classes_of};
use crate::error::{Error, Result};
use crate::files;
use crate::files::idx::parse;

/// Reads images and their labels. Images `[samples, height, width]` come as `[samples, height, width, 1]`: channels last.
///
/// # Errors
/// [`crate::ErrorKind::Io`]; [`crate::ErrorKind::BadInput`] for files that are no IDX, are cut off or do not belong together;
/// [`crate::ErrorKind::Unsupported`] for elements that are no bytes.
pub fn read_idx(images: &Path, labels: &Path) -> Result<Dataset> {
    let mut pixels = parse(&files::bytes(images)?).map_err(|e| e.in_file(images))?;
    if pixels.ndim() == 3 {
        pixels = pixels.insert_axis(ndarray::Axis(3));
    }
    if pixels.ndim() < 2 {
        return Err(Error::bad_input("the file of the inputs holds one number a sample")
            .in_file(images)
            .with_help("this looks like a file of labels: are the two files swapped?"));
    }
    let classes = parse(&files::bytes(labels)?).map_err(|e| e.in_file(labels))?;
    if classes.ndim() != 1 {
        return Err(Error::bad_input(format!("labels have one axis, but this file has {}", classes.ndim()))
            .in_file(labels)
            .with_help("are the two files swapped?"));
    }
    classes_of(classes.iter().map(|&l| i64::from(l)))
        .and_then(|targets| Dataset::new(Inputs::U8(pixels), targets))
        .map_err(|e| e.in_file(labels))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Scratch;
    use crate::train::data::Targets;

    fn idx(shape: &[u32], elements: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, u8::try_from(shape.len()).expect("few axes")];
        shape.iter().for_each(|d| bytes.extend(d.to_be_bytes()));
        bytes.extend(elements);
        bytes
    }

    #[test]
    fn the_shipped_digits() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/mnist10k");
        let file = |name: &str| folder.join(name);
        let set = read_idx(&file("test-images-idx3-ubyte.gz"), &file("test-labels-idx1-ubyte.gz")).expect("digits");
        assert_eq!(set.inputs.shape(), [2000, 28, 28, 1]);
        let Targets::Classes { labels, classes } = &set.targets else { panic!("digits are classes") };
        assert_eq!((labels.len(), *classes), (2000, 10));
        // Every digit makes up between 8 and 12 of a hundred.
        for digit in 0..10 {
            let count = labels.iter().filter(|&&l| l == digit).count();
            assert!((140..=260).contains(&count), "{count} of digit {digit}");
        }
    }

    #[test]
    fn damaged_files_are_refused_with_their_names() {
        let s = Scratch::new("idx");
        let images = s.file("images", idx(&[2, 1, 2], &[1, 2, 3, 4]));
        let labels = s.file("labels", idx(&[2], &[0, 1]));
        assert_eq!(read_idx(&images, &labels).expect("a set").inputs.shape(), [2, 1, 2, 1]);
        let said = |a: &Path, b: &Path| read_idx(a, b).expect_err("must be refused").to_string();
        let cut = s.file("cut", idx(&[2, 1, 2], &[1, 2, 3]));
        assert!(said(&cut, &labels).ends_with("cut: the header promises [2, 1, 2] bytes, but 3 follow it"));
        let huge = s.file("huge", idx(&[u32::MAX, u32::MAX, u32::MAX], &[]));
        assert!(said(&huge, &labels).contains("promises"));
        assert!(said(&labels, &images).contains("one number a sample"));
        assert!(said(&images, &images).ends_with("images: labels have one axis, but this file has 3"));
        let three = s.file("three", idx(&[3], &[0, 1, 1]));
        assert!(said(&images, &three).ends_with("three: 2 samples, but 3 targets"));
        assert!(said(&s.file("text", "pixels"), &labels).contains("this is no IDX file"));
        assert!(said(&s.file("short", [0, 0, 8, 3, 0]), &labels).contains("cut off within its header"));
        assert!(said(&s.file("floats", [0, 0, 13, 0]), &labels).contains("type 0x0d"));
    }
}
