//! How fast the kernels read, beside a copy in the same run.

use wavehull::gpu::{Binding, Buffer, Grid, Kernel, Params, Recording};
use wavehull::pack::Element;
use wavehull::{Control, Gpu};

use super::common::{Random, Words, device, say};
use super::{Look, code};

/// The kernel of this name with exactly these defines.
fn kernel(name: &str, defines: &[&str]) -> Kernel {
    let written =
        |kernel: &Kernel| kernel.defines.iter().map(|(key, value)| format!("{key}{value}")).collect::<Vec<_>>();
    let found = wavehull::pack::catalogue().into_iter().find(|k| k.name == name && written(k) == defines).unwrap();
    Kernel { params: <Words as Params>::LAYOUT, ..found }
}

/// Seconds of a kernel over buffers, the best of five; params follow the grid's offset.
fn seconds(gpu: &Gpu, kernel: &Kernel, buffers: &[&Buffer], params: &[u32], groups: u32) -> f64 {
    let mut words = Words([0; 64]);
    words.0[4..4 + params.len()].copy_from_slice(params);
    let mut recording = Recording::new();
    let bindings = buffers.iter().map(|buffer| Binding::whole(buffer)).collect();
    recording.dispatch(kernel, bindings, &words, Grid::Direct([groups, 1, 1]), 1.0).unwrap();
    let once = || gpu.profile(&recording, &Control::default()).unwrap();
    (0..5).map(|_| once()).map(|o| o.kernel_times.first().map_or(o.seconds, |t| t.1)).fold(f64::INFINITY, f64::min)
}

#[test]
#[ignore = "a measurement: run it alone"]
fn rates_of_the_kernels_over_64_mib() {
    let Some(gpu) = device("rates_of_the_kernels_over_64_mib", false) else { return };
    let bytes = 64 << 20;
    let mut random = Random::new(23);
    let values: Vec<u8> =
        (0..bytes).map(|i| code(Look::Sparse, Element::I8, &mut random, i).to_le_bytes()[0]).collect();
    let buffer = |size: u64| gpu.allocate(size).unwrap();
    let (data, quads, sums, results) =
        (buffer(bytes as u64 + 256), buffer(bytes as u64 / 4), buffer(256), buffer(1024));
    gpu.upload(&data, &values).unwrap();
    let report = |name: &str, read: f64, seconds: f64| {
        say(&format!("{name}: {:.1} ms, {:.2} GB/s", 1e3 * seconds, read / seconds / 1e9));
    };
    let mut copy = Recording::new();
    copy.copy(Binding { size: bytes as u64, ..Binding::whole(&data) }, Binding::whole(&buffer(bytes as u64))).unwrap();
    let roof = (0..5).map(|_| gpu.run(&copy, &Control::default()).unwrap().seconds).fold(f64::INFINITY, f64::min);
    report("a copy, read and written", 2.0 * 67e6, roof);
    let groups = 256;
    let histogram = [4 << 20, 8 * groups, 0];
    report(
        "code_histogram, a copy of the bins a lane",
        67e6,
        seconds(gpu, &kernel("code_histogram", &["OWN"]), &[&data, &results], &histogram, groups),
    );
    let groups = 1024;
    let histogram = [4 << 20, 256 * groups, 0];
    report(
        "code_histogram",
        67e6,
        seconds(gpu, &kernel("code_histogram", &[]), &[&data, &results], &histogram, groups),
    );
    let groups = 16_384;
    let params = [4 << 20, 64 * groups, 16 << 20, 1 << 20, 1 << 18, 1, 0, 0, 0];
    report("quad_widths", 67e6, seconds(gpu, &kernel("quad_widths", &["ALIGNED"]), &[&data, &quads], &params, groups));
    let wide = groups;
    let groups = if gpu.caps().is_software() { 64 } else { 4096 };
    for group in [4, 16, 256] {
        let count = bytes as u32 / group;
        let params = [
            count / 16,
            64 * groups,
            0,
            1 << 20,
            1 << 18,
            (1 << 20) / group,
            group / 4,
            count,
            (1 << 20) / group,
            (1 << 16) / group,
            16,
            2,
            3,
        ];
        let define = if group >= 16 { format!("WORDS{}", group / 16) } else { format!("QUADS{}", group / 4) };
        let time = seconds(gpu, &kernel("group_sums", &[&define]), &[&quads, &sums, &results], &params, groups);
        report(&format!("group_sums of {group}, 16 MiB of quads"), 16.8e6, time);
    }
    let params = [64 * wide, 1 << 20, 64 << 20, 1 << 16, 1 << 10, 64, 1 << 10, 4, 0];
    let chunks = buffer(16 << 20);
    report("run_chunks", 67e6, seconds(gpu, &kernel("run_chunks", &[]), &[&data, &chunks], &params, wide));
}
