//! The device layer: recordings, the memory pool, cutting and cancelling, loss, and borrowed devices.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::Random;
use wavehull::gpu::{Access, Binding, Buffer, Command, Kernel, Progress, ProgressSink, Recording};
use wavehull::ops::elementwise::{self, Binary, Unary};
use wavehull::ops::matmul::{Matmul, Variant};
use wavehull::ops::{reduce, transpose};
use wavehull::{Control, ErrorKind, Gpu, Options, Tensor, wgpu};

/// The first dispatch of a recording.
fn first(recording: &Recording) -> wavehull::gpu::Dispatch {
    let Some(Command::Dispatch(dispatch)) = recording.commands().first() else { panic!("no dispatch") };
    (**dispatch).clone()
}

/// `y = -x`, for something to run.
fn negation(gpu: &Gpu, n: usize) -> (Recording, Tensor) {
    let x = common::tensor(gpu, &[n], &Random::new(1).floats(n));
    let y = common::poisoned(gpu, &[n]);
    let mut recording = Recording::new();
    elementwise::unary(&mut recording, gpu.caps(), Unary::Neg, &x, &y).unwrap();
    (recording, y)
}

#[test]
fn a_recording_reads_like_a_list_of_what_happens() {
    let Some(gpu) = common::device("a_recording_reads_like_a_list_of_what_happens", false) else { return };
    let t = |shape: &[usize]| Tensor::<f32>::uninit(gpu, shape).unwrap();
    let (a, b, c) = (t(&[40, 30]), t(&[20, 30]), t(&[40, 20]));
    let mut recording = Recording::new();
    recording.clear(c.binding());
    let product = Matmul { trans_b: true, variant: Some(Variant::Tiled), ..Matmul::default() };
    product.record(&mut recording, gpu.caps(), &a, &b, &c).unwrap();
    // Arguments of indirect dispatches live in a page of their own.
    let arguments = Binding::whole(&gpu.allocate_arguments(3).unwrap());
    recording.copy(Binding { size: arguments.size, ..c.binding() }, arguments).unwrap();
    recording.read(c.binding());
    assert_eq!(
        recording.to_string(),
        "clear 3328 bytes\ndispatch matmul_tiled [SIDE=64 DEPTH=16 QR=2 QC=1 INVOCATIONS=128 VECTORS=256 TRANS_B=] 1x1x1\ncopy 256 bytes\nread 3328 bytes\n"
    );
    assert_eq!(recording.dispatches(), 1);
}

#[test]
fn dispatches_that_do_not_fit_their_kernel_are_refused() {
    let Some(gpu) = common::device("dispatches_that_do_not_fit_their_kernel_are_refused", false) else { return };
    let good = first(&negation(gpu, 100).0);
    let kernel = Kernel { params: <common::Words as wavehull::gpu::Params>::LAYOUT, ..good.kernel.clone() };
    let params = common::Words([0; 64]);
    let buffer = gpu.allocate(1024).unwrap();
    let part = |offset, size| Binding { buffer: buffer.clone(), offset, size };
    let record = |kernel: &Kernel, bindings: Vec<Binding>| {
        let mut recording = Recording::new();
        recording.dispatch(kernel, bindings, &params, good.grid.clone(), 1.0).map_err(|error| {
            assert_eq!(error.kind(), ErrorKind::Internal);
            error.to_string()
        })
    };
    let refused = |bindings: Vec<Binding>| record(&kernel, bindings).unwrap_err();
    assert_eq!(kernel.bindings, [Access::Read, Access::Read, Access::Write]);
    record(&kernel, vec![part(0, 256), part(0, 256), part(256, 256)]).expect("two reads may overlap");
    record(&kernel, vec![part(0, 256), part(512, 512), part(256, 256)]).expect("ranges may touch");
    for bindings in [
        vec![part(0, 256), part(256, 256), part(0, 256)],
        vec![part(0, 512), part(512, 256), part(256, 256)],
        vec![part(512, 256), part(0, 1024), part(256, 256)],
    ] {
        assert!(refused(bindings).contains("overlap and one is written"));
    }
    assert!(refused(vec![part(0, 256), part(256, 256)]).contains("has 3 bindings, 2 were given"));
    for outside in [part(384, 256), part(768, 512), part(512, 0)] {
        assert!(refused(vec![part(0, 256), part(0, 256), outside]).contains("leaves its buffer"));
    }
    let foreign = record(&good.kernel, good.bindings.clone()).unwrap_err();
    assert!(foreign.contains("another kernel's parameters"), "{foreign}");
}

#[test]
fn copies_of_different_sizes_or_inside_one_page_are_refused() {
    let Some(gpu) = common::device("copies_of_different_sizes_or_inside_one_page_are_refused", false) else { return };
    let numbers: Vec<u32> = (0..128).collect();
    let source = common::tensor(gpu, &[128], &numbers);
    let arguments = Binding::whole(&gpu.allocate_arguments(3).unwrap());
    let part = |offset, size| Binding { offset, size, ..source.binding() };
    let mut recording = Recording::new();
    assert!(recording.copy(part(0, 512), arguments.clone()).is_err(), "sizes differ");
    assert!(recording.copy(part(0, 256), part(256, 256)).is_err(), "wgpu does not copy inside a buffer");
    assert_eq!(recording.commands().len(), 0, "what was refused is not recorded");
    recording.clear(part(0, 256));
    recording.copy(part(256, 256), arguments.clone()).unwrap();
    let (whole, copied) = (recording.read(source.binding()), recording.read(arguments));
    let mut output = gpu.run(&recording, &Control::default()).unwrap();
    assert_eq!(output.take::<u32>(copied), numbers[64..]);
    assert_eq!(output.take::<u32>(whole), [&[0; 64], &numbers[64..]].concat(), "half is cleared");
}

#[test]
fn a_kernel_that_does_not_compile_is_an_error_and_no_more() {
    let Some(gpu) = common::device("a_kernel_that_does_not_compile_is_an_error_and_no_more", false) else { return };
    let (recording, y) = negation(gpu, 64);
    let bad = common::broken(&recording, "elementwise", "let value = ${EXPR};", "let value = nonsense;");
    let error = gpu.run(&bad, &Control::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Shader, "{error}");
    assert_eq!(common::run(gpu, &recording, &y, false).len(), 64, "the device works on");
}

/// A device of its own with a memory budget.
fn limited(test: &str, budget: u64) -> Option<Gpu> {
    common::device(test, false)?;
    let mut options = Options::default();
    options.memory_budget = Some(budget);
    Some(Gpu::open(&options).unwrap())
}

/// Live buffers never share bytes.
fn disjoint(live: &[Buffer]) -> bool {
    let mut ranges: Vec<_> = live.iter().map(|b| (format!("{:?}", b.raw().0), b.raw().1, b.size())).collect();
    ranges.sort();
    ranges.windows(2).all(|w| w[0].0 != w[1].0 || w[0].1 + w[0].2 <= w[1].1)
}

#[test]
fn the_pool_keeps_to_its_budget_and_tells_never_from_not_now() {
    const BUDGET: u64 = 64 << 20;
    let Some(gpu) = limited("the_pool_keeps_to_its_budget_and_tells_never_from_not_now", BUDGET) else { return };
    let kind = |bytes: u64| gpu.allocate(bytes).map_err(|error| error.kind());
    assert_eq!(kind(BUDGET + 1).unwrap_err(), ErrorKind::TooBig, "more than the budget");
    assert_eq!(kind(gpu.caps().max_binding + 256).unwrap_err(), ErrorKind::TooBig, "more than a binding");
    let mut random = Random::new(3);
    let mut live = Vec::new();
    let mut full = 0;
    for _ in 0..2000 {
        let bytes = 1 + (random.bits() % (1 << [8, 14, 20, 24][random.below(4)]));
        match kind(bytes) {
            Ok(buffer) => live.push(buffer),
            Err(kind) => {
                assert_eq!(kind, ErrorKind::OutOfMemory, "{bytes} bytes fit, but not now");
                full += 1;
            }
        }
        if random.below(3) == 0 && !live.is_empty() {
            live.swap_remove(random.below(live.len()));
        }
        let memory = gpu.memory();
        let held: u64 = live.iter().map(|b| b.size()).sum();
        assert_eq!(memory.live, held);
        assert!(memory.live <= memory.reserved && memory.reserved <= BUDGET && memory.peak >= held, "{memory:?}");
    }
    assert!(full > 10, "the budget was never reached");
    assert!(disjoint(&live), "two buffers overlap");
    live.clear();
    assert_eq!(gpu.memory().live, 0);
    gpu.reset_peak();
    assert_eq!(gpu.memory().peak, 0);
    assert_eq!(gpu.allocate(40 << 20).unwrap().size(), 40 << 20, "free pages go back when a large buffer needs them");
}

#[test]
fn threads_that_allocate_at_once_get_a_buffer_each() {
    const THREADS: usize = 8;
    // A thread holds one buffer and asks for another, of at most 18 MiB: nobody has to wait.
    const BUDGET: u64 = THREADS as u64 * (40 << 20);
    let Some(gpu) = limited("threads_that_allocate_at_once_get_a_buffer_each", BUDGET) else { return };
    let work = || {
        let mut live = Vec::new();
        for round in 0..500 {
            live.truncate(1);
            // A little more each time, so that no old page does and a new one is there for all threads to see.
            live.insert(0, gpu.allocate((16 << 20) + round * 4096).unwrap());
        }
        live
    };
    let live: Vec<Buffer> = std::thread::scope(|scope| {
        let threads = [(); THREADS].map(|()| scope.spawn(work));
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(disjoint(&live), "two buffers overlap");
    assert_eq!(gpu.memory().live, live.iter().map(Buffer::size).sum::<u64>());
    drop(live);
    assert_eq!(gpu.memory().live, 0);
}

#[test]
fn memory_of_a_tensor_comes_back_with_its_last_clone() {
    let Some(gpu) = limited("memory_of_a_tensor_comes_back_with_its_last_clone", 1 << 20) else { return };
    let tensor: Tensor = Tensor::uninit(&gpu, &[10, 33]).unwrap();
    assert_eq!(gpu.memory().live, 1536, "ten rows of 36, in whole 256 bytes");
    let (clone, recording) = (tensor.shared(4), negation(&gpu, 64).0);
    drop(tensor);
    assert_eq!(gpu.memory().live, 1536 + 512, "a clone and a recording hold memory");
    drop((clone, recording));
    assert_eq!((gpu.memory().live, gpu.memory().peak), (0, 2048));
    let error = Tensor::<f32>::uninit(&gpu, &[usize::MAX / 2, 7]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooBig, "sizes do not wrap around");
}

/// The same recording with estimates that make every dispatch a long one.
fn long(recording: &Recording) -> Recording {
    common::changed(recording, |_, work| *work = 1e13)
}

/// Recordings whose grids are long in one dimension each, with what they write.
fn grids(gpu: &Gpu) -> Vec<(Recording, Tensor)> {
    let random = |shape: &[usize]| common::tensor(gpu, shape, &Random::new(2).floats(shape.iter().product()));
    let caps = gpu.caps();
    let mut recordings = Vec::new();
    let mut add = |shape: &[usize], record: &dyn Fn(&mut Recording, &Tensor)| {
        let (mut recording, out) = (Recording::new(), common::poisoned(gpu, shape));
        record(&mut recording, &out);
        recordings.push((recording, out));
    };
    for ([batch, m, n], variant) in [
        ([1, 200, 17], Variant::Direct { rows: 16, columns: 4, lanes: 8 }),
        ([1, 20, 500], Variant::Tiled),
        ([9, 20, 20], Variant::Tiled),
    ] {
        let (a, b) = (random(&[batch, m, 50]), random(&[batch, 50, n]));
        let product = Matmul { variant: Some(variant), ..Matmul::default() };
        add(&[batch, m, n], &|r, c| product.record(r, caps, &a, &b, c).unwrap());
    }
    let x = random(&[70, 131]);
    add(&[70, 131], &|r, y| elementwise::binary(r, caps, Binary::Mul, &x, &x, y).unwrap());
    let tall = random(&[300, 131]);
    add(&[300], &|r, sums| reduce::record(r, caps, reduce::Reduction::Sum, &tall, sums).unwrap());
    add(&[131, 70], &|r, turned| transpose::record(r, &x, turned).unwrap());
    recordings
}

#[test]
fn a_long_dispatch_is_cut_into_submissions_with_the_same_bits() {
    const NAME: &str = "a_long_dispatch_is_cut_into_submissions_with_the_same_bits";
    let Some(gpu) = common::device(NAME, false) else { return };
    for (case, (recording, out)) in grids(gpu).into_iter().enumerate() {
        let name = first(&recording).kernel.name;
        let whole = common::run_raw(gpu, &recording, &out);
        // A device of its own each: it learns a rate from work that was never done.
        let fresh = common::open(false).unwrap();
        let (recording, out) = grids(&fresh).swap_remove(case);
        let mut cut = long(&recording);
        let ticket = cut.read(out.binding());
        let mut output = fresh.run(&cut, &Control::default()).unwrap();
        assert!(output.submissions > 2, "{name}: {} submissions", output.submissions);
        assert!(output.take::<u32>(ticket) == whole, "{name} gives other bits when it is cut");
    }
}

/// Cancels its token after so many reports.
struct Stop {
    after: usize,
    seen: AtomicUsize,
    token: wavehull::CancelToken,
}

impl ProgressSink for Stop {
    fn update(&self, progress: Progress<'_>) {
        assert!(progress.done <= progress.total, "{progress:?}");
        if self.seen.fetch_add(1, Ordering::Relaxed) + 1 == self.after {
            self.token.cancel();
        }
    }
}

#[test]
fn a_cancel_token_stops_a_long_recording_between_submissions() {
    if common::device("a_cancel_token_stops_a_long_recording_between_submissions", false).is_none() {
        return;
    }
    let gpu = common::open(false).unwrap();
    let (recording, y) = negation(&gpu, 10_000);
    let recording = long(&recording);
    let token = wavehull::CancelToken::new();
    let stop = Arc::new(Stop { after: 3, seen: AtomicUsize::new(0), token: token.clone() });
    let control = Control { cancel: token, progress: Some(stop.clone()) };
    assert_eq!(gpu.run(&recording, &control).unwrap_err().kind(), ErrorKind::Cancelled);
    let seen = stop.seen.load(Ordering::Relaxed);
    assert!((3..10).contains(&seen), "it went on for {seen} submissions");
    assert_eq!(gpu.run(&recording, &control).unwrap_err().kind(), ErrorKind::Cancelled, "before the first submission");
    let values = common::run(&gpu, &recording, &y, false);
    assert_eq!(values.len(), 10_000, "the device works on after a cancelled run");
}

#[test]
fn a_lost_device_is_an_error_with_a_way_out() {
    if common::device("a_lost_device_is_an_error_with_a_way_out", false).is_none() {
        return;
    }
    let gpu = common::open(false).unwrap();
    let (recording, y) = negation(&gpu, 100);
    common::run(&gpu, &recording, &y, false);
    gpu.device().destroy();
    for _ in 0..2 {
        let error = gpu.run(&recording, &Control::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DeviceLost, "{error}");
    }
}

/// A device of the host's, with limits that it may narrow.
fn host(narrow: impl FnOnce(&mut wgpu::Limits)) -> (wgpu::Device, wgpu::Queue, wgpu::AdapterInfo) {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapter = pollster::block_on(instance.request_adapter(&wgpu::RequestAdapterOptions::default())).unwrap();
    let mut required_limits = wavehull::gpu::required_limits(&adapter);
    narrow(&mut required_limits);
    let descriptor = wgpu::DeviceDescriptor { required_limits, ..Default::default() };
    let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).unwrap();
    (device, queue, adapter.get_info())
}

#[test]
fn a_borrowed_device_keeps_its_hosts_handlers_and_outlives_the_loan() {
    if common::device("a_borrowed_device_keeps_its_hosts_handlers_and_outlives_the_loan", false).is_none() {
        return;
    }
    let (device, queue, info) = host(|_| ());
    let heard = Arc::new(AtomicUsize::new(0));
    let ear = Arc::clone(&heard);
    device.on_uncaptured_error(Arc::new(move |_| {
        ear.fetch_add(1, Ordering::Relaxed);
    }));
    let gpu = Gpu::from_wgpu(device.clone(), queue.clone(), &info, &Options::default());
    let (recording, y) = negation(&gpu, 100);
    assert_eq!(common::run(&gpu, &recording, &y, false).len(), 100);
    // A kernel that does not compile is reported to its caller, not to the host.
    let bad = common::broken(&recording, "elementwise", "let value = ${EXPR};", "let value = nonsense;");
    assert_eq!(gpu.run(&bad, &Control::default()).unwrap_err().kind(), ErrorKind::Shader);
    assert_eq!(heard.load(Ordering::Relaxed), 0, "the host heard of our error");
    let wrong = |device: &wgpu::Device| {
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::STORAGE;
        device.create_buffer(&wgpu::BufferDescriptor { label: None, size: 16, usage, mapped_at_creation: false })
    };
    wrong(&device);
    assert_eq!(heard.load(Ordering::Relaxed), 1, "the host's handler was replaced");
    drop((gpu, recording, y, bad));
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
    let own = device.create_buffer(&wgpu::BufferDescriptor { label: None, size: 16, usage, mapped_at_creation: false });
    queue.write_buffer(&own, 0, &[1; 16]);
    queue.submit([]);
    device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
    assert_eq!(heard.load(Ordering::Relaxed), 1, "the device works on after the loan");
}

#[test]
fn a_borrowed_device_without_a_handler_never_panics() {
    if common::device("a_borrowed_device_without_a_handler_never_panics", false).is_none() {
        return;
    }
    // Neither page, parameters nor readback have the room that they like.
    let (device, queue, info) = host(|limits| limits.max_buffer_size = 20_000);
    let gpu = Gpu::from_wgpu(device.clone(), queue, &info, &Options::default());
    let (recording, y) = negation(&gpu, 4500);
    assert_eq!(common::run(&gpu, &recording, &y, false).len(), 4500, "18,000 bytes are read back, not 32,768");
    let mut many = Recording::new();
    let one = first(&recording);
    let kernel = Kernel { params: <common::Words as wavehull::gpu::Params>::LAYOUT, ..one.kernel };
    for _ in 0..1000 {
        many.dispatch(&kernel, one.bindings.clone(), &common::Words([0; 64]), one.grid.clone(), 1.0).unwrap();
    }
    for _ in 0..2 {
        let error = gpu.run(&many, &Control::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal, "parameters of 1,000 dispatches: {error}");
        assert_eq!(common::run(&gpu, &recording, &y, false).len(), 4500, "the device works on");
    }
    device.destroy();
    for _ in 0..2 {
        let mut recording = recording.clone();
        recording.read(y.binding());
        let error = gpu.run(&recording, &Control::default()).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::DeviceLost | ErrorKind::Internal), "{error}");
        // Whether these notice is the driver's affair.
        let _ = (gpu.upload(y.buffer(), &[1; 5]), gpu.allocate(16_000));
    }
}
