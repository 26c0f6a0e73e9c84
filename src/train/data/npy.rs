//! NPY and NPZ, the formats of numpy: one array a file, or a zip archive of such.

use std::io::Cursor;
use std::path::Path;

use ndarray::{Array2, ArrayD, Axis, Ix2};

use super::{Dataset, Inputs, Targets, classes_of};
use crate::error::{Error, Result};
use crate::files;
use crate::files::npy::{Archive, Numbers, parse};

/// Reads inputs and targets from two NPY files. Inputs: f32, f16, f64 (rounded to f32) or u8; whole numbers become f32. Targets of one axis of whole
/// numbers are classes; of f32, f16 or f64, and such with two axes, values.
///
/// # Errors
/// [`crate::ErrorKind::Io`]; [`crate::ErrorKind::BadInput`] for files that are no NPY, are cut off or do not belong together;
/// [`crate::ErrorKind::Unsupported`] for other element types.
pub fn read_npy(inputs: &Path, targets: &Path) -> Result<Dataset> {
    let samples = parse(&files::bytes(inputs)?).map_err(|e| e.in_file(inputs))?;
    let wanted = parse(&files::bytes(targets)?).map_err(|e| e.in_file(targets))?;
    let samples = inputs_of(samples).map_err(|e| e.in_file(inputs))?;
    targets_of(wanted).and_then(|wanted| Dataset::new(samples, wanted)).map_err(|e| e.in_file(targets))
}

/// Reads inputs and targets from two arrays of an NPZ file; [`read_npy`] says what is read.
///
/// # Errors
/// As [`read_npy`]; also arrays that are not in the archive, with the names of those that are.
pub fn read_npz(path: &Path, inputs: &str, targets: &str) -> Result<Dataset> {
    read_archive(&files::bytes(path)?, inputs, targets).map_err(|e| e.in_file(path))
}

fn read_archive(bytes: &[u8], inputs: &str, targets: &str) -> Result<Dataset> {
    let mut archive = Archive::open(Cursor::new(bytes))?;
    let samples = inputs_of(archive.array(inputs)?)?;
    Dataset::new(samples, targets_of(archive.array(targets)?)?)
}

fn inputs_of(numbers: Numbers) -> Result<Inputs> {
    let inputs = match numbers {
        Numbers::U8(a) => Inputs::U8(a),
        other => Inputs::F32(other.into_f32()),
    };
    // One number a sample is a sample of one feature.
    Ok(match inputs {
        Inputs::F32(a) if a.ndim() == 1 => Inputs::F32(a.insert_axis(Axis(1))),
        Inputs::U8(a) if a.ndim() == 1 => Inputs::U8(a.insert_axis(Axis(1))),
        other => other,
    })
}

fn targets_of(numbers: Numbers) -> Result<Targets> {
    let two = |a: ArrayD<f32>| -> Result<Array2<f32>> {
        let a = if a.ndim() == 1 { a.insert_axis(Axis(1)) } else { a };
        let shape = a.shape().to_vec();
        a.into_dimensionality::<Ix2>().map_err(|_| {
            Error::bad_input(format!(
                "targets have one axis (classes) or two (samples, values), but these have shape {shape:?}"
            ))
        })
    };
    match numbers.into_whole() {
        Ok(whole) if whole.ndim() == 1 => classes_of(whole.iter().copied()),
        Ok(whole) => Ok(Targets::Values(two(whole.mapv(|x| x as f32))?)),
        Err(numbers) => Ok(Targets::Values(two(numbers.into_f32())?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Scratch;
    use ndarray::{Array, array};
    use ndarray_npy::{WritableElement, WriteNpyExt};
    use std::io::Write;

    fn npy<A: WritableElement, D: ndarray::Dimension>(a: &Array<A, D>) -> Vec<u8> {
        let mut bytes = Vec::new();
        a.write_npy(&mut bytes).expect("memory");
        bytes
    }

    #[test]
    fn element_types_and_orders() {
        let s = Scratch::new("npy");
        let labels = s.file("y.npy", npy(&array![0i64, 1, 1]));
        let read = |bytes: Vec<u8>| read_npy(&s.file("x.npy", bytes), &labels).expect("a set");
        let want = Inputs::F32(array![[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]].into_dyn());
        let x = array![[1.0f32, 2.0], [3.0, 4.0], [5.0, 6.0]];
        assert_eq!(read(npy(&x)).inputs, want);
        assert_eq!(read(npy(&x.mapv(f64::from))).inputs, want);
        assert_eq!(read(npy(&x.mapv(|v| v as i32))).inputs, want);
        // Columns first, as numpy writes a transposed array.
        let transposed = x.t().as_standard_layout().into_owned().reversed_axes();
        let set = read(npy(&transposed));
        assert_eq!(set.inputs, want);
        assert!(matches!(&set.inputs, Inputs::F32(a) if a.is_standard_layout()));
        assert_eq!(read(npy(&x.mapv(|v| v as u8))).inputs, Inputs::U8(x.mapv(|v| v as u8).into_dyn()));
        assert_eq!(set.targets, Targets::Classes { labels: vec![0, 1, 1], classes: 2 });
        let values = read_npy(&s.file("x.npy", npy(&x)), &s.file("v.npy", npy(&array![0.5f64, 1.5, -1.0])));
        assert_eq!(values.expect("values").targets, Targets::Values(array![[0.5], [1.5], [-1.0]]));
    }

    #[test]
    fn faults_name_the_file() {
        let s = Scratch::new("npy-bad");
        let x = s.file("x.npy", npy(&array![[1.0f32], [2.0]]));
        let y = s.file("y.npy", npy(&array![0u8, 1]));
        let said = |a: &Path, b: &Path| read_npy(a, b).expect_err("must be refused").to_string();
        assert!(
            said(&x, &s.file("n.npy", npy(&array![0i64, -3]))).ends_with("n.npy: the label of sample 1 (from 0) is -3")
        );
        assert!(
            said(&x, &s.file("three.npy", npy(&array![0u8, 1, 1]))).ends_with("three.npy: 2 samples, but 3 targets")
        );
        let mut cut = npy(&array![[1.0f32], [2.0]]);
        cut.truncate(cut.len() - 2);
        assert!(said(&s.file("cut.npy", cut), &y).contains("cut.npy: the file holds fewer numbers"));
        assert!(said(&s.file("text.npy", "hello"), &y).contains("text.npy: this is no NPY file"));
        assert!(said(&s.file("bool.npy", npy(&array![[true], [false]])), &y).contains("a type that is not read"));
        let text = String::from_utf8_lossy(&npy(&array![[1.0f32], [2.0]])).replace("(2, 1)", "(9999999999999, 1)");
        // Built by hand, since the replacement changes lengths: magic, version 1.0, header length, header.
        let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (9999999999999, 1), }\n";
        let mut huge = b"\x93NUMPY\x01\x00".to_vec();
        huge.extend(u16::try_from(header.len()).expect("short").to_le_bytes());
        huge.extend(header.as_bytes());
        assert!(text.contains("9999999999999"));
        assert!(said(&s.file("huge.npy", huge), &y).contains("more numbers than the file has bytes"));
    }

    #[test]
    fn archives_plain_and_packed() {
        let s = Scratch::new("npz");
        for method in [zip::CompressionMethod::Stored, zip::CompressionMethod::Deflated] {
            let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
            let options = zip::write::SimpleFileOptions::default().compression_method(method);
            for (name, bytes) in [("x.npy", npy(&array![[1.0f32], [2.0]])), ("y.npy", npy(&array![1i64, 0]))] {
                writer.start_file(name, options).expect("memory");
                writer.write_all(&bytes).expect("memory");
            }
            let path = s.file("set.npz", writer.finish().expect("memory").into_inner());
            let set = read_npz(&path, "x", "y").expect("an archive");
            assert_eq!(set.targets, Targets::Classes { labels: vec![1, 0], classes: 2 });
            let error = read_npz(&path, "x", "labels").expect_err("no such array");
            assert!(error.to_string().ends_with("set.npz: the archive has no array 'labels'"), "{error}");
            assert!(error.help().is_some_and(|h| h.contains('x') && h.contains('y')));
        }
        assert!(read_npz(&s.file("no.npz", "text"), "x", "y").expect_err("no archive").to_string().contains("no NPZ"));
    }
}
