//! `group_widths`, `lane_pack`, `lane_unpack`.

use wavehull::gpu::Recording;
use wavehull::pack::codec::fixed_lane::{self, reference};

use crate::common::{self, POISON, Random, broken};
use crate::{INTEGERS, KINDS, bytes, on_both, words};

#[test]
fn lanes_on_the_device_are_those_of_the_twin() {
    on_both("lanes_on_the_device_are_those_of_the_twin", |gpu| {
        let mut random = Random::new(31);
        for (at, len) in [1, 15, 17, 100, 4096, 8193, 20_000].into_iter().enumerate() {
            for element in INTEGERS {
                for lanes in [8, 64, 256] {
                    let kind = (at + random.below(3)) % KINDS;
                    let values = words(&bytes(&mut random, element, len, kind));
                    let title = format!("{len} {element:?}, distribution {kind}, {lanes} lanes");
                    let expected = reference::encode(element, &values, len);
                    assert_eq!(reference::decode(element, &expected, len).unwrap(), values, "{title}");
                    let packed = fixed_lane::room(gpu, element, len).unwrap();
                    for tensor in [&packed.index, &packed.widths, &packed.data] {
                        gpu.upload(tensor.buffer(), bytemuck::cast_slice(&vec![POISON; common::words(tensor)]))
                            .unwrap();
                    }
                    let device = common::tensor(gpu, &[values.len()], &values);
                    let mut recording = Recording::new();
                    fixed_lane::encode(&mut recording, gpu.caps(), lanes, &device, &packed).unwrap();
                    let parts =
                        [&packed.index, &packed.widths, &packed.data].map(|t| common::run_raw(gpu, &recording, t));
                    let ends =
                        [packed.layout.blocks(), packed.layout.width_words(), expected.len() - packed.layout.head()];
                    let found: Vec<u32> = parts.iter().zip(ends).flat_map(|(part, end)| part[..end].to_vec()).collect();
                    assert!(found == expected, "coding {title}");
                    let clean =
                        parts.iter().zip(ends).all(|(part, end)| part[end..].iter().all(|&word| word == POISON));
                    assert!(clean, "something behind the end was written: {title}");
                    let packed = fixed_lane::upload(gpu, element, &expected, len).unwrap();
                    let out = common::poisoned::<u32>(gpu, &[values.len()]);
                    let mut recording = Recording::new();
                    fixed_lane::decode(&mut recording, gpu.caps(), lanes, &packed, &out).unwrap();
                    let memory = common::run_raw(gpu, &recording, &out);
                    let end = values.len().next_multiple_of(4);
                    let clean = memory[end..].iter().all(|&word| word == POISON);
                    assert!(memory[..values.len()] == values && clean, "decoding {title}");
                }
            }
        }
    });
}

#[test]
fn broken_lanes_are_noticed() {
    let Some(gpu) = common::device("broken_lanes_are_noticed", false) else { return };
    let mut random = Random::new(32);
    let (element, len) = (INTEGERS[1], 10_000);
    let values = words(&bytes(&mut random, element, len, 6));
    let payload = reference::encode(element, &values, len);
    let packed = fixed_lane::upload(gpu, element, &payload, len).unwrap();
    let out = common::poisoned::<u32>(gpu, &[values.len()]);
    let mut recording = Recording::new();
    fixed_lane::decode(&mut recording, gpu.caps(), 64, &packed, &out).unwrap();
    assert!(common::run_raw(gpu, &recording, &out)[..values.len()] == values);
    for (from, to) in
        [("low + width > BITS", "low + width > BITS + 1u"), ("(ONES >> low)", "ONES"), ("width + 31u", "width + 30u")]
    {
        let broken = broken(&recording, "lane_unpack", from, to);
        assert!(common::run_raw(gpu, &broken, &out)[..values.len()] != values, "'{to}' went unseen");
    }
    let room = fixed_lane::room(gpu, element, len).unwrap();
    let device = common::tensor(gpu, &[values.len()], &values);
    let mut recording = Recording::new();
    fixed_lane::encode(&mut recording, gpu.caps(), 64, &device, &room).unwrap();
    let data = &payload[room.layout.head()..];
    assert!(common::run_raw(gpu, &recording, &room.data)[..data.len()] == *data);
    for (from, to) in [("add(to + ${GROUP_QUADS}u", "add(to"), ("BITS - low))", "BITS - low + 1u))")] {
        let broken = broken(&recording, "lane_pack", from, to);
        assert!(common::run_raw(gpu, &broken, &room.data)[..data.len()] != *data, "'{to}' went unseen");
    }
}
