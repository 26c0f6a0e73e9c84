//! A TFLite file as its schema has it: tensors, their data, operators.

use super::flatbuffer::{Numbers, Table, Tables, What};
use crate::error::{Error, Result};

/// What the header of a file says at byte 4.
const IDENTIFIER: &[u8] = b"TFL3";

/// Longest name and most axes of a tensor.
const NAME: usize = 16 << 10;
const AXES: usize = 8;

/// Element types that are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Float,
    Int32,
    Uint8,
    Int64,
    Int16,
    Int8,
    Other(i8),
}

impl Type {
    fn of(code: i8) -> Self {
        match code {
            0 => Self::Float,
            2 => Self::Int32,
            3 => Self::Uint8,
            4 => Self::Int64,
            7 => Self::Int16,
            9 => Self::Int8,
            other => Self::Other(other),
        }
    }

    pub(super) fn name(self) -> String {
        match self {
            Self::Float => "float32".into(),
            Self::Int32 => "int32".into(),
            Self::Uint8 => "uint8".into(),
            Self::Int64 => "int64".into(),
            Self::Int16 => "int16".into(),
            Self::Int8 => "int8".into(),
            Self::Other(1) => "float16".into(),
            Self::Other(17) => "int4".into(),
            Self::Other(code) => format!("of type {code}"),
        }
    }
}

/// A tensor as the file describes it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Described<'a> {
    pub(super) what: What,
    pub(super) name: &'a str,
    pub(super) element: Type,
    pub(super) shape: Numbers<'a, i32>,
    pub(super) scales: Numbers<'a, f32>,
    pub(super) zero_points: Numbers<'a, i64>,
    /// The axis that has the scales.
    pub(super) axis: i32,
    /// Empty for what is computed.
    pub(super) data: &'a [u8],
    pub(super) sparse: bool,
}

/// An operator with its code.
#[derive(Debug, Clone, Copy)]
pub(super) struct Operator<'a> {
    pub(super) index: usize,
    pub(super) code: i32,
    pub(super) inputs: Numbers<'a, i32>,
    pub(super) outputs: Numbers<'a, i32>,
    pub(super) options: Option<Table<'a>>,
}

/// The one graph of a file.
#[derive(Debug)]
pub(super) struct Model<'a> {
    bytes: &'a [u8],
    codes: Tables<'a>,
    buffers: Tables<'a>,
    tensors: Tables<'a>,
    operators: Tables<'a>,
    pub(super) inputs: Numbers<'a, i32>,
    pub(super) outputs: Numbers<'a, i32>,
}

impl<'a> Model<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self> {
        if bytes.get(4..8) != Some(IDENTIFIER) {
            return Err(Error::bad_input("not a TFLite network: bytes 4 to 8 are not 'TFL3'")
                .with_help("give a file that a TFLite converter has written (.tflite)"));
        }
        let model = Table::at(bytes, 0, What("the model", None))?;
        let graphs = model.tables(2, "graph")?;
        if graphs.len() != 1 {
            let what = format!("{} graphs: only a network of one is read", graphs.len());
            return Err(Error::unsupported(what).with_help("convert the network without control flow"));
        }
        let graph = graphs.get(0)?;
        let (tensors, operators) = (graph.tables(0, "tensor")?, graph.tables(3, "operator")?);
        // A table takes more than 8 bytes: more of them must be the same ones over and over.
        if tensors.len().max(operators.len()) > bytes.len() / 8 {
            return Err(graph.what.malformed("more tensors or operators than the file has room for"));
        }
        Ok(Self {
            bytes,
            codes: model.tables(1, "operator code")?,
            buffers: model.tables(4, "buffer")?,
            tensors,
            operators,
            inputs: graph.integers(1)?,
            outputs: graph.integers(2)?,
        })
    }

    pub(super) fn tensors(&self) -> usize {
        self.tensors.len()
    }

    pub(super) fn operators(&self) -> usize {
        self.operators.len()
    }

    pub(super) fn tensor(&self, i: usize) -> Result<Described<'a>> {
        let table = self.tensors.get(i)?;
        let quantisation = table.table(4, What("quantisation of tensor", Some(i)))?;
        let (name, shape) = (table.bytes(3)?, table.integers(0)?);
        // Every operator looks at its tensors: what takes long for one must not be there.
        if name.len() > NAME || shape.len() > AXES {
            return Err(table.what.malformed(format!("a name of {} bytes, {} axes", name.len(), shape.len())));
        }
        let name = std::str::from_utf8(name).map_err(|_| table.what.malformed("its name is no text"))?;
        let (scales, zero_points) = match quantisation {
            Some(q) => (q.floats(2)?, q.longs(3)?),
            None => (Numbers::none(), Numbers::none()),
        };
        Ok(Described {
            what: table.what,
            name,
            element: Type::of(table.byte(1)?),
            shape,
            scales,
            zero_points,
            axis: quantisation.map_or(Ok(0), |q| q.integer(6, 0))?,
            data: self.data(table)?,
            sparse: table.table(6, What("sparsity of tensor", Some(i)))?.is_some(),
        })
    }

    /// The stored numbers of a tensor, in its buffer or, in large files, behind all tables.
    fn data(&self, tensor: Table<'a>) -> Result<&'a [u8]> {
        let index = tensor.integer(2, 0)?.cast_unsigned() as usize;
        if index == 0 && self.buffers.len() == 0 {
            return Ok(&[]);
        }
        let buffer = self.buffers.get(index)?;
        let (offset, size) = (buffer.long(1)?, buffer.long(2)?);
        if offset <= 1 {
            return buffer.bytes(0);
        }
        let range = || {
            let start = usize::try_from(offset).ok()?;
            self.bytes.get(start..start.checked_add(usize::try_from(size).ok()?)?)
        };
        range().ok_or_else(|| buffer.what.malformed("its bytes lie outside of the file"))
    }

    pub(super) fn operator(&self, i: usize) -> Result<Operator<'a>> {
        let table = self.operators.get(i)?;
        let code = self.codes.get(table.integer(0, 0)?.cast_unsigned() as usize)?;
        Ok(Operator {
            index: i,
            // Codes above 127 stand in the younger of the two fields.
            code: code.integer(3, 0)?.max(code.byte(0)?.into()),
            inputs: table.integers(1)?,
            outputs: table.integers(2)?,
            options: table.table(4, What("options of operator", Some(i)))?,
        })
    }
}
