//! What the test binaries share: repeatable numbers, the device, poisoned memory, recordings with a broken kernel.
#![allow(dead_code, reason = "every test binary uses a part of it")]

use std::io::Write;
use std::sync::OnceLock;

use wavehull::gpu::{Command, Kernel, Params, Recording};
use wavehull::tensor::{Element, Tensor};
use wavehull::{Control, Gpu, Options};

/// The unit roundoff of WGSL: either neighbour of the exact result.
pub const U: f64 = 1.0 / (1_u64 << 23) as f64;

/// A NaN that no kernel produces: whatever holds it was not written.
pub const POISON: u32 = 0x7fc0_dead;

/// A small generator of repeatable numbers (xorshift, Marsaglia 2003).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Uniform in -1..1.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * (2.0 / (1_u64 << 53) as f64) - 1.0
    }

    pub fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.bits() % n as u64).unwrap()
    }

    pub fn coin(&mut self) -> bool {
        self.bits() & (1 << 40) != 0
    }

    pub fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.unit() as f32).collect()
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

/// A line that the test harness does not capture.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// The device of this test binary, checked or trusted; `None`, with a named skip, where there is no adapter.
pub fn device(test: &str, checked: bool) -> Option<&'static Gpu> {
    static DEVICES: [OnceLock<Option<Gpu>>; 2] = [OnceLock::new(), OnceLock::new()];
    let gpu = DEVICES[usize::from(checked)].get_or_init(|| {
        let opened = open(checked);
        if let Some(gpu) = &opened {
            say(&format!("adapter: {}{}", gpu.caps(), if checked { ", checked" } else { "" }));
        }
        opened
    });
    if gpu.is_none() {
        let required = std::env::var("WAVEHULL_REQUIRE_GPU").is_ok_and(|v| v == "1");
        assert!(!required, "{test}: no adapter, and WAVEHULL_REQUIRE_GPU=1 demands one");
        say(&format!("skipped: {test}: no adapter"));
    }
    gpu.as_ref()
}

/// A device of its own, for tests that break it or limit it.
pub fn open(checked: bool) -> Option<Gpu> {
    let mut options = Options::default();
    options.checked = checked;
    match Gpu::open(&options) {
        Ok(gpu) => Some(gpu),
        Err(error) if error.kind() == wavehull::ErrorKind::NoAdapter => None,
        Err(error) => panic!("{error}"),
    }
}

/// Words of a tensor's memory, padding and the tail of the allocation included.
pub fn words<T: Element>(tensor: &Tensor<T>) -> usize {
    usize::try_from(tensor.buffer().size() / 4).unwrap()
}

/// Position in memory of every element, in row-major order.
pub fn places<T: Element>(tensor: &Tensor<T>) -> Vec<usize> {
    let mut places = vec![0];
    for (&length, &stride) in tensor.shape().iter().zip(tensor.strides()) {
        places = places.iter().flat_map(|&base| (0..length).map(move |i| base + i * stride)).collect();
    }
    places
}

/// A tensor whose whole memory is poison.
pub fn poisoned<T: Element>(gpu: &Gpu, shape: &[usize]) -> Tensor<T> {
    let tensor = Tensor::uninit(gpu, shape).unwrap();
    let poison = vec![POISON; words(&tensor)];
    gpu.upload(tensor.buffer(), bytemuck::cast_slice(&poison)).unwrap();
    tensor
}

/// A tensor with these elements and poison in its padding.
pub fn tensor<T: Element>(gpu: &Gpu, shape: &[usize], elements: &[T]) -> Tensor<T> {
    let tensor = Tensor::uninit(gpu, shape).unwrap();
    let mut memory = vec![POISON; words(&tensor)];
    let places = places(&tensor);
    assert_eq!(places.len(), elements.len(), "{shape:?}");
    for (place, element) in places.into_iter().zip(elements) {
        memory[place] = *bytemuck::cast_ref(element);
    }
    gpu.upload(tensor.buffer(), bytemuck::cast_slice(&memory)).unwrap();
    tensor
}

/// Runs a recording and brings back the whole memory of a tensor.
pub fn run_raw<T: Element>(gpu: &Gpu, recording: &Recording, tensor: &Tensor<T>) -> Vec<u32> {
    let mut recording = recording.clone();
    let ticket = recording.read(tensor.binding());
    gpu.run(&recording, &Control::default()).unwrap().take(ticket)
}

/// Runs a recording and brings back a tensor's elements in row-major order. Words outside of them must still be poison,
/// except those behind a row where `padding` says that the operator may write them.
pub fn run<T: Element>(gpu: &Gpu, recording: &Recording, tensor: &Tensor<T>, padding: bool) -> Vec<T> {
    let memory = run_raw(gpu, recording, tensor);
    let places = places(tensor);
    let rows = if tensor.columns() == 0 { 0 } else { tensor.len() / tensor.columns() };
    let may_write = if padding { rows * tensor.row_stride() } else { 0 };
    let mut touched: Vec<usize> = (may_write..memory.len()).filter(|&i| memory[i] != POISON).collect();
    touched.retain(|i| places.binary_search(i).is_err());
    assert!(touched.is_empty(), "words {touched:?} outside of {:?} were written", tensor.shape());
    places.into_iter().map(|place| *bytemuck::cast_ref(&memory[place])).collect()
}

/// The first element that is further from its oracle than its tolerance allows. NaN (and so poison) is.
pub fn compare(got: &[f32], oracle: &[(f64, f64)]) -> Result<(), String> {
    assert_eq!(got.len(), oracle.len());
    for (i, (&value, &(expected, tolerance))) in got.iter().zip(oracle).enumerate() {
        let close = (f64::from(value) - expected).abs() <= tolerance;
        if !close {
            return Err(format!("element {i} is {value:e}, not {expected:e} within {tolerance:e}"));
        }
    }
    Ok(())
}

/// Parameters of any kernel as plain words.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Words(pub [u32; 64]);

impl Params for Words {
    const LAYOUT: &'static [(&'static str, usize)] = &[];
}

/// The same recording with every dispatch's kernel and estimated work changed.
pub fn changed(recording: &Recording, mut change: impl FnMut(&mut Kernel, &mut f64)) -> Recording {
    let mut changed = Recording::new();
    for command in recording.commands() {
        match command {
            Command::Dispatch(d) => {
                let mut kernel = Kernel { params: Words::LAYOUT, ..d.kernel.clone() };
                let mut work = d.work;
                change(&mut kernel, &mut work);
                let mut params = [0; 64];
                bytemuck::cast_slice_mut::<u32, u8>(&mut params)[..d.params.len()].copy_from_slice(&d.params);
                changed.dispatch(&kernel, d.bindings.clone(), &Words(params), d.grid.clone(), work).unwrap();
            }
            Command::Clear(target) => changed.clear(target.clone()),
            Command::Copy { from, to } => changed.copy(from.clone(), to.clone()).unwrap(),
            Command::Read(from) => {
                changed.read(from.clone());
            }
        }
    }
    changed
}

/// The same recording with `from` replaced by `to` in the source of every dispatch of kernel `name`: what a mutation
/// check runs. Panics unless something was replaced, so that no check goes stale.
pub fn broken(recording: &Recording, name: &str, from: &str, to: &str) -> Recording {
    let mut replaced = 0;
    let broken = changed(recording, |kernel, _| {
        if kernel.name == name {
            assert!(kernel.source.contains(from), "kernel '{name}' has no '{from}'");
            kernel.source = Box::leak(kernel.source.replace(from, to).into_boxed_str());
            replaced += 1;
        }
    });
    assert!(replaced > 0, "the recording has no kernel '{name}'");
    broken
}
