//! Hand numbers, numpy's formula, and the way back.

use super::*;

const TENSOR: Storage = Storage::per_tensor(Element::I8);

fn integers(values: &Values) -> Vec<i32> {
    (0..values.len()).map(|i| values.integer(i)).collect()
}

#[test]
fn weights_round_half_to_even() {
    // The largest is 127 steps of exactly 1/4: halves of a step are exact.
    let numbers = [31.75, -31.75, 0.125, 0.375, 0.625, -0.125, -0.375, 0.0, -0.0];
    let q = weights("w", [1, 1, 1, 9], &numbers, Filters::First, &TENSOR).unwrap();
    assert_eq!(q.scales, [0.25]);
    assert_eq!(integers(&q.values), [127, -127, 0, 2, 2, 0, -2, 0, 0]);
    assert_eq!(q.numbers(), [31.75, -31.75, 0.0, 0.5, 0.5, 0.0, -0.5, 0.0, 0.0]);
    assert_eq!((q.values.granularity(), q.zero_point), (Granularity::Tensor, 0));
}

#[test]
fn scales_of_tensors_channels_and_groups() {
    let numbers = [7.0, 1.0, 3.5, 0.0, 0.0, 0.0, 0.7, -1.4, 0.1, 14.0, 1.0, 3.0];
    let shape = [2, 1, 1, 6];
    let of = |storage: Storage, filters| weights("w", shape, &numbers, filters, &storage).unwrap();
    let tensor = of(Storage::per_tensor(Element::I4), Filters::First);
    assert_eq!(
        (tensor.scales.as_slice(), integers(&tensor.values)),
        (&[2.0][..], vec![4, 0, 2, 0, 0, 0, 0, -1, 0, 7, 0, 2])
    );
    let channel = of(Storage::per_channel(Element::I4), Filters::First);
    assert_eq!(
        (channel.scales.as_slice(), integers(&channel.values)),
        (&[1.0, 2.0][..], vec![7, 1, 4, 0, 0, 0, 0, -1, 0, 7, 0, 2])
    );
    // Rows of 6 in groups of 4: 4 and 2 of each; the second group has nothing but zeros.
    let group = of(Storage::per_group(Element::I4, 4), Filters::First);
    assert_eq!(group.scales, [1.0, 0.0, 2.0, (3.0_f64 / 7.0) as f32]);
    assert_eq!(integers(&group.values), [7, 1, 4, 0, 0, 0, 0, -1, 0, 7, 2, 7]);
    assert_eq!(group.values.granularity(), Granularity::Group(4));
    assert_eq!(group.numbers()[4..6], [0.0, 0.0]);
    // Depthwise: the channel is the last axis.
    let columns = of(Storage::per_channel(Element::I8), Filters::Last);
    let scale = |m: f64| (m / 127.0) as f32;
    assert_eq!(
        columns.scales,
        [scale(7.0), scale(f64::from(1.4_f32)), scale(3.5), scale(14.0), scale(1.0), scale(3.0)]
    );
    assert_eq!(integers(&columns.values), [127, 91, 127, 0, 0, 0, 13, -127, 4, 127, 127, 127]);
}

#[test]
fn weights_are_those_of_numpys_formula() {
    // np.round(np.float32(x) / np.float32(m / 127)) in f32 for 1000 numbers of a fixed sequence.
    let numbers: Vec<f32> = (0..1000_u32).map(|i| ((i * 7919 % 2003) as f32 - 1001.0) / 613.0).collect();
    let largest = numbers.iter().fold(0.0_f32, |m, x| m.max(x.abs()));
    let scale = (f64::from(largest) / 127.0) as f32;
    let want: Vec<i32> = numbers.iter().map(|x| (x / scale).round_ties_even() as i32).collect();
    let q = weights("w", [10, 2, 5, 10], &numbers, Filters::First, &TENSOR).unwrap();
    assert_eq!(integers(&q.values), want);
    for (x, back) in numbers.iter().zip(q.numbers()) {
        assert!((x - back).abs() <= 0.500_01 * scale, "{x} became {back}");
    }
    // By numpy itself, for the first of them.
    assert_eq!(want[..8], [-127, 115, 104, 92, 80, 68, 56, 45]);
}

#[test]
fn affine_ranges_hold_zero() {
    let affine = Affine::new(Element::U8, 0.0, 25.5);
    assert_eq!(affine, Affine { scale: 0.1, zero_point: -128 });
    let q = activations("a", [1, 1, 4], &[0.0, 25.5, 0.25, 99.0], Element::U8, affine).unwrap();
    assert_eq!((q.values.element(), integers(&q.values)), (Element::U8, vec![0, 255, 2, 255]));
    // -1 to 1 in 255 steps: 2 / 255 is rounded up, so the zero point is round(-0.500_007_5), and 1 is 127.499_99 steps.
    let affine = Affine::new(Element::I8, -1.0, 1.0);
    assert_eq!(affine.zero_point, -1);
    let q = activations("a", [1, 2, 2], &[-1.0, 1.0, 0.0, 0.5], Element::I8, affine).unwrap();
    assert_eq!((q.values.element(), integers(&q.values)), (Element::I8, vec![-127, 127, 0, 64]));
    // A range above 0 begins at 0, one below ends there.
    assert_eq!(Affine::new(Element::U8, 5.0, 25.5), Affine::new(Element::U8, 0.0, 25.5));
    assert_eq!(Affine::new(Element::I8, -25.5, -3.0), Affine { scale: 0.1, zero_point: 127 });
    let flat = Affine::new(Element::I8, 0.0, 0.0);
    let q = activations("a", [1, 1, 2], &[0.0, 3.0], Element::I8, flat).unwrap();
    assert_eq!((integers(&q.values), q.numbers()), (vec![0, 0], vec![0.0, 0.0]));
}

#[test]
fn codes_wrap_and_come_back() {
    // Zero point -100: codes to 127 are 227 steps, which wrap.
    let affine = Affine { scale: 0.5, zero_point: -100 };
    let numbers = [113.5, 63.5, 64.0, -14.0, 0.0, -99.0];
    let q = activations("a", [1, 1, 6], &numbers, Element::I8, affine).unwrap();
    assert_eq!(integers(&q.values), [227 - 256, 127, 128 - 256, -28, 0, -28]);
    assert_eq!(q.numbers(), [113.5, 63.5, 64.0, -14.0, 0.0, -14.0]);
    for zero_point in -128..=127 {
        let affine = Affine { scale: 1.0, zero_point };
        let numbers: Vec<f32> = (-128..=127).map(|code| (code - zero_point) as f32).collect();
        let q = activations("a", [1, 1, 256], &numbers, Element::U8, affine).unwrap();
        assert_eq!(q.numbers(), numbers, "zero point {zero_point}");
    }
}

#[test]
fn sixteen_bits() {
    let wide = Affine::new(Element::I16, -32767.0, 10.0);
    assert_eq!(wide, Affine { scale: 1.0, zero_point: 0 });
    let q = activations("a", [1, 1, 3], &[-40000.0, 2.5, 9.0], Element::I16, wide).unwrap();
    assert_eq!(integers(&q.values), [-32767, 2, 9]);
    let of = |x, element| weights("w", [1, 1, 1, 1], &[x], Filters::First, &Storage::per_tensor(element));
    assert_eq!(of(1.0, Element::F16).unwrap().values.halves(), Some(&[0x3c00][..]));
    assert_eq!(of(1.0, Element::Bf16).unwrap().values.halves(), Some(&[0x3f80][..]));
    // Halfway between two bf16 numbers: to even.
    assert_eq!(of(1.0 + 2.0_f32.powi(-8), Element::Bf16).unwrap().values.halves(), Some(&[0x3f80][..]));
    assert_eq!(of(1.0 + 3.0 * 2.0_f32.powi(-8), Element::Bf16).unwrap().numbers(), [1.015_625]);
    let error = of(65520.0, Element::F16).unwrap_err();
    assert!(error.to_string().contains("6.552e4") && error.help().is_some_and(|h| h.contains("bf16")), "{error}");
    assert!(of(65519.0, Element::F16).is_ok());
}

#[test]
fn what_is_no_number_is_refused_with_its_place() {
    for (bad, word) in [(f32::NAN, "NaN"), (f32::NEG_INFINITY, "an infinity")] {
        let error = weights("conv.w", [1, 1, 2, 1], &[0.0, bad], Filters::First, &TENSOR).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::BadInput);
        assert!(error.to_string().contains(&format!("'conv.w' holds {word} at value 1")), "{error}");
        let affine = Affine::new(Element::U8, 0.0, 1.0);
        assert!(activations("a", [1, 1, 1], &[bad], Element::U8, affine).is_err());
    }
    assert!(weights("w", [1, 1, 1, 2], &[0.0], Filters::First, &TENSOR).is_err());
    assert!(weights("w", [1, 1, 1, 1], &[0.0], Filters::First, &Storage::per_tensor(Element::U8)).is_err());
    assert!(activations("a", [1, 1, 1], &[0.0], Element::I4, Affine { scale: 1.0, zero_point: 0 }).is_err());
    for storage in [Storage::per_channel(Element::I8), Storage::per_group(Element::I4, 3)] {
        assert!(weights("w", [0, 1, 1, 2], &[], Filters::Last, &storage).unwrap().values.is_empty());
    }
    // Scales below what f32 has: zeros.
    let q = weights("w", [1, 1, 1, 1], &[1e-45], Filters::First, &TENSOR).unwrap();
    assert_eq!((q.scales[0], q.values.integer(0)), (0.0, 0));
}

#[test]
fn percentiles_leave_out_that_share_at_each_end() {
    let mut numbers: Vec<f32> = (0..1000_u32).map(|i| (i * 389 % 1000) as f32).collect();
    let range = |calibration, numbers: &[f32]| {
        let mut calibrator = Calibrator::new(calibration, numbers.len());
        numbers.chunks(77).for_each(|part| calibrator.see(part));
        calibrator.range()
    };
    assert_eq!(range(Calibration::MinMax, &numbers), [0.0, 999.0]);
    assert_eq!(range(Calibration::Percentile(99.9), &numbers), [1.0, 998.0]);
    assert_eq!(range(Calibration::Percentile(99.95), &numbers), [0.0, 999.0]);
    assert_eq!(range(Calibration::Percentile(90.0), &numbers), [100.0, 899.0]);
    assert_eq!(range(Calibration::Percentile(50.0), &numbers), [499.0, 500.0]);
    numbers.truncate(1);
    assert_eq!(range(Calibration::Percentile(50.0), &numbers), [0.0, 0.0]);
    assert_eq!(range(Calibration::MinMax, &[]), [0.0, 0.0]);
}

#[test]
fn storages_are_written_and_read() {
    for text in ["i8", "i8/channel", "i4/32", "i16", "u8", "f16", "bf16", "u8@99.9", "i16/channel"] {
        assert_eq!(text.parse::<Storage>().unwrap().to_string(), text);
    }
    assert_eq!("int8".parse::<Storage>().unwrap(), TENSOR);
    for text in ["", "i5", "i8/", "i8/0", "bf16/channel", "u8@", "u8@30", "u8@NaN", "i8/channel/3"] {
        assert!(text.parse::<Storage>().unwrap_err().help().is_some(), "{text}");
    }
}
