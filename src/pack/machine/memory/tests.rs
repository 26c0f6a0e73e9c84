use super::*;
use proptest::prelude::*;

/// 8x8 places of 4 channels in, 3x3 filters, 8x8 out: 2048 bits in, 8 filters of 288 bits, 4096 bits out.
const SHAPE: Shape = Shape {
    input: [8, 8, 4],
    filter: [3, 3],
    filters: 8,
    stride: [1, 1],
    padding: [1; 4],
    dilation: [1, 1],
    groups: 1,
};
const STORED: Stored = Stored { weights: 2304, inputs: 2048, outputs: 4096 };

fn memory(bytes: u64, bytes_per_cycle: f64) -> Memory {
    Memory {
        buffers: Buffers::Unified(Buffer { bytes, port: 64, banks: 1 }),
        bandwidth: Bandwidth::bytes_per_cycle(bytes_per_cycle).unwrap(),
        double_buffered: true,
        keep_maps: false,
    }
}

/// The case of docs/machines.md.
#[test]
fn a_memory_worked_by_hand() {
    let plain = schedule(&memory(544, 2.0), &SHAPE, &STORED, 800, 4);
    assert_eq!((plain.order, plain.traffic), (Order::FiltersOutside, STORED));
    assert_eq!((plain.sets, plain.fill, plain.drain, plain.cycles), (4, 84, 8, 892));
    let small = schedule(&memory(280, 2.0), &SHAPE, &STORED, 800, 1);
    assert_eq!((small.order, small.sets), (Order::FiltersOutside, 4));
    assert_eq!(small.traffic, Stored { inputs: 4 * 2048, ..STORED });
}

/// Buffers of their own: all weights stay, and 2040 bits hold two tiles of the map of at most 1020. A row of results sees 2 rows of map of
/// 256 bits at the borders and 3 elsewhere; two rows see 4, which is 4 bits too many.
#[test]
fn halos_are_brought_with_their_tiles() {
    let buffer = |bytes| Buffer { bytes, port: 64, banks: 1 };
    let buffers = Buffers::Apart { weights: buffer(288), inputs: buffer(255), outputs: buffer(1) };
    let tiled = Memory { buffers, ..memory(1, 1.0) };
    let case = Case { memory: &tiled, shape: &SHAPE, stored: &STORED, compute: 0, at_once: 8 };
    let mut inputs = Vec::new();
    case.cuts(|schedule| {
        if schedule.order == Order::WindowsOutside && schedule.traffic.weights == STORED.weights {
            inputs.push((schedule.sets, schedule.traffic.inputs));
        }
    });
    assert_eq!(inputs, [(8, (2 + 6 * 3 + 2) * 256)]);
}

#[test]
fn maps_that_stay_do_not_travel() {
    let keep = Memory { keep_maps: true, ..memory(8192, 1.0) };
    let kept = schedule(&keep, &SHAPE, &STORED, 10_000, 8);
    assert_eq!(kept.traffic, Stored { weights: 2304, inputs: 0, outputs: 0 });
    let small = schedule(&Memory { keep_maps: true, ..memory(700, 1.0) }, &SHAPE, &STORED, 10_000, 8);
    assert_eq!(small.traffic.outputs, 4096);
}

#[test]
fn one_buffer_of_a_byte_streams_and_empty_layers_cost_nothing() {
    let least = schedule(&memory(1, 1.0), &SHAPE, &STORED, 0, 1);
    assert_eq!((least.sets, least.traffic.weights), (64, 64 * 2304));
    // Every place of the map is brought for each of the up to 9 windows that see it: 22 x 22 places of 32 bits.
    assert_eq!(least.traffic.inputs, 22 * 22 * 32);
    let none = schedule(&memory(1, 1.0), &Shape { filter: [11, 11], ..SHAPE }, &STORED, 0, 1);
    assert_eq!((none.cycles, none.traffic), (0, Stored::default()));
}

#[test]
fn without_double_buffering_everything_adds_up() {
    let serial = Memory { double_buffered: false, ..memory(4096, 1.0) };
    let s = schedule(&serial, &SHAPE, &STORED, 1000, 8);
    assert_eq!(s.cycles, 1000 + (2304 + 2048 + 4096) / 8);
}

fn shapes() -> impl Strategy<Value = Shape> {
    let sides = prop::array::uniform2(1_usize..20);
    (sides, 1_usize..5, prop::array::uniform2(1_usize..4), 1_usize..40, prop::array::uniform2(1_usize..4), 0_usize..3)
        .prop_map(|(sides, channels, filter, filters, stride, padding)| Shape {
            input: [sides[0], sides[1], channels],
            filter,
            filters,
            stride,
            padding: [padding; 4],
            dilation: [1, 1],
            groups: 1,
        })
}

fn bits(s: &Schedule) -> u64 {
    s.traffic.weights + s.traffic.inputs + s.traffic.outputs
}

proptest! {
    #[test]
    fn traffic_and_cycles_have_bounds_and_follow_memory(
        shape in shapes(),
        stored in prop::array::uniform3(1_u64..20_000),
        bytes in 1_u64..4000,
        more in 0_u64..3000,
        bandwidth in 1_u64..80,
        faster in 0_u64..40,
        compute in 0_u64..100_000,
        (at_once, double_buffered, keep_maps) in (1_usize..20, any::<bool>(), any::<bool>()),
    ) {
        let stored = Stored { weights: stored[0], inputs: stored[1], outputs: stored[2] };
        let of = |bytes: u64, bandwidth: u64| {
            let memory = Memory { double_buffered, keep_maps, ..memory(bytes, bandwidth as f64 / 8.0) };
            schedule(&memory, &shape, &stored, compute, at_once)
        };
        let s = of(bytes, bandwidth);
        if shape.places() == 0 {
            prop_assert_eq!(s.cycles, compute);
            return Ok(());
        }
        // Never less than what must travel, and never faster than either limit.
        prop_assert!(s.traffic.weights >= stored.weights);
        if !keep_maps {
            prop_assert!(s.traffic.inputs >= stored.inputs && s.traffic.outputs == stored.outputs);
        }
        prop_assert!(s.cycles >= compute && s.cycles * bandwidth >= bits(&s));
        prop_assert!(s.cycles <= compute + bits(&s).div_ceil(bandwidth) + s.sets + 2);
        // More buffer, no more traffic; more bandwidth, no more cycles.
        prop_assert!(bits(&of(bytes + more, bandwidth)) <= bits(&s));
        prop_assert!(of(bytes, bandwidth + faster).cycles <= s.cycles);
        // All fits: each tensor travels once.
        let ample = of(2 * (stored.weights + stored.inputs + stored.outputs), bandwidth);
        let once = if keep_maps { stored.weights } else { stored.weights + stored.inputs + stored.outputs };
        prop_assert_eq!(bits(&ample), once);
    }
}
