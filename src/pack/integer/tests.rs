//! The device against the naive twin on random networks of one step: odd channels, strides, dilation, groups, saturating values, extreme
//! factors; on a checked and on a trusted device, with outputs that start as poison.

use super::device::Plan;
use super::{
    Binary, BinaryKind, Bounds, Constant, Multiplier, Network, Operand, Pool, PoolKind, Product, ProductKind, Rescale,
    Samples, Step, StepKind, Tensor, Window,
};
use crate::gpu::{Command, Control, Params, Recording};
use crate::pack::{Granularity, Shape};
use crate::{Gpu, Options};

const POISON: u32 = 0x7fc0_dead;

/// Marsaglia's xorshift.
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// From low to high, both included.
    fn within(&mut self, low: i64, high: i64) -> i64 {
        low + (self.bits() >> 11).rem_euclid((high - low + 1) as u64) as i64
    }

    fn length(&mut self, low: usize, high: usize) -> usize {
        self.within(low as i64, high as i64) as usize
    }

    fn coin(&mut self) -> bool {
        self.within(0, 1) == 1
    }

    /// Codes, often at the ends.
    fn codes(&mut self, n: usize) -> Vec<i8> {
        let saturating = self.within(0, 3) == 0;
        let mut code = || match self.within(0, 5) {
            0 if saturating => -128,
            1 | 2 if saturating => 127,
            _ => self.within(-128, 127) as i8,
        };
        (0..n).map(|_| code()).collect()
    }

    fn multiplier(&mut self) -> Multiplier {
        match self.within(0, 9) {
            0 => Multiplier::default(),
            1 => Multiplier { value: i32::MAX, shift: self.within(-31, 20) as i32 },
            2 => Multiplier { value: self.within(1, 1 << 30) as i32, shift: self.within(-31, 3) as i32 },
            _ => Multiplier { value: self.within(1 << 30, i32::MAX.into()) as i32, shift: self.within(-14, -3) as i32 },
        }
    }

    fn bounds(&mut self) -> Bounds {
        if self.coin() {
            return Bounds::ALL;
        }
        let low = self.within(-128, 127);
        Bounds { low: low as i32, high: self.within(low, 127) as i32 }
    }

    fn tensor(&mut self, shape: [usize; 3]) -> Tensor {
        Tensor { name: String::new(), shape, scale: 1.0, zero_point: self.within(-128, 127) as i32 }
    }
}

/// A network of one step on an input.
fn network(random: &mut Random, from: [usize; 3], to: [usize; 3], kind: StepKind) -> Network {
    Network {
        name: "random".into(),
        tensors: vec![random.tensor(from), random.tensor(to)],
        numbers: vec![0, 1],
        steps: vec![Step { kind, output: 1 }],
        input: 0,
        outputs: vec![1],
    }
}

fn product(random: &mut Random, most: usize) -> Network {
    let depth = random.length(1, 9);
    let (kind, groups, filters) = match random.within(0, 3) {
        0 => (ProductKind::Depthwise, random.length(1, most), 1),
        1 => (ProductKind::Depthwise, random.length(1, 9), random.length(2, 3)),
        2 => (ProductKind::Conv, random.length(2, 4), random.length(1, 5)),
        _ => (ProductKind::Conv, 1, random.length(1, most)),
    };
    let channels = if kind == ProductKind::Depthwise { groups } else { groups * depth };
    let shape = Shape {
        input: [random.length(1, most), random.length(1, 9), channels],
        filter: [random.length(1, 3), random.length(1, 4)],
        filters: groups * filters,
        stride: [random.length(1, 3), random.length(1, 2)],
        padding: [0; 4].map(|_| random.length(0, 3)),
        dilation: [random.length(1, 2), random.length(1, 2)],
        groups,
    };
    if shape.output().contains(&0) {
        return product(random, most);
    }
    let window = Window {
        filter: shape.filter,
        stride: shape.stride,
        dilation: shape.dilation,
        padding: [shape.padding[0], shape.padding[1]],
    };
    of_shape(random, kind, shape, window, shape.output())
}

/// A dense layer, of every place or of the whole map.
fn dense(random: &mut Random, most: usize) -> Network {
    let [height, width, channels] = [random.length(1, 4), random.length(1, 3), random.length(1, most)];
    let whole = random.coin();
    let (rows, depth) = if whole { (1, height * width * channels) } else { (height * width, channels) };
    let shape = Shape::dense(rows, depth, random.length(1, most));
    let filter = if whole { [height, width] } else { [1, 1] };
    let window = Window { filter, stride: [1, 1], dilation: [1, 1], padding: [0, 0] };
    let to = if whole { [1, 1, shape.filters] } else { [height, width, shape.filters] };
    let mut network = of_shape(random, ProductKind::Conv, shape, window, to);
    network.tensors[0].shape = [height, width, channels];
    network
}

fn of_shape(random: &mut Random, kind: ProductKind, shape: Shape, window: Window, to: [usize; 3]) -> Network {
    let real = kind == ProductKind::Conv && shape.groups == 1 && random.coin();
    let scale = |random: &mut Random| {
        let exponent = if random.within(0, 5) == 0 { random.within(-40, 10) } else { random.within(-12, -5) };
        (random.within(1, 1 << 40) as f64 / (1_u64 << 40) as f64) * 2_f64.powi(exponent as i32)
    };
    let rescale = if real {
        let scales = if random.coin() { 1 } else { shape.filters };
        Rescale::Real((0..scales).map(|_| scale(random)).collect())
    } else {
        Rescale::Fixed((0..shape.filters).map(|_| random.multiplier()).collect())
    };
    let bias = |random: &mut Random| match random.within(0, 9) {
        0 => i32::MAX,
        1 => i32::MIN,
        _ => random.within(-20_000, 20_000) as i32,
    };
    let product = Product {
        kind,
        input: 0,
        shape,
        window,
        weights: random.codes(shape.weights()).into(),
        weights_name: String::new(),
        granularity: Granularity::Channel,
        bias: random.coin().then(|| (0..shape.filters).map(|_| bias(random)).collect()),
        rescale,
        bounds: random.bounds(),
    };
    network(random, shape.input, to, StepKind::Product(Box::new(product)))
}

fn binary(random: &mut Random, most: usize) -> Network {
    let shape = [random.length(1, 5), random.length(1, 5), random.length(1, most)];
    let constant = |codes: Vec<i8>| Operand::Constant(Constant { codes: codes.into() });
    let other = match random.within(0, 2) {
        0 => Operand::Tensor(0),
        1 => constant(random.codes(shape[2])),
        _ => constant(random.codes(shape.iter().product())),
    };
    let below_one = |random: &mut Random| {
        let m = random.multiplier();
        Multiplier { shift: m.shift.min(0), ..m }
    };
    let kind =
        if random.coin() { BinaryKind::Multiply } else { BinaryKind::Add([below_one(random), below_one(random)]) };
    let operands = if random.coin() { [Operand::Tensor(0), other] } else { [other, Operand::Tensor(0)] };
    let rescale = random.multiplier();
    let zero_points = [0; 2].map(|_| random.within(-128, 127) as i32);
    let binary = Binary { kind, operands, zero_points, rescale, bounds: random.bounds() };
    network(random, shape, shape, StepKind::Binary(Box::new(binary)))
}

fn pool(random: &mut Random, most: usize) -> Network {
    let shape = [random.length(1, 9), random.length(1, 9), random.length(1, most)];
    let filter = [random.length(1, 4), random.length(1, 4)];
    let stride = [random.length(1, 3), random.length(1, 3)];
    // A window that begins before the map must reach into it.
    let padding = filter.map(|length| random.length(0, length - 1));
    let places = [0, 1].map(|k| (shape[k] + padding[k] - 1) / stride[k] + 1);
    let kind = match random.within(0, 2) {
        0 => PoolKind::Max,
        1 => PoolKind::Average,
        _ => PoolKind::Mean(random.multiplier()),
    };
    let window = Window { filter, stride, dilation: [1, 1], padding };
    let pool = Pool { kind, input: 0, window, bounds: random.bounds() };
    network(random, shape, [places[0], places[1], shape[2]], StepKind::Pool(pool))
}

fn move_or_table(random: &mut Random, most: usize) -> Network {
    let shape = [random.length(1, 6), random.length(1, 6), random.length(1, most)];
    match random.within(0, 3) {
        0 => {
            let codes = Box::new(random.codes(256).try_into().unwrap());
            network(random, shape, shape, StepKind::Table { input: 0, codes })
        }
        1 => {
            let scale = random.within(1, 4000) as f32 / 10_000.0;
            let exponentials = super::softmax_exponentials(scale, 1.0).unwrap();
            network(random, shape, shape, StepKind::Softmax { input: 0, exponentials })
        }
        2 => network(random, shape, [shape[2], shape[0], shape[1]], StepKind::Reshape { input: 0 }),
        _ => {
            let parts = (0..random.length(1, 3)).map(|_| (0, [0; 3].map(|_| random.length(0, 5)))).collect();
            let kind = StepKind::Join { parts, fill: random.within(-128, 127) as i8 };
            network(random, shape, shape.map(|length| length + 5), kind)
        }
    }
}

fn device(test: &str, checked: bool) -> Option<Gpu> {
    let options = Options { checked, ..Options::default() };
    let gpu = Gpu::open(&options).ok();
    let required = std::env::var("WAVEHULL_REQUIRE_GPU").is_ok_and(|v| v == "1");
    assert!(gpu.is_some() || !required, "{test}: no adapter, and WAVEHULL_REQUIRE_GPU=1 demands one");
    if gpu.is_none() {
        println!("skipped: {test}: no adapter");
    }
    gpu
}

/// What the device computes with poison in all memory, and perhaps another text of a kernel.
fn computed(gpu: &Gpu, network: &Network, input: &[i8], change: Option<[&str; 3]>) -> Vec<Vec<i8>> {
    let samples = input.len() / network.input().len();
    pollster::block_on(async {
        let plan = Plan::new(gpu, network, samples, 1 << 26).await.unwrap();
        for memory in &plan.memory {
            let poison = vec![POISON; usize::try_from(memory.buffer().size() / 4).unwrap()];
            gpu.upload(memory.buffer(), bytemuck::cast_slice(&poison)).unwrap();
        }
        let recording = changed(plan.record(gpu.caps(), samples).unwrap(), change);
        let packed = super::packed(input, network.input().channels());
        plan.run_recorded(gpu, recording, (&packed, samples), &Control::default()).await.unwrap()
    })
}

/// Parameters of any kernel.
#[repr(transparent)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Raw([u32; 64]);

impl Params for Raw {
    const LAYOUT: &'static [(&'static str, usize)] = &[];
}

fn changed(recording: Recording, change: Option<[&str; 3]>) -> Recording {
    let Some([name, from, to]) = change else { return recording };
    let mut changed = Recording::new();
    for command in recording.commands() {
        let Command::Dispatch(dispatch) = command else { continue };
        let mut kernel = dispatch.kernel.clone();
        assert!(kernel.name == name && kernel.source.contains(from), "kernel '{name}' has no '{from}'");
        kernel.source = Box::leak(kernel.source.replace(from, to).into_boxed_str());
        kernel.params = Raw::LAYOUT;
        let mut params = Raw([0; 64]);
        bytemuck::bytes_of_mut(&mut params)[..dispatch.params.len()].copy_from_slice(&dispatch.params);
        changed.dispatch(&kernel, dispatch.bindings.clone(), &params, dispatch.grid.clone(), dispatch.work).unwrap();
    }
    changed
}

fn input_of(random: &mut Random, network: &Network) -> Vec<i8> {
    let samples = random.length(1, 4);
    random.codes(samples * network.input().len())
}

/// Random networks of a family, on both devices, against the twin.
fn compare(test: &str, seed: u64, cases: usize, make: impl Fn(&mut Random, usize) -> Network) {
    for checked in [false, true] {
        let Some(gpu) = device(test, checked) else { return };
        let mut random = Random(seed);
        for case in 0..cases {
            let network = make(&mut random, if case % 16 == 15 { 300 } else { 21 });
            let input = input_of(&mut random, &network);
            let expected = network.run_reference(Samples::Codes(&input)).unwrap();
            let got = computed(&gpu, &network, &input, None);
            assert!(got == expected.codes, "case {case} of seed {seed}, checked {checked}: {:?}", network.steps);
        }
    }
}

#[test]
fn products_equal_the_twin() {
    compare("products_equal_the_twin", 0x1234_5678_9abc, 160, product);
}

#[test]
fn dense_layers_equal_the_twin() {
    compare("dense_layers_equal_the_twin", 0x2345_6789_abcd, 48, dense);
}

#[test]
fn sums_and_products_equal_the_twin() {
    compare("sums_and_products_equal_the_twin", 0x3456_789a_bcde, 48, binary);
}

#[test]
fn pools_equal_the_twin() {
    compare("pools_equal_the_twin", 0x4567_89ab_cdef, 48, pool);
}

#[test]
fn moves_and_tables_equal_the_twin() {
    compare("moves_and_tables_equal_the_twin", 0x5678_9abc_def0, 64, move_or_table);
}

#[test]
fn many_samples_equal_few() {
    let Some(gpu) = device("many_samples_equal_few", false) else { return };
    let mut random = Random(77);
    for make in [product, dense, binary, pool, move_or_table] {
        let network = make(&mut random, 21);
        let input = random.codes(11 * network.input().len());
        let whole = network.run(&gpu, Samples::Codes(&input), &Control::default()).unwrap();
        for bytes in [1, 3000] {
            let parts = pollster::block_on(network.run_in_parts(&gpu, &input, bytes, &Control::default())).unwrap();
            assert!(parts == whole, "{:?}", network.steps);
        }
    }
}

#[test]
fn broken_kernels_are_noticed() {
    let Some(gpu) = device("broken_kernels_are_noticed", false) else { return };
    type Make = fn(&mut Random, usize) -> Network;
    let cases: [(Make, [&str; 3]); 10] = [
        (product, ["integer_conv", "y${i} < p.in_h &&", "y${i} <= p.in_h &&"]),
        (product, ["integer_conv", "i * p.dilation_y", "i"]),
        (product, ["integer_depthwise", "j * p.dilation_x", "j"]),
        (product, ["integer_depthwise", "p.outside, source", "0u, source"]),
        (product, ["integer_grouped", "f / p.each * p.depth", "0u"]),
        (dense, ["integer_conv", "sum > bounds", "sum >= bounds"]),
        (binary, ["integer_add", "vec4<u32>(20u)", "vec4<u32>(19u)"]),
        (pool, ["integer_pool", "select(-half, half,", "select(half, half,"]),
        (move_or_table, ["integer_copy", "from${i} & 3u", "c${i} & 3u"]),
        (move_or_table, ["integer_softmax", "35u - zeros", "34u - zeros"]),
    ];
    for (make, change) in cases {
        let mut random = Random(99);
        let differs = |random: &mut Random| {
            let network = make(random, 21);
            let input = input_of(random, &network);
            let recording =
                pollster::block_on(Plan::new(&gpu, &network, 1, 1 << 20)).unwrap().record(gpu.caps(), 1).unwrap();
            let runs =
                recording.commands().iter().any(|c| matches!(c, Command::Dispatch(d) if d.kernel.name == change[0]));
            let expected = network.run_reference(Samples::Codes(&input)).unwrap();
            runs && computed(&gpu, &network, &input, Some(change)) != expected.codes
        };
        assert!((0..200).any(|_| differs(&mut random)), "{change:?} went unseen");
    }
}
