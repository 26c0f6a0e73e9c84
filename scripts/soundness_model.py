#!/usr/bin/env python3
"""What soundness costs in tightness: a model in f64 of the strict f32 bounds, against depth.

    python3 scripts/soundness_model.py [--shared FOLDER] [--quick | --full]

The model is CROWN/DeepPoly back-substitution in f64 to which the error terms of the f32 run are added; the page
docs/soundness.md derives them and keeps the results. The variants differ in D, the number of roundings that a product
meets in a sum of K products, which enters as gamma = D u / (1 - D u):

    exact      no terms: the bound itself
    any order  D = K: one dispatch a sum, any order of summation; holds by the letter of WGSL
    chunks     D = min(K, 64) + ceil(K / 64): sums of 64 products pass through storage between dispatches; by the letter
    2 sqrt K   D = 2 sqrt(K), for reference: the best two-level sum
    centred    the rows are kept about the layer values at the centre of the box instead of about 0, so that the
               error is proportional to the radius; those values come from one evaluation in f64

Tables: random networks of width 256 and 2 to 34 layers, with K set to 4,608 (a ResNet-34's 3x3x512 sums) in every sum;
output rows alone at the true width 4,608; the networks of `data/`; and, if the folder with them is known (--shared or
WAVEHULL_SHARED), those of VNN-COMP's mnist_fc and cifar10_resnet with their own K. numpy only, one core, some minutes.
f64's own rounding and the flushing terms are left out.
"""

import argparse
import gzip
import math
import os
import re
import struct
import time
from dataclasses import dataclass, field
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402

U = 2.0**-23  # unit roundoff: WGSL rounds to either neighbour
CHUNK = 64
BLOCK = 64


@dataclass(frozen=True)
class Variant:
    """`depth(K)`: roundings that a product meets in a sum of K (None: no error terms); `centred`: see above."""

    depth: object = None
    centred: bool = False


def any_order(k):
    return k


def chunks(k):
    return min(k, CHUNK) + math.ceil(k / CHUNK)


def two_sqrt(k):
    return 2 * math.sqrt(k)


EXACT = Variant()
VARIANTS = {
    "any order": Variant(any_order),
    "chunks": Variant(chunks),
    "2 sqrt K": Variant(two_sqrt),
    "any order, centred": Variant(any_order, True),
    "chunks, centred": Variant(chunks, True),
}


# --- networks -------------------------------------------------------------------------------------------------------


@dataclass
class Node:
    """A `linear` (weight n_out x n_in, bias), `relu` or `add` node; sources are indices of earlier nodes, 0 = input."""

    kind: str
    sources: list
    weight: np.ndarray = None
    bias: np.ndarray = None
    k_forward: int = 0  # products in one sum of the interval pass
    k_back: int = 0  # products in one sum of the back-substitution
    back: object = None  # rows over the output -> rows over the source
    absolute: np.ndarray = field(default=None, repr=False)

    def __post_init__(self):
        if self.kind == "linear":
            self.absolute = np.abs(self.weight)
            self.back = self.back or (lambda rows: rows @ self.weight)


@dataclass
class Net:
    """Nodes in topological order, the last one the output; `least_k` replaces the length of every shorter sum."""

    nodes: list
    least_k: int = 0

    def gamma(self, variant, k):
        """D u / (1 - D u) for a sum of k products; 0 without error terms."""
        d = 0.0 if variant.depth is None else variant.depth(max(k, self.least_k))
        return d * U / (1 - d * U)


def dense(weight, bias, source):
    """A fully connected layer."""
    return Node("linear", [source], weight, bias, weight.shape[1], weight.shape[0])


def convolution(kernel, bias, shape, stride, pad, source):
    """A convolution over `shape` (C, H, W) as a matrix, with the K of the convolution. Returns (node, new shape)."""
    out_c, in_c, size, _ = kernel.shape
    _, height, width = shape
    oh, ow = (height + 2 * pad - size) // stride + 1, (width + 2 * pad - size) // stride + 1
    span_y, span_x = oh * stride, ow * stride

    def back(rows):
        """Rows over the output times the matrix: a small product for each tap instead of one that is mostly zeros."""
        tall = rows.reshape(-1, out_c, oh * ow).transpose(0, 2, 1)
        out = np.zeros((len(rows), height + 2 * pad, width + 2 * pad, in_c))
        for i, j in np.ndindex(size, size):
            out[:, i : i + span_y : stride, j : j + span_x : stride] += (tall @ kernel[:, :, i, j]).reshape(
                -1, oh, ow, in_c
            )
        inner = out[:, pad : pad + height, pad : pad + width]
        return inner.transpose(0, 3, 1, 2).reshape(len(rows), -1)

    matrix = back(np.eye(out_c * oh * ow))
    node = Node("linear", [source], matrix, np.repeat(bias, oh * ow), in_c * size * size, out_c * size * size, back)
    return node, (out_c, oh, ow)


def evaluate(net, x):
    """The values of all nodes in plain f64, the input first."""
    values = [x]
    for node in net.nodes:
        a = values[node.sources[0]]
        if node.kind == "linear":
            values.append(node.weight @ a + node.bias)
        elif node.kind == "relu":
            values.append(np.maximum(a, 0))
        else:
            values.append(a + values[node.sources[1]])
    return values


# --- bounds ---------------------------------------------------------------------------------------------------------


@dataclass
class Run:
    """One box pushed through one net: the origins (0, or the values at the box's centre) and the bounds so far."""

    net: Net
    variant: Variant
    intersect: str  # "no"; "neurons": keep the tighter of interval and row; "rows": also evaluate rows at every layer
    origins: list
    bounds: list
    kept: dict = field(default_factory=dict)

    def once(self, key, compute):
        """`compute()`, kept: what rows of one target share with those of the next."""
        if key not in self.kept:
            self.kept[key] = compute()
        return self.kept[key]

    def reach(self, i):
        """The largest distance of each value of node i from its origin."""
        low, high = self.bounds[i]
        return np.maximum(np.abs(low - self.origins[i]), np.abs(high - self.origins[i]))

    def gamma(self, k):
        return self.net.gamma(self.variant, k)

    @property
    def u(self):
        return 0.0 if self.variant.depth is None else U

    def shift(self, i):
        """What node i, a linear layer, makes of its source's origin, less its own origin; and a bound on its parts."""
        node = self.net.nodes[i - 1]
        here, there = self.origins[i], self.origins[node.sources[0]]
        value = self.once(("shift", i), lambda: node.weight @ there + node.bias - here)
        return value, np.abs(value) + self.u * np.abs(here)

    def spread(self, i):
        """|W| reach of node i, a linear layer: the vector that all rows share."""
        node = self.net.nodes[i - 1]
        return self.once(("spread", i), lambda: node.absolute @ self.reach(node.sources[0]))


def lines(run, i):
    """The ReLU lines of node i about the origins: slopes and offsets (s_low, t_low, s_up, t_up).

    The upper line takes the chord; the lower one is z or 0, whichever leaves less area.
    """
    source = run.net.nodes[i - 1].sources[0]
    (low, high), here = run.bounds[source], run.origins[source]
    unstable = (low < 0) & (high > 0)
    s_up = np.where(low >= 0, 1.0, 0.0)
    s_up[unstable] = high[unstable] / (high[unstable] - low[unstable])
    s_low = np.where(unstable, (high > -low).astype(float), s_up)
    chord = np.where(unstable, -s_up * low, 0.0)
    t_low, t_up = s_low * here - run.origins[i], s_up * here + chord - run.origins[i]
    # Roundings inside the upper offset: none where the neuron is stable, some ulps of its parts elsewhere.
    t_up = t_up + np.where(unstable, 4 * run.u * (np.abs(s_up * here) + chord + run.origins[i]), 0.0)
    return s_low, t_low, s_up, t_up


class Rows:
    """Lower bounds `A (x_i - origin_i) + constant - err` on their way from node `top` to the input."""

    def __init__(self, run, top, rows, constant, err):
        self.run, self.pending, self.constant, self.err = run, {top: rows}, constant, err

    def add_constant(self, addend):
        """Both roundings of the addition are charged to err."""
        total = self.constant + addend
        self.err = self.err + 2 * self.run.u * (np.abs(self.constant) + np.abs(total))
        self.constant = total

    def give(self, i, coefficients):
        """Hands coefficients to node i; where two paths meet, their sum is rounded."""
        if i in self.pending:
            coefficients = self.pending[i] + coefficients
            self.err = self.err + self.run.u * (np.abs(coefficients) @ self.run.reach(i))
        self.pending[i] = coefficients

    def through_linear(self, a, i):
        run, node = self.run, self.run.net.nodes[i - 1]
        source = node.sources[0]
        shift, parts = run.shift(i)
        if run.u:
            v = run.gamma(node.k_back) * run.spread(i)
            self.err = self.err + np.abs(a) @ (v + run.gamma(a.shape[1]) * parts)
        self.add_constant(a @ shift)
        self.give(source, node.back(a))

    def through_relu(self, a, i):
        run, source = self.run, self.run.net.nodes[i - 1].sources[0]
        s_low, t_low, s_up, t_up = run.once(("lines", i), lambda: lines(run, i))
        negative = np.minimum(a, 0)
        positive = a - negative
        scaled = positive * s_low + negative * s_up
        if run.u:
            offsets = positive @ np.abs(t_low) - negative @ np.abs(t_up)
            self.err = self.err + run.u * (np.abs(scaled) @ run.reach(source)) + run.gamma(a.shape[1]) * offsets
        self.add_constant(positive @ t_low + negative @ t_up)
        self.give(source, scaled)

    def value_at(self, i):
        """The bounds if the rows, all of them over node i, are evaluated on its bounds."""
        run, a = self.run, self.pending[i]
        (low, high), origin = run.bounds[i], run.origins[i]
        negative = np.minimum(a, 0)
        total = self.constant + (a - negative) @ (low - origin) + negative @ (high - origin)
        err = self.err + 2 * run.u * (np.abs(self.constant) + np.abs(total))
        if run.u:
            err = err + run.gamma(a.shape[1] + 2) * (np.abs(a) @ run.reach(i))
        return total - err

    def finish(self):
        """The bounds at the input, or the best met on the way if the run looks there."""
        best = -math.inf
        for i in range(max(self.pending), 0, -1):
            if i not in self.pending:
                continue
            if self.run.intersect == "rows" and len(self.pending) == 1 and i < len(self.run.bounds):
                best = np.maximum(best, self.value_at(i))
            a, node = self.pending.pop(i), self.run.net.nodes[i - 1]
            if node.kind == "linear":
                self.through_linear(a, i)
            elif node.kind == "relu":
                self.through_relu(a, i)
            else:  # an addition; its origin is the sum of its sources' origins
                for source in node.sources:
                    self.give(source, a)
        return np.maximum(best, self.value_at(0))


def interval(run, i):
    """The interval pass through node i, widened by its error terms."""
    node = run.net.nodes[i - 1]
    source = node.sources[0]
    low, high = run.bounds[source]
    if node.kind == "relu":
        return np.maximum(low, 0), np.maximum(high, 0)
    if node.kind == "add":
        other = run.bounds[node.sources[1]]
        low, high = low + other[0], high + other[1]
        slack = run.u * np.maximum(np.abs(low), np.abs(high))
        return low - slack, high + slack
    shift, parts = run.shift(i)
    offset = (high + low) / 2 - run.origins[source]
    middle = run.origins[i] + shift + node.weight @ offset
    radius = node.absolute @ ((high - low) / 2)
    if run.u:
        radius = radius + run.gamma(node.k_forward + 3) * (run.spread(i) + parts)
        radius = radius + run.u * np.abs(run.origins[i])
    return middle - radius, middle + radius


def refined(run, i):
    """Back-substituted bounds of all values of node i."""
    node = run.net.nodes[i - 1]
    if node.kind == "linear":  # the rows are the weights: same as pushing the identity through, without the product
        top, rows = node.sources[0], node.weight
        constant, parts = run.shift(i)
        err = run.gamma(node.k_back) * (run.spread(i) + parts)
    else:
        top, rows = i, np.eye(len(run.origins[i]))
        constant = err = np.zeros(len(rows))
    low, high = np.empty(len(rows)), np.empty(len(rows))
    for at in range(0, len(rows), BLOCK):  # few enough rows at a time to stay in the cache
        part = np.s_[at : at + BLOCK]
        low[part] = Rows(run, top, rows[part], constant[part], err[part]).finish()
        high[part] = -Rows(run, top, -rows[part], -constant[part], err[part]).finish()
    slack = run.u * np.abs(run.origins[i])  # of adding the origin back
    return run.origins[i] + low - slack, run.origins[i] + high + slack


def bound_all(run):
    """Bounds of all nodes but the last (the output): back-substituted where a ReLU reads them, else intervals."""
    read_by_relu = {node.sources[0] for node in run.net.nodes if node.kind == "relu"}
    for i, node in enumerate(run.net.nodes[:-1], start=1):
        low, high = interval(run, i)
        # On the first layer the interval pass already is the back-substitution.
        if i in read_by_relu and not (node.kind == "linear" and node.sources[0] == 0):
            found = refined(run, i)
            low, high = (np.maximum(low, found[0]), np.minimum(high, found[1])) if run.intersect != "no" else found
        run.bounds.append((low, high))


def margins(net, box, label, variant, intersect="neurons"):
    """Lower bounds of "output of the label minus output j" for each j other than the label."""
    origins = evaluate(net, (box[0] + box[1]) / 2)
    if not variant.centred:
        origins = [np.zeros_like(o) for o in origins]
    run = Run(net, variant, intersect, origins, [box])
    bound_all(run)
    classes = len(net.nodes[-1].bias)
    rows = np.delete(np.eye(classes)[label] - np.eye(classes), label, axis=0)
    at_origin = rows @ origins[-1]
    return Rows(run, len(net.nodes), rows, at_origin, np.zeros(classes - 1)).finish()


# --- files ----------------------------------------------------------------------------------------------------------


def fields(data):
    """The (field number, value) pairs of a protobuf message; fixed-width values come as bytes."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        tag = varint()
        kind = tag & 7
        if kind == 0:
            yield tag >> 3, varint()
            continue
        size = {1: 8, 5: 4}[kind] if kind != 2 else varint()
        yield tag >> 3, data[at : at + size]
        at += size


def integers(pairs, number):
    """All integers of a repeated field, packed or not."""
    out = []
    for n, value in pairs:
        if n == number:
            out += [value] if isinstance(value, int) else list(value)  # packed: single-byte varints are all we meet
    return out


def read_onnx(path, shape):
    """The network of a (gzipped) ONNX file with Gemm, Conv, Relu, Add and Flatten, on an input of `shape`."""
    raw = path.read_bytes()
    graph = dict(fields(gzip.decompress(raw) if path.suffix == ".gz" else raw))[7]
    tensors, nodes, at = {}, [], None
    for number, value in fields(graph):
        if number == 5:
            pairs = list(fields(value))
            named = dict(pairs)
            data = np.frombuffer(named[9], "<f4").astype(float)
            tensors[named[8].decode()] = data.reshape([v for n, v in pairs if n == 1])
    for number, value in fields(graph):
        if number != 1:
            continue
        pairs = list(fields(value))
        inputs = [v.decode() for n, v in pairs if n == 1]
        output, op = next(v for n, v in pairs if n == 2).decode(), dict(pairs)[4].decode()
        attributes = {}
        for raw_attribute in (v for n, v in pairs if n == 5):
            parts = list(fields(raw_attribute))
            attributes[dict(parts)[1].decode()] = integers(parts, 8) or integers(parts, 3)
        if at is None:
            at = {inputs[0]: (0, shape)}
        source, here = at[inputs[0]]
        if op == "Flatten":
            at[output] = (source, (math.prod(here),))
            continue
        if op == "Gemm":
            weight = tensors[inputs[1]] if attributes.get("transB") == [1] else tensors[inputs[1]].T
            node, here = dense(weight, tensors[inputs[2]], source), (weight.shape[0],)
        elif op == "Conv":
            stride, pad = attributes["strides"][0], attributes["pads"][0]
            node, here = convolution(tensors[inputs[1]], tensors[inputs[2]], here, stride, pad, source)
        elif op in ("Relu", "Add"):
            node = Node(op.lower(), [at[name][0] for name in inputs])
        else:
            raise SystemExit(f"{path}: the model has no operator {op}")
        nodes.append(node)
        at[output] = (len(nodes), here)
    return Net(nodes)


def read_vnnlib(path):
    """The box and the label of a robustness property "some other output is at least the label's"."""
    text = gzip.decompress(path.read_bytes()).decode()
    ends = {"<=": {}, ">=": {}}
    for sign, index, value in re.findall(r"\(assert \((<=|>=) X_(\d+) ([-+.\de]+)\)\)", text):
        ends[sign][int(index)] = float(value)
    low, high = (np.array([ends[sign][i] for i in range(len(ends[sign]))]) for sign in (">=", "<="))
    rivals = re.findall(r"\((<=|>=) Y_(\d+) Y_(\d+)\)", text)
    label = {int(right) if sign == ">=" else int(left) for sign, left, right in rivals}
    if len(label) != 1:
        raise SystemExit(f"{path}: not a robustness property of one label")
    return (low, high), label.pop()


# --- tables ---------------------------------------------------------------------------------------------------------

DEPTHS = (2, 4, 6, 10, 18, 34)
WIDE = 4608


def random_net(layers, width, gain, rng):
    """A fully connected ReLU network of `layers` linear layers whose hidden layers scale a signal by `gain`."""
    nodes = []
    for i in range(layers):
        out = 10 if i + 1 == layers else width
        weight = rng.normal(0, gain * math.sqrt(2 / width), (out, width))
        nodes.append(dense(weight, rng.normal(0, 0.05, out), len(nodes)))
        if i + 1 < layers:
            nodes.append(Node("relu", [len(nodes)]))
    return Net(nodes, least_k=WIDE)


def half_radius(net, x, label, centre):
    """A radius at which the exact worst margin is about half of its value at the centre, and that margin."""
    small, large, eps = 0.0, math.inf, 0.06 / len(net.nodes)
    for _ in range(40):
        margin = margins(net, (x - eps, x + eps), label, EXACT).min()
        if 0.45 * centre <= margin <= 0.55 * centre:
            return eps, margin
        small, large = (eps, large) if margin > centre / 2 else (small, eps)
        guess = eps * 0.5 / max(1 - margin / centre, 0.05)  # the loss is nearly linear in the radius
        eps = guess if small < guess < large else (small + large) / 2 if large < math.inf else 4 * eps
    raise SystemExit("no radius found that halves the margin")


def narrow_losses(layers, gain, seed):
    """(radius, {variant: share of the exact worst margin that is lost}) of one random network at width 256."""
    rng = np.random.default_rng([layers, seed])
    net = random_net(layers, 256, gain, rng)
    best = None
    for x in rng.random((50, 256)):  # a decided row: of 50 inputs, the one with the clearest class
        y = np.sort(evaluate(net, x)[-1])
        clear = (y[-1] - y[-2]) / np.std(y)
        if best is None or clear > best[0]:
            best = clear, x
    y = evaluate(net, best[1])[-1]
    label, centre = int(y.argmax()), np.sort(y)[-1] - np.sort(y)[-2]
    eps, exact = half_radius(net, best[1], label, centre)
    box = (best[1] - eps, best[1] + eps)
    found = {name: margins(net, box, label, v).min() for name, v in VARIANTS.items()}
    return eps, {name: 1 - margin / exact for name, margin in found.items()}


class WideNet:
    """A random network at the true width, evaluated at one point. Weights are drawn again whenever they are needed."""

    def __init__(self, layers, gain, seed):
        self.seed, self.scale = seed, np.float32(gain * math.sqrt(2 / WIDE))
        rng = np.random.default_rng([seed, 0])
        self.activations = [rng.random(WIDE, dtype=np.float32)]
        for i in range(1, layers):
            self.activations.append(np.maximum(self.weight(i) @ self.activations[-1], 0))

    def weight(self, i):
        draw = np.random.default_rng([self.seed, i]).standard_normal((WIDE, WIDE), dtype=np.float32)
        return draw * self.scale

    def readout(self, i):
        """Nine difference rows over activation i - 1 and their absolute parts: the clearest of 50 random readouts."""
        x, rng, best = self.activations[i - 1], np.random.default_rng([self.seed, i, 1]), None
        for _ in range(50):
            rows = rng.standard_normal((10, WIDE), dtype=np.float32) * self.scale
            y = np.sort(rows @ x)
            clear = (y[-1] - y[-2]) / np.std(y)
            if best is None or clear > best[0]:
                best = clear, rows
        rows = best[1]
        top = int((rows @ x).argmax())
        others = np.delete(rows, top, axis=0)
        return rows[top] - others, np.abs(rows[top]) + np.abs(others)


def wide_losses(gain, seed, depths=DEPTHS):
    """{depth: {variant: lost share of the worst margin}} at the true width and radius 0, output rows only.

    At radius 0 the back-substitution is the gradient: one sweep down the net carries the rows of all depths. What the
    widened intermediate bounds add is of second order here and left out, so the loss is a floor.
    """
    net = WideNet(max(depths), gain, seed)
    live, margin, dots, slopes = {}, {}, {}, {}  # by depth: rows, margins, sums of |a| |W| m and of |a s| m
    for i in range(max(depths), 0, -1):
        x = net.activations[i - 1]
        if live:  # through the ReLU of layer i and then its matrix
            matrix, stacked = net.weight(i), np.concatenate(list(live.values())) * (net.activations[i] > 0)
            sums = np.abs(stacked) @ np.stack([np.abs(matrix) @ x, net.activations[i]], axis=1)
            parts = zip(live, np.split(stacked @ matrix, len(live)), np.split(sums, len(live)))
            for depth, rows, added in list(parts):
                live[depth], dots[depth], slopes[depth] = rows, dots[depth] + added[:, 0], slopes[depth] + added[:, 1]
        if i in depths:
            live[i], absolute = net.readout(i)
            margin[i], dots[i], slopes[i] = live[i] @ x, absolute @ x, np.zeros(9)
    losses = {}
    for depth in depths:
        worst = margin[depth].argmin()
        products = dots[depth][worst] + (np.abs(live[depth]) @ net.activations[0])[worst]
        losses[depth] = {}
        for name, variant in VARIANTS.items():
            if not variant.centred:
                d = variant.depth(WIDE) * U
                err = d / (1 - d) * products + U * slopes[depth][worst]
                losses[depth][name] = float(err / margin[depth][worst])
    return losses


def print_losses(title, rows):
    """Rows (layers, radius, {variant: loss})."""
    names = list(rows[0][2])
    print(f"\n{title}\n\n| layers | radius | " + " | ".join(names) + " |\n| --- | --- |" + " --- |" * len(names))
    for layers, radius, losses in rows:
        shown = (f"{100 * losses[n]:.2g} %" if losses[n] < 1 else f"all ({losses[n]:.2g} times)" for n in names)
        print(f"| {layers} | {radius:.2g} | " + " | ".join(shown) + " |", flush=True)


def narrow_table(depths, seeds):
    rows = []
    for layers in depths:
        runs = [narrow_losses(layers, 1.0, seed) for seed in range(seeds if layers < 34 else min(seeds, 2))]
        middle = {name: float(np.median([losses[name] for _, losses in runs])) for name in VARIANTS}
        rows.append((layers, np.median([eps for eps, _ in runs]), middle))
    title = f"Lost share of the worst margin, width 256, gain 1, K = {WIDE:,}"
    print_losses(f"{title} (median of {seeds} nets, of 2 at 34 layers)", rows)


def verified_table(title, cases, intersect):
    """Counts and mean worst margins of (network name, net, [(box, label)])."""
    names = ["exact", *VARIANTS]
    print(f"\n{title}\n\n| network | boxes | " + " | ".join(names) + " |\n| --- | --- |" + " --- |" * len(names))
    for name, net, boxes in cases:
        cells = []
        for variant in [EXACT, *VARIANTS.values()]:
            worst = [margins(net, box, label, variant, intersect).min() for box, label in boxes]
            cells.append(f"{sum(w > 0 for w in worst)}, {np.mean(worst):.5g}")
        print(f"| {name} | {len(boxes)} | " + " | ".join(cells) + " |", flush=True)


def read_idx(path):
    """An IDX file of unsigned bytes (magic 2051: N x 28 x 28 images, 2049: N labels), gzipped."""
    raw = gzip.decompress(path.read_bytes())
    magic, count = struct.unpack(">II", raw[:8])
    if magic == 2051:
        rows, columns = struct.unpack(">II", raw[8:16])
        return np.frombuffer(raw, np.uint8, offset=16).reshape(count, rows, columns)
    if magic == 2049:
        return np.frombuffer(raw, np.uint8, offset=8)
    raise SystemExit(f"{path}: magic {magic} is neither IDX images (2051) nor IDX labels (2049)")

def load(folder, part):
    """Pixels N x 28 x 28 in [0, 1] as f32 and labels N."""
    images = read_idx(folder / f"{part}-images-idx3-ubyte.gz").astype(np.float32) / np.float32(255)
    return images, read_idx(folder / f"{part}-labels-idx1-ubyte.gz").astype(np.int64)


def own_cases(data, count):
    """The networks of `data/` on the first test digits, at two radii each."""
    images, labels = load(data / "mnist10k", "test")
    for name, radii in (("standard", (0.01, 0.02)), ("robust", (0.05, 0.1))):
        net = read_onnx(data / f"mnist-{name}.onnx", (784,))
        for eps in radii:
            digits = images[:count].reshape(count, 784).astype(float)
            boxes = [((np.maximum(x - eps, 0), np.minimum(x + eps, 1)), int(y)) for x, y in zip(digits, labels)]
            yield f"mnist-{name}, {eps:g}", net, boxes


def mnist_fc_cases(folder):
    for size in (2, 4, 6):
        net = read_onnx(folder / "onnx" / f"mnist-net_256x{size}.onnx.gz", (784,))
        for eps in ("0.03", "0.05"):
            specs = [folder / "vnnlib" / f"prop_{i}_{eps}.vnnlib.gz" for i in range(15)]
            yield f"256x{size}, {eps}", net, [read_vnnlib(path) for path in specs]


def resnet_cases(folder, count):
    net = read_onnx(folder / "onnx" / "resnet_2b.onnx.gz", (3, 32, 32))
    specs = folder / "vnnlib" / "resnet2b_pgd_filtered"
    yield "resnet_2b, 2/255", net, [read_vnnlib(specs / f"prop_{i}_eps_0.008.vnnlib.gz") for i in range(count)]


def main():
    root = Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description="What soundness costs in tightness: a model in f64.")
    parser.add_argument("--shared", type=Path, default=os.environ.get("WAVEHULL_SHARED"), help="folder with vnncomp/")
    parser.add_argument("--quick", action="store_true", help="up to 10 layers, one net each, fewer boxes")
    parser.add_argument("--full", action="store_true", help="all 48 boxes of resnet_2b instead of 8 (minutes more)")
    options = parser.parse_args()
    start = time.perf_counter()
    depths = [d for d in DEPTHS if d <= 10 or not options.quick]
    narrow_table(depths, 1 if options.quick else 3)
    wide = wide_losses(1.0, 0, depths)
    title = f"The same at the true width {WIDE:,}, radius 0, output rows only (a floor)"
    print_losses(title, [(d, 0, wide[d]) for d in depths])
    own, heading = list(own_cases(root / "data", 10 if options.quick else 50)), "Verified, mean worst margin"
    verified_table(f"{heading}: this project's networks, intersection at the neurons", own, "neurons")
    verified_table(f"{heading}: the same, rows also evaluated at every layer", own, "rows")
    if options.shared is None:
        print("\nskipped: mnist_fc and resnet_2b: neither --shared nor WAVEHULL_SHARED is set")
    else:
        folder = Path(options.shared) / "vnncomp"
        cases = list(mnist_fc_cases(folder / "mnist_fc"))
        verified_table(f"{heading}: mnist_fc, no intersection", cases, "no")
        verified_table(f"{heading}: mnist_fc, intersection at the neurons", cases, "neurons")
        verified_table(f"{heading}: mnist_fc, rows also evaluated at every layer", cases, "rows")
        resnet = resnet_cases(folder / "cifar10_resnet", 48 if options.full else 8)
        verified_table(f"{heading}: cifar10_resnet, intersection at the neurons", resnet, "neurons")
    print(f"\n{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
