//! Tensors larger than one binding: operators walk windows and give the same bits.

use wavehull::gpu::{Binding, Command, Recording};
use wavehull::ops::elementwise::{self, Binary, Unary};
use wavehull::ops::matmul::{Matmul, Variant};
use wavehull::ops::norm::{Backward, batch, group, layer};
use wavehull::ops::reduce::{self, Reduction};
use wavehull::ops::{columns, embedding, softmax, transpose};
use wavehull::{Control, ErrorKind, Gpu, Options, Tensor};

use crate::common::{self, Random};

/// A device that binds at most 64 KiB at once, and one that binds what it can.
fn devices(test: &str) -> Option<(Gpu, &'static Gpu)> {
    let whole = common::device(test, false)?;
    let mut options = Options::default();
    options.max_binding = Some(64 << 10);
    let small = Gpu::open(&options).unwrap();
    assert_eq!(small.caps().max_binding, 64 << 10);
    Some((small, whole))
}

/// What an operator writes, on one device.
fn bits(gpu: &Gpu, shape: &[usize], record: &dyn Fn(&Gpu, &mut Recording, &Tensor), padding: bool) -> Vec<u32> {
    let out = common::poisoned(gpu, shape);
    let mut recording = Recording::new();
    record(gpu, &mut recording, &out);
    let most = gpu.caps().max_binding;
    let sizes = |c: &Command| if let Command::Dispatch(d) = c { d.bindings.clone() } else { Vec::new() };
    let largest = recording.commands().iter().flat_map(sizes).map(|b: Binding| b.size).max();
    assert!(largest <= Some(most), "{largest:?} bytes are bound where {most} may be");
    common::run::<f32>(gpu, &recording, &out, padding).iter().map(|v| v.to_bits()).collect()
}

/// The same operator on both devices gives the same bits, in several dispatches on the small one.
fn same(devices: &(Gpu, &Gpu), what: &str, shape: &[usize], record: &dyn Fn(&Gpu, &mut Recording, &Tensor)) {
    same_with(devices, what, shape, record, false);
}

fn same_with(
    (small, whole): &(Gpu, &Gpu),
    what: &str,
    shape: &[usize],
    record: &dyn Fn(&Gpu, &mut Recording, &Tensor),
    padding: bool,
) {
    let expected = bits(whole, shape, record, padding);
    assert!(bits(small, shape, record, padding) == expected, "{what}: windows give other bits");
}

fn random(gpu: &Gpu, shape: &[usize]) -> Tensor {
    common::tensor(gpu, shape, &Random::new(shape.len() as u64 + shape[0] as u64).floats(shape.iter().product()))
}

#[test]
fn products_in_windows_have_the_bits_of_one_dispatch() {
    let Some(devices) = devices("products_in_windows_have_the_bits_of_one_dispatch") else { return };
    // Rows of a and c; rows of b (k in windows); all of them; many batches; batches that are too large themselves.
    for (batch, m, n, k) in
        [(1, 250, 40, 100), (1, 20, 150, 240), (1, 250, 200, 250), (70, 40, 20, 24), (2, 192, 192, 256)]
    {
        for [trans_a, trans_b] in [[false, false], [true, false], [false, true], [true, true]] {
            for variant in [Variant::Direct { rows: 16, columns: 8, lanes: 8 }, Variant::TiledSmall] {
                let stored =
                    |swap: bool, rows, columns| if swap { [batch, columns, rows] } else { [batch, rows, columns] };
                let record = |gpu: &Gpu, recording: &mut Recording, c: &Tensor| {
                    let a = random(gpu, &stored(trans_a, m, k));
                    let b = random(gpu, &stored(trans_b, k, n));
                    let bias = random(gpu, &[n]);
                    let product = Matmul {
                        trans_a,
                        trans_b,
                        bias: Some(&bias),
                        relu: true,
                        variant: Some(variant),
                        ..Matmul::default()
                    };
                    product.record(recording, gpu.caps(), &a, &b, c).unwrap();
                };
                let what = format!("{batch} x {m} x {n} x {k}, {trans_a} {trans_b}, {variant}");
                same_with(&devices, &what, &[batch, m, n], &record, true);
            }
        }
    }
}

#[test]
fn shared_and_split_products_in_windows_have_the_bits_of_one_dispatch() {
    let Some(devices) = devices("shared_and_split_products_in_windows_have_the_bits_of_one_dispatch") else { return };
    let shared = |gpu: &Gpu, recording: &mut Recording, c: &Tensor| {
        let (a, b) = (random(gpu, &[90, 33, 20]), random(gpu, &[20, 17]).shared(90));
        let bias = random(gpu, &[90, 17]);
        let product = Matmul { bias: Some(&bias), ..Matmul::default() };
        product.record(recording, gpu.caps(), &a, &b, c).unwrap();
    };
    same_with(&devices, "a shared operand", &[90, 33, 17], &shared, true);
    let split = |gpu: &Gpu, recording: &mut Recording, planes: &Tensor| {
        let (a, b) = (random(gpu, &[1, 208, 300]), random(gpu, &[1, 300, 90]));
        Matmul::default().record_split(recording, gpu.caps(), &a, &b, planes, 128).unwrap();
    };
    same_with(&devices, "planes", &[1, 3, 208, 90], &split, true);
}

#[test]
fn elementwise_windows_have_the_bits_of_one_dispatch() {
    let Some(devices) = devices("elementwise_windows_have_the_bits_of_one_dispatch") else { return };
    for [out, x, y] in [
        [&[50_001][..], &[50_001], &[50_001]],
        [&[300, 128], &[300, 128], &[300, 128]],
        [&[700, 33], &[700, 33], &[33]],
        [&[700, 33], &[700, 1], &[700, 33]],
        [&[400, 3, 5, 12], &[3, 1, 12], &[400, 1, 5, 1]],
        [&[1, 9, 60, 61], &[1, 9, 60, 61], &[9, 1, 61]],
    ] {
        let record = |gpu: &Gpu, recording: &mut Recording, c: &Tensor| {
            let (a, b) = (random(gpu, x), random(gpu, y));
            elementwise::binary(recording, gpu.caps(), Binary::Sub, &a, &b, c).unwrap();
        };
        same(&devices, &format!("{out:?}"), out, &record);
    }
    let negated = |gpu: &Gpu, recording: &mut Recording, c: &Tensor| {
        elementwise::unary(recording, gpu.caps(), Unary::Neg, &random(gpu, &[700, 33]), c).unwrap();
        elementwise::unary_in_place(recording, gpu.caps(), Unary::Abs, c).unwrap();
    };
    same(&devices, "in place", &[700, 33], &negated);
}

#[test]
fn reductions_and_transposes_in_windows_have_the_bits_of_one_dispatch() {
    let Some(devices) = devices("reductions_and_transposes_in_windows_have_the_bits_of_one_dispatch") else { return };
    for (rows, n) in [(1000, 33), (20_000, 3), (200, 100)] {
        let record = |gpu: &Gpu, recording: &mut Recording, c: &Tensor| {
            reduce::record(recording, gpu.caps(), Reduction::Sum, &random(gpu, &[rows, n]), c).unwrap();
        };
        same(&devices, &format!("sums of {rows} x {n}"), &[rows], &record);
    }
    for shape in [[1, 200, 130], [1, 70, 250], [1, 233, 231], [3, 256, 128]] {
        let [batch, m, n] = shape;
        let record = |gpu: &Gpu, recording: &mut Recording, c: &Tensor| {
            transpose::record_windows(recording, gpu.caps(), &random(gpu, &shape), c).unwrap();
        };
        same(&devices, &format!("{shape:?} turned"), &[batch, n, m], &record);
    }
}

/// A field of a table of which 64 KiB hold four rows.
fn field(gpu: &Gpu, shape: &[usize]) -> Tensor {
    random(gpu, &[9, 4096]).field(3 * 64, shape).unwrap()
}

#[test]
fn operators_of_slots_in_windows_have_the_bits_of_one_dispatch() {
    let Some(devices) = devices("operators_of_slots_in_windows_have_the_bits_of_one_dispatch") else { return };
    let shape = [9, 2, 20, 96];
    let u = |gpu: &Gpu, shape: &[usize]| Tensor::<f32>::uninit(gpu, shape).unwrap();
    same_with(
        &devices,
        "column sums",
        &[9, 96],
        &|gpu, r, out| {
            let x = random(gpu, &shape);
            columns::products(r, gpu.caps(), &x, &x, &u(gpu, &columns::scratch(&shape)), out).unwrap();
        },
        true,
    );
    same_with(
        &devices,
        "batch norm",
        &shape,
        &|gpu, r, out| {
            let (x, affine, saved, caps) = (random(gpu, &shape), field(gpu, &[2, 96]), u(gpu, &[9, 2, 96]), gpu.caps());
            let (parts, y, sums) = (u(gpu, &batch::scratch(&shape)), u(gpu, &shape), u(gpu, &[9, 2, 96]));
            batch::statistics(r, caps, &x, 1e-5, None, &parts, &saved).unwrap();
            batch::apply(r, caps, &x, batch::Statistics::Saved(&saved), &affine, &y).unwrap();
            let of = Backward { x: &x, g: &y, saved: &saved, affine: &affine };
            batch::sums(r, caps, &of, &parts, &sums).unwrap();
            batch::input_gradient(r, caps, &of, &sums, out).unwrap();
        },
        true,
    );
    same_with(
        &devices,
        "group norm",
        &shape,
        &|gpu, r, out| {
            let (x, affine, y, caps) = (random(gpu, &shape), field(gpu, &[2, 96]), u(gpu, &shape), gpu.caps());
            let [channels, saved, sums] = [0; 3].map(|_| u(gpu, &[9, 2, 2, 96]));
            let parts = u(gpu, &group::scratch(&shape));
            group::statistics(r, caps, &x, (8, 1e-5), &parts, &channels, &saved).unwrap();
            group::apply(r, caps, &x, &saved, &affine, &y).unwrap();
            let of = Backward { x: &x, g: &y, saved: &saved, affine: &affine };
            group::sums(r, caps, &of, &parts, &sums).unwrap();
            group::input_gradient(r, caps, &of, 8, &sums, &channels, out).unwrap();
        },
        true,
    );
    same_with(
        &devices,
        "layer norm",
        &shape,
        &|gpu, r, out| {
            // Statistics of a slot are 160 words: two slots are five times 64.
            let (x, affine, y, caps) = (random(gpu, &shape), field(gpu, &[2, 96]), u(gpu, &shape), gpu.caps());
            let saved = u(gpu, &layer::saved(&shape));
            layer::forward(r, caps, &x, &affine, 1e-5, &saved, &y).unwrap();
            layer::input_gradient(r, caps, &Backward { x: &x, g: &y, saved: &saved, affine: &affine }, out).unwrap();
        },
        true,
    );
    same_with(
        &devices,
        "embedding",
        &[9, 40, 96],
        &|gpu, r, out| {
            let (ids, table, g, caps) = (
                common::tensor(gpu, &[40], &(0..40).map(|i| (i * 7 % 33) as f32).collect::<Vec<_>>()).shared(9),
                field(gpu, &[40, 96]),
                u(gpu, &[9, 40, 96]),
                gpu.caps(),
            );
            let links = Tensor::uninit(gpu, &embedding::links_shape(&ids, 40)).unwrap();
            embedding::forward(r, caps, &ids, &table, &g).unwrap();
            embedding::links(r, caps, &ids, 40, None, &links).unwrap();
            embedding::gradient(r, caps, &links, &g, out).unwrap();
        },
        true,
    );
    same_with(
        &devices,
        "softmax gradient",
        &[300, 100],
        &|gpu, r, out| {
            let y = random(gpu, &[300, 100]);
            softmax::gradient(r, gpu.caps(), &y, &random(gpu, &[300, 100]), out).unwrap();
        },
        true,
    );
}

#[test]
fn what_has_no_windows_is_refused_with_a_way_out() {
    let Some((small, _)) = devices("what_has_no_windows_is_refused_with_a_way_out") else { return };
    let wide = |columns: usize| Tensor::<f32>::uninit(&small, &[3, columns]).unwrap();
    let mut recording = Recording::new();
    // Without gaps, a window may end inside a row.
    elementwise::unary(&mut recording, small.caps(), Unary::Neg, &wide(20_000), &wide(20_000)).unwrap();
    assert!(recording.dispatches() > 1);
    let error = elementwise::unary(&mut recording, small.caps(), Unary::Neg, &wide(20_001), &wide(20_001)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooBig, "a row of 80 kB is more than a binding");
    let (tall, turned) = (Tensor::<f32>::uninit(&small, &[20_000, 3]).unwrap(), wide(20_000));
    let error = transpose::record_windows(&mut recording, small.caps(), &tall, &turned).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooBig);
    assert!(error.help().is_some(), "{error}");
    // An operator that knows no windows records, and the device refuses it.
    let mut recording = Recording::new();
    transpose::record(&mut recording, &tall, &turned).unwrap();
    let error = small.run(&recording, &Control::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooBig, "{error}");
    assert!(error.message().contains("transpose"), "{error}");
}

/// More than the 128 MiB that software devices, and WebGPU's default, bind at once. Some seconds.
#[test]
fn a_tensor_of_more_than_128_mib_goes_through_every_dense_kernel() {
    const NAME: &str = "a_tensor_of_more_than_128_mib_goes_through_every_dense_kernel";
    let Some(gpu) = common::device(NAME, false) else { return };
    if std::env::var("WAVEHULL_QUICK").is_ok_and(|v| v == "1") {
        common::say(&format!("skipped: {NAME}: WAVEHULL_QUICK=1"));
        return;
    }
    let (rows, columns) = (35_000, 1024);
    let mut options = Options::default();
    options.max_binding = Some(128 << 20);
    let gpu = &if gpu.caps().max_binding > 128 << 20 { Gpu::open(&options).unwrap() } else { gpu.clone() };
    // Small integers: every sum is exact, so that bits can be compared with integers.
    let value = |i: usize, j: usize| ((i * 31 + j * 17) % 7) as f32 - 3.0;
    let host: Vec<f32> = (0..rows * columns).map(|at| value(at / columns, at % columns)).collect();
    let x = Tensor::from_slice(gpu, &[rows, columns], &host).unwrap();
    assert!(x.binding().size > 128 << 20);
    elementwise_and_back(gpu, &x);
    let ones = Tensor::from_slice(gpu, &[columns, 8], &vec![1.0; columns * 8]).unwrap();
    let (product, sums) = (common::poisoned(gpu, &[rows, 8]), common::poisoned(gpu, &[rows]));
    let mut recording = Recording::new();
    Matmul::default().record(&mut recording, gpu.caps(), &x, &ones, &product).unwrap();
    reduce::record(&mut recording, gpu.caps(), Reduction::Sum, &x, &sums).unwrap();
    gpu.run(&recording, &Control::default()).unwrap();
    let (product, sums) = (product.to_array(gpu).unwrap(), sums.to_array(gpu).unwrap());
    for (i, row) in host.chunks(columns).enumerate() {
        let sum: f32 = row.iter().sum();
        assert!(sums[[i]] == sum && (0..8).all(|j| product[[i, j]] == sum), "row {i}");
    }
}

/// Turns the array and turns it back, negating it in place twice on the way.
fn elementwise_and_back(gpu: &Gpu, x: &Tensor) {
    let &[rows, columns] = x.shape() else { panic!("a matrix") };
    let before = x.to_array(gpu).unwrap();
    let turned: Tensor = common::poisoned(gpu, &[columns, rows]);
    let mut recording = Recording::new();
    elementwise::unary_in_place(&mut recording, gpu.caps(), Unary::Neg, x).unwrap();
    transpose::record_windows(&mut recording, gpu.caps(), x, &turned).unwrap();
    elementwise::unary_in_place(&mut recording, gpu.caps(), Unary::Neg, &turned).unwrap();
    elementwise::unary(&mut recording, gpu.caps(), Unary::Abs, &turned, &turned).unwrap_err();
    transpose::record_windows(&mut recording, gpu.caps(), &turned, x).unwrap();
    gpu.run(&recording, &Control::default()).unwrap();
    assert!(x.to_array(gpu).unwrap() == before, "something was lost on the way");
}
