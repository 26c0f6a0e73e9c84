//! Tables of rows to a folder and back bit for bit, and networks for other programs.
#![cfg(feature = "hash")]

mod common;

use std::collections::BTreeMap;
use std::path::PathBuf;

use common::Random;
use wavehull::gpu::{Binding, Recording};
use wavehull::hash::checkpoint::Store;
use wavehull::hash::export::{self, Network, OnnxInput, OnnxOptions};
use wavehull::hash::{Rows, width};
use wavehull::{Control, ErrorKind, Gpu, Options, Tensor, graph};

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("wavehull-rows-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What a table holds, on the host: weights and states, then the book.
#[derive(Debug, Clone, PartialEq)]
struct Twin {
    columns: usize,
    arrays: Vec<Vec<u32>>,
}

impl Twin {
    fn random(rows: usize, columns: usize, states: usize, random: &mut Random) -> Self {
        let mut words = |n: usize| (0..n).map(|_| (random.bits() >> 7) as u32).collect::<Vec<u32>>();
        let mut arrays: Vec<Vec<u32>> = (0..=states).map(|_| words(rows * columns)).collect();
        // Bits that numbers lose: payloads of NaN, -0, subnormal numbers.
        arrays[0][..4].copy_from_slice(&[0x7f80_0001, 0xffc1_2345, 0x8000_0000, 1]);
        arrays.push((0..rows * 4).map(|_| 0).collect());
        Self { columns, arrays }
    }

    fn rows(&self) -> usize {
        self.arrays[0].len() / self.columns
    }

    /// A gradient reaches a row in a step.
    fn touch(&mut self, row: usize, step: u32, random: &mut Random) {
        let (book, columns) = (self.arrays.len() - 1, self.columns);
        for array in &mut self.arrays[..book] {
            array[row * columns..][..columns].fill_with(|| (random.bits() >> 9) as u32);
        }
        let count = self.arrays[book][row * 4 + 2];
        self.arrays[book][row * 4..][..4].copy_from_slice(&[step, step, count + 1, 0]);
    }

    fn table(&self, gpu: &Gpu) -> Rows {
        let states = self.arrays.len() - 2;
        let table = pollster(Rows::uninit_async(gpu, self.rows(), self.columns, states)).unwrap();
        self.upload(gpu, &table);
        table
    }

    fn upload(&self, gpu: &Gpu, table: &Rows) {
        for (tensor, words) in tensors(table).iter().zip(&self.arrays) {
            gpu.upload(tensor.buffer(), bytemuck::cast_slice(words)).unwrap();
        }
    }

    fn of(gpu: &Gpu, table: &Rows) -> Self {
        let mut recording = Recording::new();
        let tensors = tensors(table);
        let tickets: Vec<_> = tensors.iter().map(|t| recording.read(Binding::whole(t.buffer()))).collect();
        let mut output = gpu.run(&recording, &Control::default()).unwrap();
        let read = |(t, ticket): (&Tensor<u32>, _)| {
            let mut words: Vec<u32> = output.take(ticket);
            words.truncate(t.len());
            words
        };
        Self { columns: table.columns(), arrays: tensors.iter().zip(tickets).map(read).collect() }
    }
}

fn tensors(table: &Rows) -> Vec<Tensor<u32>> {
    let mut tensors = vec![table.weights.words()];
    tensors.extend(table.state.iter().map(Tensor::words));
    tensors.push(table.book.clone());
    tensors
}

/// Tables of the same shapes with poison in them.
fn poisoned(gpu: &Gpu, twin: &Twin) -> Rows {
    let table = pollster(Rows::uninit_async(gpu, twin.rows(), twin.columns, twin.arrays.len() - 2)).unwrap();
    for tensor in tensors(&table) {
        gpu.upload(tensor.buffer(), bytemuck::cast_slice(&vec![common::POISON; common::words(&tensor)])).unwrap();
    }
    table
}

fn pollster<T>(future: impl Future<Output = T>) -> T {
    // Nothing that these futures wait for needs a waker: the device is polled inside the call.
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    loop {
        if let std::task::Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
    }
}

/// The device, and one that binds at most 64 KiB at once.
fn devices(test: &str) -> Vec<Gpu> {
    let Some(whole) = common::device(test, false) else { return Vec::new() };
    let mut options = Options::default();
    options.max_binding = Some(64 << 10);
    options.checked = true;
    vec![whole.clone(), Gpu::open(&options).unwrap()]
}

fn loaded(gpu: &Gpu, store: &mut Store, twins: &[Twin; 2]) -> (u32, Vec<u8>, [Twin; 2]) {
    let tables = [poisoned(gpu, &twins[0]), poisoned(gpu, &twins[1])];
    let named = [("input", &tables[0]), ("output", &tables[1])];
    let loaded = store.load(gpu, &named, &Control::default()).unwrap().expect("a state");
    (loaded.step, loaded.meta, [Twin::of(gpu, &tables[0]), Twin::of(gpu, &tables[1])])
}

#[test]
fn increments_come_back_as_the_tables_were() {
    for gpu in devices("increments_come_back_as_the_tables_were") {
        let folder = Folder::new("increments");
        let mut random = Random::new(77);
        let mut twins = [Twin::random(333, 8, 2, &mut random), Twin::random(5001, 12, 1, &mut random)];
        let tables = [twins[0].table(&gpu), twins[1].table(&gpu)];
        let named = [("input", &tables[0]), ("output", &tables[1])];
        let mut store = Store::open(&folder.0).unwrap();
        let control = Control::default();
        assert!(store.load(&gpu, &named, &control).unwrap().is_none());
        let (mut bases, mut increments) = (0, 0);
        for save in 0..8 {
            let step = 10 * save;
            // What the steps between two saves touch; in one of them, nothing.
            for twin in &mut twins {
                let touched = if save == 3 { 0 } else { random.below(twin.rows() / 3) };
                for _ in 0..touched {
                    let row = random.below(twin.rows());
                    let step = step - u32::try_from(random.below(9)).unwrap().min(step);
                    if save > 0 {
                        twin.touch(row, step, &mut random);
                    }
                }
            }
            twins.iter().zip(&tables).for_each(|(twin, table)| twin.upload(&gpu, table));
            let meta = vec![0xfe; save as usize * 5];
            let saved = store.save(&gpu, &named, step, &meta, &control).unwrap();
            let dirty = |t: &Twin| {
                t.arrays[t.arrays.len() - 1].chunks(4).filter(|b| b[1] + 10 > step && b[1] > 0).count() as u64
            };
            if saved.base {
                assert_eq!(saved.rows, 333 + 5001);
                bases += 1;
            } else {
                assert_eq!(saved.rows, twins.iter().map(dirty).sum::<u64>(), "save {save}");
                increments += 1;
            }
            let mut other = Store::open(&folder.0).unwrap();
            assert_eq!(loaded(&gpu, &mut other, &twins), (step, meta, twins.clone()), "save {save}");
            // A store that loaded goes on as the one that saved.
            if save % 2 == 0 {
                store = other;
            }
        }
        assert!(bases >= 2 && increments >= 3, "{bases} bases, {increments} increments");
        // The chain is what a base written now would be.
        let again = Folder::new("increments-base");
        let mut base = Store::open(&again.0).unwrap();
        assert!(base.save_all(&gpu, &named, 70, b"", &control).unwrap().base);
        assert_eq!(loaded(&gpu, &mut base, &twins).2, twins);
    }
}

#[test]
fn a_stale_row_comes_back_with_its_stamp() {
    let Some(gpu) = devices("a_stale_row_comes_back_with_its_stamp").into_iter().next() else { return };
    let folder = Folder::new("stale");
    let mut random = Random::new(3);
    let mut twins = [Twin::random(9, 4, 1, &mut random), Twin::random(9, 4, 1, &mut random)];
    let tables = [twins[0].table(&gpu), twins[1].table(&gpu)];
    let named = [("input", &tables[0]), ("output", &tables[1])];
    let (mut store, control) = (Store::open(&folder.0).unwrap(), Control::default());
    store.policy.fold_at = 10.0;
    for twin in &mut twins {
        (0..9).for_each(|row| twin.touch(row, 5, &mut random));
    }
    twins.iter().zip(&tables).for_each(|(twin, table)| twin.upload(&gpu, table));
    store.save(&gpu, &named, 6, b"", &control).unwrap();
    // A sweep replays what rows missed: other bits and stamps, but no gradient. One row is touched.
    let saved = twins.clone();
    for twin in &mut twins {
        twin.arrays[0].iter_mut().for_each(|word| *word ^= 1);
        let book = twin.arrays.len() - 1;
        twin.arrays[book].chunks_mut(4).for_each(|row| row[0] = 8);
    }
    twins[1].touch(4, 9, &mut random);
    twins.iter().zip(&tables).for_each(|(twin, table)| twin.upload(&gpu, table));
    assert_eq!(store.save(&gpu, &named, 9, b"", &control).unwrap().rows, 1);
    let fresh = [poisoned(&gpu, &twins[0]), poisoned(&gpu, &twins[1])];
    let named = [("input", &fresh[0]), ("output", &fresh[1])];
    let loaded = Store::open(&folder.0).unwrap().load(&gpu, &named, &control).unwrap().unwrap();
    assert_eq!((loaded.step, loaded.oldest_stamp), (9, 5));
    assert_eq!(Twin::of(&gpu, &fresh[0]), saved[0]);
    let got = Twin::of(&gpu, &fresh[1]);
    for (array, (old, new)) in got.arrays.iter().zip(saved[1].arrays.iter().zip(&twins[1].arrays)) {
        for (row, words) in array.chunks(4).enumerate() {
            let expected = if row == 4 { new } else { old };
            assert_eq!(words, &expected[row * 4..][..4], "row {row}");
        }
    }
}

#[test]
fn damage_and_other_tables_are_named() {
    let Some(gpu) = devices("damage_and_other_tables_are_named").into_iter().next() else { return };
    let folder = Folder::new("named");
    let mut random = Random::new(9);
    let mut twin = Twin::random(200, 4, 0, &mut random);
    let table = twin.table(&gpu);
    let (mut store, control) = (Store::open(&folder.0).unwrap(), Control::default());
    store.save(&gpu, &[("output", &table)], 1, b"one", &control).unwrap();
    let before = twin.clone();
    twin.touch(7, 2, &mut random);
    twin.upload(&gpu, &table);
    store.save(&gpu, &[("output", &table)], 2, b"two", &control).unwrap();
    let path = folder.0.join("rows-00000002.bin");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 3]).unwrap();
    let fresh = poisoned(&gpu, &twin);
    let error = store.load_state(&gpu, &[("output", &fresh)], 2, &control).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadInput);
    assert!(error.to_string().contains("rows-00000002.bin"), "{error}");
    assert!(error.help().unwrap().contains("state 1, of step 1, is whole"));
    let loaded = store.load(&gpu, &[("output", &fresh)], &control).unwrap().unwrap();
    assert_eq!((loaded.step, &loaded.meta[..], loaded.left_out.len()), (1, &b"one"[..], 1));
    assert!(loaded.left_out[0].why.to_string().contains("rows-00000002.bin"));
    assert_eq!(Twin::of(&gpu, &fresh), before);
    for (name, rows, columns, states) in
        [("input", 200, 4, 0), ("output", 201, 4, 0), ("output", 200, 8, 0), ("output", 200, 4, 1)]
    {
        let other = pollster(Rows::uninit_async(&gpu, rows, columns, states)).unwrap();
        let error = store.load(&gpu, &[(name, &other)], &control).unwrap_err();
        assert!(
            error.kind() == ErrorKind::BadInput && error.help().is_some_and(|h| h.contains("another network")),
            "{error}"
        );
    }
    let stopped = Control::default();
    stopped.cancel.cancel();
    let error = store.save_all(&gpu, &[("output", &table)], 3, b"", &stopped).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert!(
        std::fs::read_dir(&folder.0).unwrap().all(|e| !e.unwrap().file_name().to_string_lossy().ends_with(".part"))
    );
}

const FEATURES: usize = 37;
const LABELS: usize = 700;
const HIDDEN: usize = 9;

/// Tables of a network, with zeros where a network has them.
fn network(gpu: &Gpu) -> (Tensor, Tensor, Vec<f32>, Vec<f32>) {
    let mut random = Random::new(21);
    let columns = width(HIDDEN);
    let mut table = |rows: usize, used: usize| -> Vec<f32> {
        (0..rows * columns).map(|at| if at % columns < used { random.unit() as f32 } else { 0.0 }).collect()
    };
    let (input, output) = (table(FEATURES + 1, HIDDEN), table(LABELS, HIDDEN + 1));
    (
        Tensor::from_slice(gpu, &[FEATURES + 1, columns], &input).unwrap(),
        Tensor::from_slice(gpu, &[LABELS, columns], &output).unwrap(),
        input,
        output,
    )
}

/// Logits of a dense sample, and what their rounding in f32 may be.
fn logits(input: &[f32], output: &[f32], x: &[f64], relu: bool) -> Vec<f64> {
    let columns = width(HIDDEN);
    let hidden: Vec<f64> = (0..HIDDEN)
        .map(|j| {
            let sum: f64 = x.iter().enumerate().map(|(i, x)| x * f64::from(input[i * columns + j])).sum();
            let sum = sum + f64::from(input[FEATURES * columns + j]);
            if relu { sum.max(0.0) } else { sum }
        })
        .collect();
    let of = |row: &[f32]| hidden.iter().zip(row).map(|(h, w)| h * f64::from(*w)).sum::<f64>() + f64::from(row[HIDDEN]);
    output.chunks(columns).map(of).collect()
}

#[test]
fn exported_networks_are_the_tables() {
    for gpu in devices("exported_networks_are_the_tables") {
        let folder = Folder::new("export");
        let (input, output, host_input, host_output) = network(&gpu);
        let network = Network { input: &input, output: &output, hidden: HIDDEN, relu: true };
        let control = Control::default();
        let path = folder.0.join("net.safetensors");
        let notes = BTreeMap::from([("made by".to_owned(), "a \"test\"".to_owned())]);
        export::safetensors(&gpu, &network, &path, &notes, &control).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let columns = width(HIDDEN);
        let floats = |name: &str, shape: &[usize]| -> Vec<f32> {
            let view = file.tensor(name).unwrap();
            assert_eq!(view.shape(), shape);
            view.data().chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
        };
        let cut = |table: &[f32], rows: usize| -> Vec<f32> {
            table.chunks(columns).take(rows).flat_map(|row| row[..HIDDEN].to_vec()).collect()
        };
        assert_eq!(file.len(), 4);
        assert_eq!(floats("input.weight", &[FEATURES, HIDDEN]), cut(&host_input, FEATURES));
        assert_eq!(floats("input.bias", &[HIDDEN]), host_input[FEATURES * columns..][..HIDDEN]);
        assert_eq!(floats("output.weight", &[LABELS, HIDDEN]), cut(&host_output, LABELS));
        let bias: Vec<f32> = host_output.chunks(columns).map(|row| row[HIDDEN]).collect();
        assert_eq!(floats("output.bias", &[LABELS]), bias);
        let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        let metadata = metadata.metadata().clone().unwrap();
        assert_eq!([&metadata["made by"], &metadata["relu"]], ["a \"test\"", "true"]);

        let path = folder.0.join("net.onnx");
        let options = OnnxOptions { input: OnnxInput::Dense, top: None };
        let x: Vec<f64> = (0..FEATURES).map(|i| if i % 5 == 0 { i as f64 / 16.0 - 1.0 } else { 0.0 }).collect();
        // With a ReLU last: that file may be kept.
        for relu in [false, true] {
            export::onnx(&gpu, &Network { relu, ..network }, &path, options, &control).unwrap();
            let (read, _) = graph::onnx::read(&path).unwrap();
            let got = read.eval_f64(&x).unwrap();
            for (got, expected) in got.iter().zip(logits(&host_input, &host_output, &x, relu)) {
                assert!((got - expected).abs() < 1e-12, "{got} {expected}");
            }
            assert_eq!(got.len(), LABELS);
        }
        for (name, input, top) in [("sparse", OnnxInput::Sparse, None), ("sparse-top", OnnxInput::Sparse, Some(5))] {
            let path = folder.0.join(format!("{name}.onnx"));
            export::onnx(&gpu, &network, &path, OnnxOptions { input, top }, &control).unwrap();
            // For a look with another program.
            if let Ok(keep) = std::env::var("WAVEHULL_KEEP_ONNX") {
                std::fs::copy(&path, format!("{keep}/{name}.onnx")).unwrap();
                std::fs::copy(folder.0.join("net.onnx"), format!("{keep}/dense.onnx")).unwrap();
                std::fs::copy(folder.0.join("net.safetensors"), format!("{keep}/net.safetensors")).unwrap();
            }
        }
        let path = folder.0.join("none.onnx");
        let error =
            export::onnx(&gpu, &network, &path, OnnxOptions { top: Some(701), ..options }, &control).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadInput);
        assert!(!path.exists());
    }
}
