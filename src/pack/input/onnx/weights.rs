//! The weights of a network that is not read as one.

use std::collections::{HashMap, HashSet};

use rten_onnx::onnx::NodeProto;

use super::constants::Both;
use super::rewrite::Plain;
use super::tensor;
use crate::error::Result;
use crate::pack::input::layers::WeightForm;
use crate::pack::input::{ReadOptions, weight};
use crate::pack::values::Values;

/// Fewest values of a constant that no node says to be weights.
const FEWEST: usize = 256;

/// Constants of two axes and more: those that Conv, Gemm, MatMul and Gather read, and other large ones as `[out, ..]`, with a number as
/// the last axis.
pub(super) fn alone(plain: &Plain, options: &ReadOptions) -> Result<Vec<Values>> {
    let Some(graph) = &plain.model.graph else { return Ok(vec![]) };
    let mut forms: HashMap<&str, WeightForm> = HashMap::new();
    let mut skipped: HashSet<&str> = HashSet::new();
    for node in &graph.node {
        for (name, form) in roles(node) {
            match form {
                Some(form) => drop(forms.entry(name).or_insert(form)),
                None => drop(skipped.insert(name)),
            }
        }
    }
    let mut loose = Vec::new();
    for tensor in &graph.initializer {
        let name = tensor.name.as_deref().unwrap_or_default();
        if tensor.dims.len() < 2 || skipped.contains(name) {
            continue;
        }
        let both = match plain.made.get(name) {
            Some(both) => Some(both.clone()),
            None => tensor::decode(tensor)?.as_ref().and_then(Both::plain),
        };
        let Some(both) = both.filter(|both| !both.numbers.is_empty()) else { continue };
        let form = match forms.get(name) {
            // Groups of several channels are no depthwise convolution.
            Some(WeightForm::Depthwise) => WeightForm::conv(&both.dims, 2),
            Some(&form) => form,
            None if both.numbers.len() < FEWEST => continue,
            None if both.dims.len() == 4 => WeightForm::Conv,
            None => WeightForm::Rows,
        };
        let dims = match (both.dims.as_slice(), form) {
            (&[m, c, x], WeightForm::Conv | WeightForm::Depthwise) => vec![m, c, 1, x],
            (dims @ (&[_, _] | &[_, _, _, _]), _) => dims.to_vec(),
            ([m, rest @ ..], _) => vec![*m, rest.iter().product()],
            ([], _) => continue,
        };
        let stored = both.stored.map(|(codes, element, granularity)| ((element, granularity), codes));
        loose.push(weight(name, &dims, &both.numbers, stored, form, &options.weights)?);
    }
    Ok(loose)
}

/// The operands of a node that are weights, and how they lie; `None`: a constant, but no weights.
fn roles(node: &NodeProto) -> Vec<(&str, Option<WeightForm>)> {
    let operand = |i: usize| node.input.get(i).map_or("", String::as_str);
    let flag = |name: &str| node.attribute.iter().find(|a| a.name.as_deref() == Some(name)).and_then(|a| a.i);
    match node.op_type.as_deref().unwrap_or_default() {
        "Conv" | "ConvInteger" | "QLinearConv" => {
            let form = if flag("group").unwrap_or(1) > 1 { WeightForm::Depthwise } else { WeightForm::Conv };
            vec![(operand(1), Some(form))]
        }
        "Gemm" => {
            let form = |flag: bool| Some(if flag { WeightForm::Rows } else { WeightForm::Columns });
            vec![(operand(1), form(flag("transB").unwrap_or(0) != 0))]
        }
        "MatMul" | "MatMulInteger" | "QLinearMatMul" => {
            vec![(operand(0), Some(WeightForm::Rows)), (operand(1), Some(WeightForm::Columns))]
        }
        "Gather" => vec![(operand(0), Some(WeightForm::Rows))],
        // Their operands may be large and are numbers all the same, but shapes and masks.
        "Where" | "Equal" | "Less" | "Greater" | "Reshape" | "Expand" => {
            (0..node.input.len()).map(|i| (operand(i), None)).collect()
        }
        _ => vec![],
    }
}
