//! What a property comes to never depends on its company: alone, in a crowd, under a small budget, with a neighbour that
//! is uncertain, in another order.

mod common;

use common::Random;
use wavehull::graph::{Graph, Node, Op, Value, ValueId, Window};
use wavehull::verify::{InputBox, Outcome, Property, Query, Row, Verdict, Verifier, VerifyOptions};
use wavehull::{Control, ErrorKind, Gpu, Options};

use ndarray::ArrayD;
use std::sync::Arc;

/// A random network of fully connected layers with ReLUs between them.
fn network(widths: &[usize], random: &mut Random) -> Graph {
    let mut graph = Graph {
        name: "random".to_owned(),
        values: vec![Value { name: "x".to_owned(), shape: vec![1, widths[0]], constant: None }],
        nodes: Vec::new(),
        input: ValueId(0),
        output: ValueId(0),
    };
    for (layer, pair) in widths.windows(2).enumerate() {
        let scale = (2.0 / pair[0] as f32).sqrt();
        let weight: Vec<f32> = random.floats(pair[0] * pair[1]).iter().map(|w| w * scale).collect();
        let constants = [(vec![pair[0], pair[1]], weight), (vec![pair[1]], random.floats(pair[1]))];
        let mut inputs = vec![graph.output];
        for (shape, data) in constants {
            let array = ArrayD::from_shape_vec(shape.clone(), data).expect("as many as the shape says");
            inputs.push(ValueId(graph.values.len()));
            graph.values.push(Value { name: format!("c{layer}"), shape, constant: Some(Arc::new(array)) });
        }
        let apply = |graph: &mut Graph, op: Op, inputs: Vec<ValueId>| {
            let output = ValueId(graph.values.len());
            graph.values.push(Value { name: format!("v{}", output.0), shape: vec![1, pair[1]], constant: None });
            graph.nodes.push(Node { name: format!("n{}", output.0), op, inputs, output });
            graph.output = output;
        };
        apply(&mut graph, Op::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: false }, inputs);
        if layer + 2 < widths.len() {
            let input = vec![graph.output];
            apply(&mut graph, Op::Relu, input);
        }
    }
    graph
}

/// A box and up to `rows` conditions; `rel` is the uncertainty of their coefficients.
fn property(inputs: usize, outputs: usize, rows: usize, rel: f64, random: &mut Random) -> Property {
    let lo: Vec<f64> = random.floats(inputs).into_iter().map(f64::from).collect();
    let hi: Vec<f64> = lo.iter().map(|l| l + 0.05).collect();
    let input = InputBox { lo: lo.clone(), hi: hi.clone(), lo_out: lo, hi_out: hi };
    let unsafe_if = (0..rows).map(|_| {
        let coefficients = (0..outputs).map(|j| (j, f64::from(random.floats(1)[0]))).collect();
        vec![Row { coefficients, constant: 3.0 * random.unit(), slop: 0.0, coefficient_rel: rel, strict: false }]
    });
    Property { inputs, outputs, queries: vec![Query { input, unsafe_if: unsafe_if.collect() }] }
}

/// All that must not change: the verdict with its counterexample, and the margin bit for bit.
fn essence(outcomes: &[Outcome]) -> Vec<String> {
    outcomes.iter().map(|o| format!("{:?} {:?}", o.verdict, o.margin.map(f64::to_bits))).collect()
}

fn verify(gpu: &Gpu, graph: &Graph, properties: &[&Property]) -> Vec<Outcome> {
    let verifier = Verifier::new(gpu, graph, VerifyOptions::default()).expect("layers");
    verifier.verify(properties, &Control::default()).expect("it runs")
}

#[test]
fn a_property_is_answered_alone_as_in_any_company() {
    let Some(gpu) = common::device("a_property_is_answered_alone_as_in_any_company", false) else { return };
    let random = &mut Random::new(11);
    let graph = network(&[6, 40, 40, 5], random);
    let mut crowd: Vec<Property> = (0..9).map(|i| property(6, 5, 1 + i % 4, 0.0, random)).collect();
    crowd.push(property(6, 5, 30, 0.1, random));
    let alone: Vec<String> = crowd.iter().flat_map(|p| essence(&verify(gpu, &graph, &[p]))).collect();
    let together = essence(&verify(gpu, &graph, &crowd.iter().collect::<Vec<_>>()));
    assert_eq!(alone, together, "in one batch");
    let mut backwards = essence(&verify(gpu, &graph, &crowd.iter().rev().collect::<Vec<_>>()));
    backwards.reverse();
    assert_eq!(alone, backwards, "in the other order");
    let kinds: std::collections::BTreeSet<&str> = alone.iter().filter_map(|s| s.split([' ', '(']).next()).collect();
    assert!(kinds.len() > 1, "the properties must not all end alike: {kinds:?}");
    let mut other = crowd[3].clone();
    other.queries[0].input.hi[0] += 0.01;
    other.queries[0].input.hi_out[0] += 0.01;
    assert_ne!(essence(&verify(gpu, &graph, &[&other]))[0], alone[3], "another box must be told apart");
}

#[test]
fn a_small_budget_changes_no_answer_and_is_never_exceeded() {
    let name = "a_small_budget_changes_no_answer_and_is_never_exceeded";
    let Some(gpu) = common::device(name, false) else { return };
    let random = &mut Random::new(5);
    let graph = network(&[20, 300, 300, 4], random);
    let crowd: Vec<Property> = (0..40).map(|_| property(20, 4, 3, 0.0, random)).collect();
    let all: Vec<&Property> = crowd.iter().collect();
    let plenty = essence(&verify(gpu, &graph, &all));
    for budget in [8 << 20, 24 << 20] {
        let mut options = Options::default();
        options.memory_budget = Some(budget);
        let small = Gpu::open(&options).expect("it opened before");
        assert_eq!(essence(&verify(&small, &graph, &all)), plenty, "{budget} bytes");
        let used = small.memory();
        assert!(used.reserved <= budget && used.peak <= budget, "{used:?}");
    }
}

#[test]
fn a_budget_that_holds_no_box_is_an_error_with_a_way_out() {
    let name = "a_budget_that_holds_no_box_is_an_error_with_a_way_out";
    if common::device(name, false).is_none() {
        return;
    }
    let random = &mut Random::new(5);
    let graph = network(&[20, 300, 300, 4], random);
    let mut options = Options::default();
    options.memory_budget = Some(900 << 10);
    let tiny = Gpu::open(&options).expect("it opened before");
    let outcome = Verifier::new(&tiny, &graph, VerifyOptions::default())
        .and_then(|v| v.verify(&[&property(20, 4, 3, 0.0, random)], &Control::default()));
    let error = outcome.expect_err("900 KiB hold no box of this network");
    assert!(matches!(error.kind(), ErrorKind::TooBig | ErrorKind::OutOfMemory), "{error}");
    assert!(error.help().is_some_and(|help| help.contains("--memory")), "{:?}", error.help());
}

#[test]
fn thousands_of_boxes_with_many_rows_are_cut_into_batches() {
    let name = "thousands_of_boxes_with_many_rows_are_cut_into_batches";
    let Some(gpu) = common::device(name, false) else { return };
    let random = &mut Random::new(3);
    let graph = network(&[1, 2, 1], random);
    let mut crowd = property(1, 1, 48, 0.0, random);
    let query = crowd.queries[0].clone();
    crowd.queries = vec![query; 3000];
    let started = std::time::Instant::now();
    let outcomes = verify(gpu, &graph, &[&crowd]);
    assert_eq!(outcomes.len(), 1, "one property, one outcome");
    assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
}

/// A property of a wide box whose one row stays above `gap` times its range at the points that were tried.
fn wide(graph: &Graph, gap: f64, random: &mut Random) -> Property {
    let mut property = property(3, 2, 1, 0.0, random);
    let Query { input, unsafe_if } = &mut property.queries[0];
    input.hi = input.lo.iter().map(|l| l + 1.0).collect();
    input.hi_out = input.hi.clone();
    let row = &mut unsafe_if[0][0];
    let value = |random: &mut Random| {
        let x: Vec<f64> = input.lo.iter().map(|l| l + 0.5 + 0.5 * random.unit()).collect();
        let y = graph.eval_f64(&x).expect("a point of the box");
        row.coefficients.iter().map(|&(j, c)| c * y[j]).sum::<f64>()
    };
    let values: Vec<f64> = (0..2000).map(|_| value(random)).collect();
    let (least, most) = values.iter().fold((f64::MAX, f64::MIN), |(l, h), &v| (l.min(v), h.max(v)));
    row.constant = gap * (most - least) - least;
    property
}

#[test]
fn splits_make_the_same_boxes_alone_and_in_company() {
    let Some(gpu) = common::device("splits_make_the_same_boxes_alone_and_in_company", false) else { return };
    let random = &mut Random::new(23);
    let graph = network(&[3, 24, 24, 2], random);
    let crowd: Vec<Property> = (0..6).map(|i| wide(&graph, if i == 5 { -0.05 } else { 0.1 }, random)).collect();
    let mut options = VerifyOptions::default();
    options.cap = Some(std::time::Duration::from_secs(300));
    let verifier = Verifier::new(gpu, &graph, options.clone()).expect("layers");
    let run = |properties: &[&Property]| verifier.verify(properties, &Control::default()).expect("it runs");
    let together = run(&crowd.iter().collect::<Vec<_>>());
    for (index, (property, outcome)) in crowd.iter().zip(&together).enumerate() {
        let alone = &run(&[property])[0];
        assert_eq!(outcome.verdict == Verdict::Holds, index != 5, "property {index}: {:?}", outcome.verdict);
        if index != 5 {
            assert_eq!(alone.verdict, outcome.verdict, "property {index}");
            assert_eq!((alone.boxes, alone.margin), (outcome.boxes, outcome.margin), "property {index}");
        }
    }
    assert!(matches!(together[5].verdict, Verdict::Violated(_)), "{:?}", together[5].verdict);
    let split = together.iter().filter(|o| o.boxes.is_some_and(|boxes| boxes.done > 1 && boxes.left == 0)).count();
    assert!(split >= 3, "only {split} of the properties needed splits");

    // Boxes with more inputs than may vary are left alone, and so is everything without a cap.
    for (cap, inputs) in [(options.cap, 2), (None, 20)] {
        options.cap = cap;
        options.split_inputs = inputs;
        let verifier = Verifier::new(gpu, &graph, options.clone()).expect("layers");
        let outcomes = verifier.verify(&crowd.iter().collect::<Vec<_>>(), &Control::default()).expect("it runs");
        assert!(outcomes.iter().all(|o| o.boxes.is_none()), "nothing may be split");
        assert!(outcomes.iter().any(|o| matches!(o.verdict, Verdict::Unknown(_))), "and something stays open");
    }
}

/// A network over images with windows, a residual sum of paths with different strides and a smooth layer.
fn image_network(random: &mut Random) -> Graph {
    let mut graph = Graph {
        name: "image".to_owned(),
        values: vec![Value { name: "x".to_owned(), shape: vec![1, 2, 9, 11], constant: None }],
        nodes: Vec::new(),
        input: ValueId(0),
        output: ValueId(0),
    };
    let constant = |graph: &mut Graph, random: &mut Random, shape: &[usize], scale: f32| {
        let data = random.floats(shape.iter().product()).iter().map(|v| v * scale).collect();
        let array = ArrayD::from_shape_vec(shape.to_vec(), data).expect("as many as the shape says");
        let name = format!("c{}", graph.values.len());
        graph.values.push(Value { name, shape: shape.to_vec(), constant: Some(Arc::new(array)) });
        ValueId(graph.values.len() - 1)
    };
    let apply = |graph: &mut Graph, op: Op, inputs: Vec<ValueId>, shape: &[usize]| {
        let output = ValueId(graph.values.len());
        graph.values.push(Value { name: format!("v{}", output.0), shape: shape.to_vec(), constant: None });
        graph.nodes.push(Node { name: format!("n{}", output.0), op, inputs, output });
        graph.output = output;
        output
    };
    let window = |strides: [usize; 2], pad: usize| {
        Op::Conv(Window { strides, begin: [pad; 2], end: [pad; 2], dilations: [1; 2], groups: 1 })
    };
    let conv = |graph: &mut Graph, random: &mut Random, x: ValueId, op: Op, to: [usize; 4], k: usize| {
        let from = graph.value(x).shape[1];
        let w = constant(graph, random, &[to[1], from, k, k], 1.5 / (k as f32 * (from as f32).sqrt()));
        let b = constant(graph, random, &[to[1]], 0.3);
        apply(graph, op, vec![x, w, b], &to)
    };
    let a = conv(&mut graph, random, ValueId(0), window([1, 1], 1), [1, 6, 9, 11], 3);
    let a = apply(&mut graph, Op::Relu, vec![a], &[1, 6, 9, 11]);
    let b = conv(&mut graph, random, a, window([2, 2], 1), [1, 6, 5, 6], 3);
    let b = apply(&mut graph, Op::Sigmoid, vec![b], &[1, 6, 5, 6]);
    let b = conv(&mut graph, random, b, window([1, 1], 1), [1, 6, 5, 6], 3);
    let c = conv(&mut graph, random, a, window([2, 2], 0), [1, 6, 5, 6], 1);
    let sum = apply(&mut graph, Op::Add, vec![b, c], &[1, 6, 5, 6]);
    let sum = apply(&mut graph, Op::Relu, vec![sum], &[1, 6, 5, 6]);
    let flat = apply(&mut graph, Op::Reshape, vec![sum], &[1, 180]);
    let w = constant(&mut graph, random, &[180, 4], 0.1);
    apply(&mut graph, Op::MatMul, vec![flat, w], &[1, 4]);
    graph
}

#[test]
fn boxes_of_an_image_network_are_answered_alone_as_in_company_and_under_small_budgets() {
    let name = "boxes_of_an_image_network_are_answered_alone_as_in_company_and_under_small_budgets";
    let Some(gpu) = common::device(name, false) else { return };
    let random = &mut Random::new(17);
    let graph = image_network(random);
    let crowd: Vec<Property> = (0..7).map(|i| property(198, 4, 1 + i % 3, 0.0, random)).collect();
    let all: Vec<&Property> = crowd.iter().collect();
    let together = essence(&verify(gpu, &graph, &all));
    let alone: Vec<String> = crowd.iter().flat_map(|p| essence(&verify(gpu, &graph, &[p]))).collect();
    assert_eq!(alone, together, "in one batch");
    // Batches of fewer boxes, and walks with fewer rows than a layer has.
    for budget in [4 << 20, 6 << 20, 12 << 20] {
        let mut options = Options::default();
        options.memory_budget = Some(budget);
        let small = Gpu::open(&options).expect("it opened before");
        assert_eq!(essence(&verify(&small, &graph, &all)), together, "{budget} bytes");
        assert!(small.memory().peak <= budget, "{:?}", small.memory());
    }
    let margins: std::collections::BTreeSet<&String> = together.iter().collect();
    assert!(margins.len() == crowd.len(), "different boxes have different margins: {together:?}");
}
