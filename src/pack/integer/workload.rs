//! A network as an accelerator sees it.

use super::{Network, Product, ProductKind, StepKind};
use crate::Gpu;
use crate::error::Result;
use crate::gpu::Control;
use crate::pack::{Element, Kind, Layer, Values, Workload};

impl Network {
    /// Convolutions, depthwise ones and dense layers, with the tensors that they write.
    pub(super) fn products(&self) -> impl Iterator<Item = (&Product, usize)> {
        self.steps.iter().filter_map(|step| match &step.kind {
            StepKind::Product(product) => Some((product.as_ref(), step.output)),
            _ => None,
        })
    }

    /// Its layers with their weights, without activations. A layer has the name of the tensor that it writes, its weights their own.
    pub fn workload(&self) -> Workload {
        let layer = |(product, output): (&Product, usize)| Layer {
            name: self.tensors[output].name.clone(),
            shape: product.shape,
            weights: product.values(),
            inputs: Vec::new(),
            outputs: Vec::new(),
        };
        Workload { name: self.name.clone(), layers: self.products().map(layer).collect(), ..Workload::default() }
    }

    /// The same with the maps that its layers read and write for these samples, computed on the device.
    ///
    /// # Errors
    /// Those of [`Network::run_async`].
    pub async fn workload_async(&self, gpu: &Gpu, samples: super::Samples<'_>, control: &Control) -> Result<Workload> {
        let activations = self.run_async(gpu, samples, control).await?;
        let mut workload = self.workload();
        activations.fill(self, &mut workload)?;
        Ok(workload)
    }
}

impl Product {
    /// The weights as they are stored; `None` only for a product of nothing.
    fn values(&self) -> Option<Values> {
        let [height, width] = self.shape.filter;
        let shape = match self.kind {
            ProductKind::Depthwise => [1, height, width, self.shape.filters],
            ProductKind::Conv => [self.shape.filters, height, width, self.shape.input[2] / self.shape.groups],
        };
        let bytes = self.weights.iter().map(|weight| weight.cast_unsigned()).collect();
        let values = Values::from_bytes(self.weights_name.clone(), Kind::Weights, Element::I8, &shape, bytes);
        values.ok().map(|values| values.quantised(self.granularity))
    }
}
