//! A strict check of the Protocol Buffers structure, before the reader proper sees the bytes.
//!
//! The reader (`rten-onnx` 0.27) trusts lengths: a damaged one can make it allocate without limit, a truncated file
//! can look like a shorter network, a varint of ten continuation bytes keeps it in a loop, and nested messages
//! recurse without limit. Everything that passes here has lengths that fit their parents, complete numbers, a
//! bounded depth and at most one graph, so that none of this can happen.
//!
//! Source of field numbers: onnx.proto; of the encoding: protobuf.dev/programming-guides/encoding.

use crate::error::{Error, Result};

/// Deeper nesting than any network without subgraphs needs.
const MAX_DEPTH: usize = 24;

/// The messages of onnx.proto that the reader decodes.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Message {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    ValueInfo,
    Type,
    TensorType,
    SequenceType,
    Shape,
    /// A message without embedded messages.
    Leaf,
}

/// What the bytes of a length-delimited field are.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Content {
    Message(Message),
    /// Packed numbers of this many bytes.
    Fixed(usize),
    /// Packed varints.
    Varints,
    /// A repeated number that the reader takes one field at a time only.
    NotPacked,
    /// Anything else: strings, bytes, fields that are skipped.
    Bytes,
}

fn content(message: Message, field: u64) -> Content {
    use Content::{Bytes, Fixed, NotPacked, Varints};
    use Message::*;
    let nested = match (message, field) {
        (Model, 7) => Graph,
        (Model, 8 | 14) | (Tensor, 13) | (Shape, 1) => Leaf,
        (Graph, 1) => Node,
        (Graph, 5) | (Attribute, 5) => Tensor,
        (Graph, 11..=13) => ValueInfo,
        (Node, 5) => Attribute,
        (Attribute, 6) => Graph,
        (ValueInfo, 2) | (SequenceType, 1) => Type,
        (Type, 1) => TensorType,
        (Type, 4) => SequenceType,
        (TensorType, 2) => Shape,
        (Tensor, 1) | (Attribute, 7 | 8) => return NotPacked,
        (Tensor, 4) => return Fixed(4),
        (Tensor, 10) => return Fixed(8),
        (Tensor, 5 | 7) => return Varints,
        _ => return Bytes,
    };
    Content::Message(nested)
}

/// What the check learns on its way and the reader proper does not tell.
#[derive(Debug, Default)]
pub(super) struct Outline {
    /// The name of the graph.
    pub(super) name: String,
    graphs: usize,
    sparse: bool,
}

/// Checks the structure of a whole model.
pub(super) fn check(bytes: &[u8]) -> Result<Outline> {
    let mut outline = Outline::default();
    Walker { bytes, at: 0 }.message(Message::Model, bytes.len(), 0, &mut outline)?;
    match outline.graphs {
        0 => Err(damaged(0, "there is no network in it")),
        1 if outline.sparse => {
            Err(Error::unsupported("the network has sparse weights").with_help("export it with dense initializers"))
        }
        1 => Ok(outline),
        _ => Err(damaged(0, "there is more than one network in it")),
    }
}

fn damaged(at: usize, why: &str) -> Error {
    Error::bad_input(format!("not a complete ONNX file: {why} (byte {at})"))
        .with_help("the file may be truncated or of another kind; export or download it again")
}

struct Walker<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Walker<'_> {
    fn message(&mut self, message: Message, end: usize, depth: usize, outline: &mut Outline) -> Result<()> {
        if depth > MAX_DEPTH {
            return Err(damaged(self.at, "messages are nested too deeply"));
        }
        while self.at < end {
            let start = self.at;
            let tag = self.varint(end)?;
            let field = tag >> 3;
            match (field, tag & 7) {
                (0, _) => return Err(damaged(start, "there is a field with number 0")),
                (_, 0) => drop(self.varint(end)?),
                (_, 1) => self.skip(8, end)?,
                (_, 5) => self.skip(4, end)?,
                (_, 2) => {
                    let len = usize::try_from(self.varint(end)?).unwrap_or(usize::MAX);
                    let from = self.at;
                    self.skip(len, end)?;
                    self.at = from;
                    note(message, field, depth, &self.bytes[from..from + len], outline);
                    self.contents(content(message, field), from + len, depth, outline)?;
                    self.at = from + len;
                }
                _ => return Err(damaged(start, "there is a field of unknown type")),
            }
        }
        Ok(())
    }

    fn contents(&mut self, content: Content, end: usize, depth: usize, outline: &mut Outline) -> Result<()> {
        let from = self.at;
        match content {
            Content::Message(nested) => self.message(nested, end, depth + 1, outline),
            Content::Fixed(size) if !(end - from).is_multiple_of(size) => {
                Err(damaged(from, "a list of numbers ends inside a number"))
            }
            Content::Varints => {
                while self.at < end {
                    self.varint(end)?;
                }
                Ok(())
            }
            Content::NotPacked => {
                Err(Error::unsupported(format!("dimensions or attributes are stored as packed lists (byte {from})"))
                    .with_help("load and save the file once with the `onnx` Python package"))
            }
            Content::Fixed(_) | Content::Bytes => Ok(()),
        }
    }

    fn skip(&mut self, len: usize, end: usize) -> Result<()> {
        match self.at.checked_add(len) {
            Some(next) if next <= end => {
                self.at = next;
                Ok(())
            }
            _ => Err(damaged(self.at, "it ends inside a field")),
        }
    }

    fn varint(&mut self, end: usize) -> Result<u64> {
        let start = self.at;
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let Some(&byte) = self.bytes[..end].get(self.at) else {
                return Err(damaged(start, "it ends inside a number"));
            };
            self.at += 1;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(damaged(start, "there is a number of more than 64 bits"))
    }
}

/// Takes down what the reader proper leaves out. The network is the graph at depth 1.
fn note(message: Message, field: u64, depth: usize, bytes: &[u8], outline: &mut Outline) {
    match (message, field) {
        (Message::Model, 7) => outline.graphs += 1,
        (Message::Graph, 2) if depth == 1 => {
            outline.name = String::from_utf8_lossy(bytes).into_owned();
        }
        (Message::Graph, 15) if depth == 1 => outline.sparse = true,
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn refusal(bytes: &[u8]) -> String {
        let error = check(bytes).unwrap_err();
        assert!(error.help().is_some(), "{error}");
        error.to_string()
    }

    #[test]
    fn a_graph_with_a_name_passes() {
        let outline = check(&[0x08, 8, 0x3a, 4, 0x12, 2, b'm', b'y']).unwrap();
        assert_eq!(outline.name, "my");
    }

    #[test]
    fn damage_is_named_with_its_byte() {
        assert!(refusal(b"").contains("no network"));
        assert!(refusal(&[0x08, 8, 0x3a, 9, 0x12]).contains("ends inside a field (byte 4)"));
        assert!(refusal(&[0x08]).contains("ends inside a number (byte 1)"));
        assert!(refusal(&[0x00, 1]).contains("number 0"));
        assert!(refusal(&[0x0b]).contains("unknown type"));
        assert!(refusal(&[0x3a, 0, 0x3a, 0]).contains("more than one network"));
    }

    #[test]
    fn numbers_end_after_ten_bytes() {
        let mut bytes = vec![0x08];
        bytes.extend([0xff; 12]);
        assert!(refusal(&bytes).contains("more than 64 bits (byte 1)"));
        bytes[10] = 1;
        assert!(refusal(&bytes[..11]).contains("no network"), "-1 is a complete number");
    }

    #[test]
    fn a_length_must_fit_its_parent() {
        // A graph of 2 bytes whose node claims 3, which the file would have.
        assert!(refusal(&[0x3a, 2, 0x0a, 3, 0x08, 1, 0x08, 1]).contains("ends inside a field"));
        let mut huge = vec![0x3a];
        huge.extend([0xff; 9]);
        huge.push(1);
        assert!(refusal(&huge).contains("ends inside a field"));
    }

    #[test]
    fn packed_lists_must_end_with_a_number() {
        // Model > graph > initializer > float_data of 3 bytes; then int64_data that ends in a continuation byte.
        assert!(refusal(&[0x3a, 7, 0x2a, 5, 0x22, 3, 0, 0, 0]).contains("inside a number"));
        assert!(refusal(&[0x3a, 6, 0x2a, 4, 0x3a, 2, 1, 0x80]).contains("inside a number"));
        let packed_dims = check(&[0x3a, 5, 0x2a, 3, 0x0a, 1, 2]).unwrap_err();
        assert_eq!(packed_dims.kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn nesting_is_bounded() {
        let mut bytes = vec![];
        for _ in 0..20 {
            // Graph inside attribute inside node inside graph.
            for field in [6, 5, 1] {
                let mut outer = vec![field << 3 | 2, u8::try_from(bytes.len()).unwrap()];
                outer.append(&mut bytes);
                bytes = outer;
            }
        }
        let mut model = vec![0x3a, u8::try_from(bytes.len()).unwrap()];
        model.append(&mut bytes);
        assert!(refusal(&model).contains("nested too deeply"));
    }
}
