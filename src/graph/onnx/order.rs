//! Who produces what: the check of names, and an execution order of the nodes that the output needs.

use super::node_name;
use crate::error::{Error, Result};
use rten_onnx::onnx::{GraphProto, NodeProto, ValueInfoProto};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

/// The names of a value.
pub(super) fn value_name(info: &ValueInfoProto) -> &str {
    info.name.as_deref().unwrap_or_default()
}

/// The one input that is not an initializer (files of IR version 3 list those as inputs, too).
pub(super) fn input(graph: &GraphProto) -> Result<&ValueInfoProto> {
    let constants: HashSet<&str> = graph.initializer.iter().filter_map(|t| t.name.as_deref()).collect();
    let inputs = graph.input.iter().filter(|info| !constants.contains(value_name(info)));
    single(inputs.collect(), "input")
}

/// The one output.
pub(super) fn output(graph: &GraphProto) -> Result<&ValueInfoProto> {
    single(graph.output.iter().collect(), "output")
}

fn single<'a>(infos: Vec<&'a ValueInfoProto>, what: &str) -> Result<&'a ValueInfoProto> {
    match infos[..] {
        [] => Err(Error::bad_input(format!("the network declares no {what}"))
            .with_help("the file may be incomplete; export it again")),
        [info] => Ok(info),
        _ => {
            let names: Vec<&str> = infos.iter().map(|info| value_name(info)).collect();
            Err(Error::unsupported(format!("the network has {} {what}s: {names:?}", names.len()))
                .with_help(format!("export a network with exactly one {what}")))
        }
    }
}

/// The indices of the nodes that `output` depends on, every producer before its consumers, in the file's order
/// where that is one.
///
/// Names are checked in the whole graph: no two producers of one name, and no operand that nothing produces.
pub(super) fn execution_order(graph: &GraphProto, input: &str, output: &str) -> Result<Vec<usize>> {
    let producers = producers(graph, input)?;
    let needed = needed(graph, &producers, output)?;
    let mut waiting: Vec<usize> = vec![0; graph.node.len()];
    let mut consumers: Vec<Vec<usize>> = vec![Vec::new(); graph.node.len()];
    for &at in &needed {
        for producer in producing_nodes(&graph.node[at], &producers) {
            waiting[at] += 1;
            consumers[producer].push(at);
        }
    }
    let mut ready: BinaryHeap<Reverse<usize>> =
        needed.iter().copied().filter(|&at| waiting[at] == 0).map(Reverse).collect();
    let mut order = Vec::with_capacity(needed.len());
    while let Some(Reverse(at)) = ready.pop() {
        order.push(at);
        for &consumer in &consumers[at] {
            waiting[consumer] -= 1;
            if waiting[consumer] == 0 {
                ready.push(Reverse(consumer));
            }
        }
    }
    match needed.iter().find(|&&at| waiting[at] > 0) {
        None => Ok(order),
        Some(&stuck) => Err(cycle(graph, &producers, &waiting, stuck)),
    }
}

/// What makes a name known.
#[derive(Debug, Clone, Copy)]
enum Producer {
    Input,
    Constant,
    Node(usize),
}

type Producers<'a> = HashMap<&'a str, Producer>;

fn producers<'a>(graph: &'a GraphProto, input: &'a str) -> Result<Producers<'a>> {
    let mut producers = Producers::from([(input, Producer::Input)]);
    for tensor in &graph.initializer {
        let name = tensor.name.as_deref().unwrap_or_default();
        if producers.insert(name, Producer::Constant).is_some() {
            return Err(twice(name, "another tensor of that name exists"));
        }
    }
    for (at, node) in graph.node.iter().enumerate() {
        for name in node.output.iter().filter(|name| !name.is_empty()) {
            match producers.insert(name, Producer::Node(at)) {
                None => {}
                Some(Producer::Node(other)) => {
                    let other = node_name(&graph.node[other], other);
                    let this = node_name(node, at);
                    return Err(twice(name, &format!("nodes '{other}' and '{this}' write it")));
                }
                Some(_) => {
                    let this = node_name(node, at);
                    return Err(twice(name, &format!("node '{this}' writes over it")));
                }
            }
        }
    }
    Ok(producers)
}

fn twice(name: &str, why: &str) -> Error {
    Error::bad_input(format!("tensor '{name}' is produced twice: {why}"))
        .with_help("each tensor of a network must have its own name; export the network again")
}

fn producing_nodes(node: &NodeProto, producers: &Producers<'_>) -> Vec<usize> {
    let producer = |name: &String| producers.get(name.as_str()).copied();
    node.input
        .iter()
        .filter_map(producer)
        .filter_map(|producer| match producer {
            Producer::Node(at) => Some(at),
            Producer::Input | Producer::Constant => None,
        })
        .collect()
}

/// The nodes that the output depends on, ascending.
fn needed(graph: &GraphProto, producers: &Producers<'_>, output: &str) -> Result<Vec<usize>> {
    for (at, node) in graph.node.iter().enumerate() {
        let mut names = node.input.iter().filter(|name| !name.is_empty());
        if let Some(name) = names.find(|name| !producers.contains_key(name.as_str())) {
            let node = node_name(node, at);
            return Err(Error::bad_input(format!("node '{node}' reads tensor '{name}', which nothing produces"))
                .with_help("the file may be incomplete; export it again"));
        }
    }
    let mut stack = match producers.get(output) {
        Some(&Producer::Node(at)) => vec![at],
        Some(Producer::Input | Producer::Constant) => vec![],
        None => {
            return Err(Error::bad_input(format!("nothing produces the output '{output}'"))
                .with_help("the file may be incomplete; export it again"));
        }
    };
    let mut seen = vec![false; graph.node.len()];
    while let Some(at) = stack.pop() {
        if !std::mem::replace(&mut seen[at], true) {
            stack.extend(producing_nodes(&graph.node[at], producers));
        }
    }
    Ok((0..seen.len()).filter(|&at| seen[at]).collect())
}

/// The error that names a node of a cycle: from a node that never became ready, every step back to a producer that
/// never became ready either ends up in one.
fn cycle(graph: &GraphProto, producers: &Producers<'_>, waiting: &[usize], stuck: usize) -> Error {
    let mut seen = HashSet::new();
    let mut at = stuck;
    while seen.insert(at) {
        let back = producing_nodes(&graph.node[at], producers);
        at = back.into_iter().find(|&producer| waiting[producer] > 0).unwrap_or(at);
    }
    let name = node_name(&graph.node[at], at);
    Error::bad_input(format!("the network is cyclic: node '{name}' depends on its own output"))
        .with_help("only feed-forward networks can be evaluated; unroll loops before exporting")
}
