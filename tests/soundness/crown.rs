//! CROWN on layers in f64, written for plainness: every row is dense, nothing has a window, a list or a slice. It takes the slopes
//! that the device takes, so that its bounds differ from those of a device that charges nothing by rounding alone.

use wavehull::graph::{Activation, Extent, Layer, Layers, Map, Source};

/// Terms (row, column, weight) of a map.
pub type Terms = Vec<(usize, usize, f64)>;

/// A line below an activation and one above it: (slope, offset) each.
type Lines = [(f64, f64); 2];

pub struct Crown<'a> {
    net: &'a Layers,
    /// Of every layer, edge by edge.
    maps: Vec<Vec<Terms>>,
    lower: Vec<f64>,
    upper: Vec<f64>,
    /// Bounds of every layer's z.
    bounds: Vec<Vec<(f64, f64)>>,
    lines: Vec<Vec<Lines>>,
}

/// Those of a map between values of these extents.
pub fn terms(map: &Map, from: Extent, to: Extent) -> Terms {
    let number = |w: &f32| f64::from(*w);
    match map {
        Map::Dense(weight) => weight.indexed_iter().map(|((i, j), w)| (i, j, number(w))).collect(),
        Map::Diagonal(weight) => weight.iter().enumerate().map(|(j, w)| (j, j, number(w))).collect(),
        Map::Sparse(sparse) => {
            let row = |j: usize| (sparse.starts[j]..sparse.starts[j + 1]).map(move |t| (j, t));
            let of = |(j, t): (usize, usize)| (j, sparse.columns[t] as usize, number(&sparse.weights[t]));
            (0..to.len()).flat_map(row).map(of).collect()
        }
        Map::Conv(conv) => {
            let mut all = Vec::new();
            let at = |extent: Extent, c: usize, y: usize, x: usize| (c * extent.height + y) * extent.width + x;
            for ((m, c, i, j), w) in conv.weight.indexed_iter() {
                for (y, x) in (0..to.height).flat_map(|y| (0..to.width).map(move |x| (y, x))) {
                    let place = |axis: usize, t: usize, tap: usize| {
                        (t * conv.stride[axis] + tap * conv.dilation[axis]).wrapping_sub(conv.pad[axis])
                    };
                    let (from_y, from_x) = (place(0, y, i), place(1, x, j));
                    if from_y < from.height && from_x < from.width {
                        all.push((at(to, m, y, x), at(from, c, from_y, from_x), number(w)));
                    }
                }
            }
            all
        }
    }
}

impl<'a> Crown<'a> {
    /// Bounds of all layers over a box, in the order of the network's input.
    pub fn new(net: &'a Layers, lower: &[f64], upper: &[f64]) -> Self {
        let maps = net.layers.iter().map(|layer| {
            layer.edges.iter().map(|edge| terms(&edge.map, net.extent(edge.source), layer.extent)).collect()
        });
        let (lower, upper) = (lower.to_vec(), upper.to_vec());
        let mut crown = Self { net, maps: maps.collect(), lower, upper, bounds: Vec::new(), lines: Vec::new() };
        for (index, layer) in net.layers.iter().enumerate() {
            let above_input = layer.edges.len() > 1 || layer.edges.iter().any(|edge| edge.source != Source::Input);
            let refined = layer.activation != Activation::None && above_input;
            let bounds = if refined { crown.back_substituted(index) } else { crown.interval(index) };
            crown.lines.push(bounds.iter().map(|&(l, h)| lines(layer.activation, l, h)).collect());
            crown.bounds.push(bounds);
        }
        crown
    }

    /// Bounds of a source's values.
    fn values(&self, source: Source) -> Vec<(f64, f64)> {
        match source {
            Source::Input => self.lower.iter().copied().zip(self.upper.iter().copied()).collect(),
            Source::Layer(index) => {
                let activation = self.net.layers[index].activation;
                self.bounds[index].iter().map(|&(l, h)| (apply(activation, l), apply(activation, h))).collect()
            }
        }
    }

    fn interval(&self, index: usize) -> Vec<(f64, f64)> {
        let layer = &self.net.layers[index];
        let mut bounds: Vec<(f64, f64)> = layer.bias.iter().map(|&b| (f64::from(b), f64::from(b))).collect();
        for (edge, map) in layer.edges.iter().zip(&self.maps[index]) {
            let values = self.values(edge.source);
            for &(i, j, w) in map {
                let (l, h) = if w < 0.0 { (values[j].1, values[j].0) } else { values[j] };
                bounds[i] = (bounds[i].0 + w * l, bounds[i].1 + w * h);
            }
        }
        bounds
    }

    fn back_substituted(&self, index: usize) -> Vec<(f64, f64)> {
        let layer = &self.net.layers[index];
        let side = |j: usize, sign: f64| {
            let mut coefficients = self.empty();
            for (edge, map) in layer.edges.iter().zip(&self.maps[index]) {
                let to = &mut coefficients[place(edge.source)];
                map.iter().filter(|term| term.0 == j).for_each(|&(_, column, w)| to[column] += sign * w);
            }
            self.walk(coefficients, sign * f64::from(layer.bias[j])).0
        };
        (0..layer.extent.len()).map(|j| (side(j, 1.0), -side(j, -1.0))).collect()
    }

    /// A lower bound of a form of the outputs, and the corner of the box where its linear form is least.
    pub fn bound(&self, form: &[f64], constant: f64) -> (f64, Vec<f64>) {
        let mut coefficients = self.empty();
        if let Some(last) = coefficients.last_mut() {
            last.copy_from_slice(form);
        }
        self.walk(coefficients, constant)
    }

    /// No coefficients on the input and on every layer.
    fn empty(&self) -> Vec<Vec<f64>> {
        let layers = self.net.layers.iter().map(|layer| layer.extent.len());
        std::iter::once(self.lower.len()).chain(layers).map(|n| vec![0.0; n]).collect()
    }

    fn walk(&self, mut coefficients: Vec<Vec<f64>>, mut constant: f64) -> (f64, Vec<f64>) {
        // Above the layers that have lines there is nothing but zeros.
        for (index, layer) in self.net.layers.iter().enumerate().take(self.lines.len()).rev() {
            let a = std::mem::take(&mut coefficients[index + 1]);
            let on_z = self.relaxed(index, layer, &a, &mut constant);
            for (edge, map) in layer.edges.iter().zip(&self.maps[index]) {
                let to = &mut coefficients[place(edge.source)];
                map.iter().for_each(|&(i, j, w)| to[j] += on_z[i] * w);
            }
        }
        let ends = self.lower.iter().zip(&self.upper);
        let corner: Vec<f64> =
            coefficients[0].iter().zip(ends).map(|(&a, (&l, &h))| if a < 0.0 { h } else { l }).collect();
        (constant + coefficients[0].iter().zip(&corner).map(|(a, x)| a * x).sum::<f64>(), corner)
    }

    fn relaxed(&self, index: usize, layer: &Layer, a: &[f64], constant: &mut f64) -> Vec<f64> {
        let lines = self.lines[index].iter().zip(&layer.bias);
        a.iter()
            .zip(lines)
            .map(|(&a, (lines, &bias))| {
                let (slope, offset) = lines[usize::from(a < 0.0)];
                *constant += a * (slope * f64::from(bias) + offset);
                a * slope
            })
            .collect()
    }
}

fn place(source: Source) -> usize {
    match source {
        Source::Input => 0,
        Source::Layer(index) => index + 1,
    }
}

fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn apply(activation: Activation, z: f64) -> f64 {
    match activation {
        Activation::None => z,
        Activation::Relu => z.max(0.0),
        Activation::Sigmoid => logistic(z),
        Activation::Tanh => z.tanh(),
    }
}

fn lines(activation: Activation, l: f64, h: f64) -> Lines {
    match activation {
        Activation::None => [(1.0, 0.0); 2],
        Activation::Relu if h <= 0.0 => [(0.0, 0.0); 2],
        Activation::Relu if l >= 0.0 => [(1.0, 0.0); 2],
        Activation::Relu => {
            let slope = h / (h - l);
            [(if h > -l { 1.0 } else { 0.0 }, 0.0), (slope, -l * slope)]
        }
        Activation::Sigmoid => smooth(l, h),
        Activation::Tanh => smooth(2.0 * l, 2.0 * h).map(|(slope, offset)| (4.0 * slope, 2.0 * offset - 1.0)),
    }
}

fn smooth(l: f64, h: f64) -> Lines {
    let (low, high) = (slope_below(l, h), slope_below(-h, -l));
    [(low, offset_below(low, l, h)), (high, 1.0 - offset_below(high, -h, -l))]
}

/// The slope that lib/logistic.wgsl chooses for the lower line.
fn slope_below(l: f64, h: f64) -> f64 {
    let (sl, sh) = (logistic(l), logistic(h));
    let chord = if h - l < 1e-3 { sl * (1.0 - sl) } else { (sh - sl) / (h - l) };
    if l >= 0.0 || h > 0.0 && chord <= sl * (1.0 - sl) {
        return chord;
    }
    let touching = if h <= 0.0 {
        0.5 * (l + h)
    } else {
        let (mut left, mut right) = (l, 0.0);
        for _ in 0..16 {
            let d: f64 = 0.5 * (left + right);
            let sd = logistic(d);
            if sd * (1.0 - sd) * (h - d) < sh - sd { left = d } else { right = d }
        }
        0.5 * (left + right).min(l + h)
    };
    logistic(touching) * (1.0 - logistic(touching))
}

/// The least value of s(x) - k x on [l, h]: at an end, or where s' = k on the left of 0.
fn offset_below(k: f64, l: f64, h: f64) -> f64 {
    let gap = |x: f64| logistic(x) - k * x;
    let s = 2.0 * k / (1.0 + (1.0 - 4.0 * k).max(0.0).sqrt());
    // Back-substituted ends of a point may stand in the wrong order by a rounding.
    let inner = if s > 0.0 { (s / (1.0 - s)).ln().max(l).min(h) } else { l };
    gap(l).min(gap(h)).min(gap(inner))
}
