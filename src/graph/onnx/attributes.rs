//! The attributes of a node, with their defaults and types.

use super::node_name;
use crate::error::{Error, Result};
use rten_onnx::onnx::{AttributeProto, AttributeType, NodeProto};

/// Access to the attributes of one node.
pub(super) struct Attributes<'a> {
    node: &'a NodeProto,
    name: String,
}

impl<'a> Attributes<'a> {
    /// Attributes of the node at index `at`, all of which must be in `known`: one that is not could change what the
    /// node computes.
    pub(super) fn new(node: &'a NodeProto, at: usize, known: &[&str]) -> Result<Self> {
        let name = node_name(node, at);
        let names = node.attribute.iter().map(|a| a.name.as_deref().unwrap_or_default());
        // A hint about memory in files of 2017, without a meaning.
        let mut unknown = names.filter(|n| !known.contains(n) && *n != "consumed_inputs");
        if let Some(attribute) = unknown.next() {
            let op = node.op_type.as_deref().unwrap_or_default();
            return Err(Error::unsupported(format!("node '{name}' ({op}) has the attribute '{attribute}'"))
                .with_help(format!("attributes supported for {op} are {known:?}")));
        }
        Ok(Self { node, name })
    }

    /// An attribute, if the node has it.
    pub(super) fn get(&self, name: &str) -> Option<&'a AttributeProto> {
        self.node.attribute.iter().find(|a| a.name.as_deref() == Some(name))
    }

    /// Finds an attribute that must have the type `kind`. Old files leave the type out.
    fn typed(&self, name: &str, kind: AttributeType) -> Result<Option<&'a AttributeProto>> {
        let Some(attribute) = self.get(name) else {
            return Ok(None);
        };
        match attribute.r#type {
            None | Some(AttributeType::UNDEFINED) => Ok(Some(attribute)),
            Some(found) if found == kind => Ok(Some(attribute)),
            Some(found) => Err(Error::bad_input(format!(
                "node '{}': attribute '{name}' has type {}, not {}",
                self.name, found.0, kind.0
            ))
            .with_help("the file is damaged or was written wrongly; export it again")),
        }
    }

    /// An integer. Some writers leave a 0 out.
    pub(super) fn int(&self, name: &str, default: i64) -> Result<i64> {
        let attribute = self.typed(name, AttributeType::INT)?;
        Ok(attribute.map_or(default, |a| a.i.unwrap_or(0)))
    }

    /// A switch: 0 or 1.
    pub(super) fn flag(&self, name: &str) -> Result<bool> {
        Ok(self.int(name, 0)? != 0)
    }

    /// A list of integers, if the node has it.
    pub(super) fn ints(&self, name: &str) -> Result<Option<&'a [i64]>> {
        let attribute = self.typed(name, AttributeType::INTS)?;
        Ok(attribute.map(|a| a.ints.as_slice()))
    }

    /// A finite number.
    pub(super) fn float(&self, name: &str, default: f32) -> Result<f32> {
        let attribute = self.typed(name, AttributeType::FLOAT)?;
        let value = attribute.map_or(default, |a| a.f.unwrap_or(0.0));
        if value.is_finite() {
            return Ok(value);
        }
        Err(Error::bad_input(format!("node '{}': attribute '{name}' is NaN or infinite", self.name)))
    }

    /// A word; empty if the node does not have it.
    pub(super) fn string(&self, name: &str) -> Result<&'a str> {
        let attribute = self.typed(name, AttributeType::STRING)?;
        Ok(attribute.and_then(|a| a.s.as_deref()).unwrap_or_default())
    }
}
