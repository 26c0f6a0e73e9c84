//! `[model]`.

use std::path::{Path, PathBuf};

use super::{Key, setting};
use crate::error::Result;
use crate::files::tree::Section;
use crate::train::hyper::Hyper;

/// What is trained; numbers such as widths are hyper-parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ModelConfig {
    /// Linear layers of the widths `hidden` with an activation after each.
    Mlp {
        /// The activation.
        activation: Activation,
    },
    /// LeNet-5 for images.
    Lenet,
    /// ResNet-18 as for CIFAR, `width` channels in its first stage.
    Resnet18,
    /// PointNet classification of point clouds.
    Pointnet,
    /// A Transformer language model of characters.
    Transformer,
    /// A network from an ONNX file.
    Onnx {
        /// The file.
        file: PathBuf,
    },
}

/// An activation of an MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Activation {
    /// `max(x, 0)`.
    #[default]
    Relu,
    /// Hyperbolic tangent.
    Tanh,
    /// Logistic function.
    Sigmoid,
    /// `x Phi(x)`.
    Gelu,
}

const KINDS: &[(&str, &[&str])] = &[
    ("mlp", &["hidden", "dropout"]),
    ("lenet", &[]),
    ("resnet18", &["width"]),
    ("pointnet", &[]),
    ("transformer", &["context", "width", "layers", "heads"]),
    ("onnx", &[]),
];

impl ModelConfig {
    /// Its kind as the file writes it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Mlp { .. } => "mlp",
            Self::Lenet => "lenet",
            Self::Resnet18 => "resnet18",
            Self::Pointnet => "pointnet",
            Self::Transformer => "transformer",
            Self::Onnx { .. } => "onnx",
        }
    }

    /// The hyper-parameters that this kind of model has.
    pub fn keys(&self) -> &'static [&'static str] {
        KINDS.iter().find(|(kind, _)| *kind == self.name()).map_or(&[], |(_, keys)| keys)
    }

    pub(super) fn parse(section: Section<'_>, folder: &Path, base: &mut Hyper) -> Result<Self> {
        let words: Vec<(&str, &str)> = KINDS.iter().map(|(kind, _)| (*kind, *kind)).collect();
        let kind = section.word("kind", &words)?;
        let kind = kind.ok_or_else(|| {
            section.missing("kind", "\"mlp\", \"lenet\", \"resnet18\", \"pointnet\", \"transformer\" or \"onnx\"")
        })?;
        let model = match kind {
            "mlp" => {
                let words = [
                    ("relu", Activation::Relu),
                    ("tanh", Activation::Tanh),
                    ("sigmoid", Activation::Sigmoid),
                    ("gelu", Activation::Gelu),
                ];
                Self::Mlp { activation: section.word("activation", &words)?.unwrap_or_default() }
            }
            "lenet" => Self::Lenet,
            "resnet18" => Self::Resnet18,
            "pointnet" => Self::Pointnet,
            "transformer" => Self::Transformer,
            _ => {
                let file = section.text("file")?.ok_or_else(|| section.missing("file", "the ONNX file"))?;
                Self::Onnx { file: folder.join(file) }
            }
        };
        let own: &[&str] = match &model {
            Self::Mlp { .. } => &["kind", "activation"],
            Self::Onnx { .. } => &["kind", "file"],
            _ => &["kind"],
        };
        section.only(&[own, model.keys()].concat())?;
        for key in model.keys().iter().filter_map(|name| Key::find(name)) {
            if let Some(item) = section.item(key.name) {
                base.set(key.name, setting(&section, key, item)?)?;
            }
        }
        Ok(model)
    }
}
