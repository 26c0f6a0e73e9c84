#!/usr/bin/env python3
"""Trains the two MNIST networks in `data/` and writes them as ONNX.

    python3 scripts/train_mnist.py [--only standard|robust] [--out data]

`mnist-standard.onnx` is trained the plain way. `mnist-robust.onnx` is trained with interval bound propagation (IBP:
S. Gowal et al., "On the Effectiveness of Interval Bound Propagation for Training Verifiably Robust Models", 2018): a
box of radius eps around each digit is pushed through the network, and the loss is taken on the worst logits that the
box allows. Both are fully connected, 784-128-128-128-10, with ReLU.

Needs numpy only; where onnxruntime is installed, the written files are read back and compared. One core, a few
minutes. Seeds are fixed: with the same numpy, BLAS and processor the files come out the same, elsewhere they differ
in the last bits and so, after training, by a few digits.
"""

import argparse
import gzip
import os
import struct
import time
from dataclasses import dataclass
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # before numpy: the order of summation follows the number of threads

import numpy as np  # noqa: E402

SIZES = (784, 128, 128, 128, 10)
CLASSES = SIZES[-1]
REPORT_EPS = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2)


# --- digits ---------------------------------------------------------------------------------------------------------


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


def shifted(images, largest, rng):
    """Each image moved by up to `largest` pixels each way, zeros coming in; N x 784."""
    count = len(images)
    padded = np.pad(images, ((0, 0), (largest, largest), (largest, largest)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (28, 28), axis=(1, 2))
    dy, dx = rng.integers(0, 2 * largest + 1, (2, count))
    return windows[np.arange(count), dy, dx].reshape(count, 784)


# --- the network ----------------------------------------------------------------------------------------------------


def initial_parameters(rng):
    """[W0, b0, W1, b1, ...]; He's normal initialisation."""
    parameters = []
    for fan_in, fan_out in zip(SIZES, SIZES[1:]):
        weight = rng.normal(0.0, np.sqrt(2.0 / fan_in), (fan_out, fan_in))
        parameters += [weight.astype(np.float32), np.zeros(fan_out, np.float32)]
    return parameters


def softmax_loss(logits, labels):
    """Mean cross entropy, and its gradient on the logits."""
    rows = np.arange(len(labels))
    shifted_logits = logits - logits.max(1, keepdims=True)
    log_p = shifted_logits - np.log(np.exp(shifted_logits).sum(1, keepdims=True))
    gradient = np.exp(log_p)
    gradient[rows, labels] -= 1
    return -log_p[rows, labels].mean(), gradient / np.float32(len(labels))


def logits_of(parameters, x):
    """Plain evaluation, N x 10."""
    for i in range(0, len(parameters), 2):
        x = x @ parameters[i].T + parameters[i + 1]
        if i + 2 < len(parameters):
            x = np.maximum(x, 0)
    return x


def clean_step(parameters, x, labels):
    """Cross entropy of the digits themselves: (loss, gradients)."""
    inputs, masks = [], []
    for i in range(0, len(parameters), 2):
        inputs.append(x)
        x = x @ parameters[i].T + parameters[i + 1]
        if i + 2 < len(parameters):
            masks.append(x > 0)
            x = x * masks[-1]
    loss, g = softmax_loss(x, labels)
    gradients = []
    for layer in reversed(range(len(inputs))):
        gradients = [g.T @ inputs[layer], g.sum(0)] + gradients
        if layer > 0:
            g = (g @ parameters[2 * layer]) * masks[layer - 1]
    return loss, gradients


def box_of(x, eps):
    """Centre and radius of the pixels within eps of x, cut to [0, 1]."""
    low, high = np.maximum(x - eps, 0), np.minimum(x + eps, 1)
    return (high + low) / 2, (high - low) / 2


def difference_rows(weight, bias):
    """Rows "logit j minus logit y" for all y and j: (100 x n weights, 100 biases), row 10 y + j."""
    rows = (weight[None, :, :] - weight[:, None, :]).reshape(CLASSES * CLASSES, -1)
    return rows, (bias[None, :] - bias[:, None]).reshape(-1)


def interval_hidden(parameters, centre, radius):
    """IBP through the hidden layers: what the backward pass needs, and the last centre and radius."""
    trace = []
    for i in range(0, len(parameters) - 2, 2):
        weight, bias = parameters[i], parameters[i + 1]
        middle, spread = centre @ weight.T + bias, radius @ np.abs(weight).T
        low, high = middle - spread, middle + spread
        trace.append((centre, radius, low > 0, high > 0))
        low, high = np.maximum(low, 0), np.maximum(high, 0)
        centre, radius = (high + low) / 2, (high - low) / 2
    return trace, centre, radius


def worst_logits(parameters, centre, radius, labels):
    """Upper bounds of "logit j minus logit of the label" over the box, N x 10 (0 at the label)."""
    rows, offsets = difference_rows(parameters[-2], parameters[-1])
    upper = centre @ rows.T + offsets + radius @ np.abs(rows).T
    return upper.reshape(-1, CLASSES, CLASSES)[np.arange(len(labels)), labels]


def interval_step(parameters, x, labels, eps):
    """Cross entropy of the worst logits within eps: (loss, gradients)."""
    trace, centre, radius = interval_hidden(parameters, *box_of(x, eps))
    loss, g = softmax_loss(worst_logits(parameters, centre, radius, labels), labels)

    # Last layer: scatter the gradient to the row block of each digit's label.
    rows, _ = difference_rows(parameters[-2], parameters[-1])
    spread_out = np.zeros((len(labels), CLASSES, CLASSES), np.float32)
    spread_out[np.arange(len(labels)), labels] = g
    spread_out = spread_out.reshape(len(labels), -1)
    g_rows = (spread_out.T @ centre + np.sign(rows) * (spread_out.T @ radius)).reshape(CLASSES, CLASSES, -1)
    g_offsets = spread_out.sum(0).reshape(CLASSES, CLASSES)
    gradients = [g_rows.sum(0) - g_rows.sum(1), g_offsets.sum(0) - g_offsets.sum(1)]
    g_centre, g_radius = spread_out @ rows, spread_out @ np.abs(rows)

    for layer in reversed(range(len(trace))):
        centre, radius, low_on, high_on = trace[layer]
        weight = parameters[2 * layer]
        g_low, g_high = (g_centre - g_radius) / 2 * low_on, (g_centre + g_radius) / 2 * high_on
        g_middle, g_spread = g_low + g_high, g_high - g_low
        gradients = [g_middle.T @ centre + np.sign(weight) * (g_spread.T @ radius), g_middle.sum(0)] + gradients
        g_centre, g_radius = g_middle @ weight, g_spread @ np.abs(weight)
    return loss, gradients


def accuracy(parameters, x, labels):
    return float((logits_of(parameters, x).argmax(1) == labels).mean())


def certified(parameters, x, labels, eps):
    """Share of digits that IBP proves (in f32 without error terms: a training figure, not a proof)."""
    _, centre, radius = interval_hidden(parameters, *box_of(x, np.float32(eps)))
    worst = worst_logits(parameters, centre, radius, labels)
    worst[np.arange(len(labels)), labels] = -np.inf
    return float((worst.max(1) < 0).mean())


# --- training -------------------------------------------------------------------------------------------------------


@dataclass
class Recipe:
    """How one network is trained. eps 0 means plain training."""

    seed: int
    epochs: int
    rate: float
    decay: float  # of the weights, decoupled, a step, times the rate
    shift: int  # pixels of augmentation
    eps: float = 0.0
    warm_up: int = 0  # epochs at eps 0
    ramp: int = 0  # epochs in which eps grows to its full size
    clean_share: float = 0.5  # of the loss, once eps is at its full size
    batch: int = 100


RECIPES = {
    "standard": Recipe(seed=1, epochs=120, rate=1e-3, decay=0.02, shift=2),
    "robust": Recipe(seed=2, epochs=500, rate=1e-3, decay=0.0, shift=1, eps=0.12, warm_up=5, ramp=200),
}


class Adam:
    """Adam (Kingma & Ba 2015) with decoupled weight decay on the matrices."""

    def __init__(self, parameters, decay):
        self.first = [np.zeros_like(p) for p in parameters]
        self.second = [np.zeros_like(p) for p in parameters]
        self.decay, self.steps = decay, 0

    def step(self, parameters, gradients, rate):
        self.steps += 1
        scale = np.float32(rate * np.sqrt(1 - 0.999**self.steps) / (1 - 0.9**self.steps))
        for p, g, m, v in zip(parameters, gradients, self.first, self.second):
            m += np.float32(0.1) * (g - m)
            v += np.float32(0.001) * (g * g - v)
            if p.ndim == 2 and self.decay:
                p -= np.float32(rate * self.decay) * p
            p -= scale * m / (np.sqrt(v) + np.float32(1e-8))


def gradients_of(parameters, x, labels, eps, clean_share):
    """Loss clean_share * clean + (1 - clean_share) * worst case, and its gradients."""
    loss, gradients = clean_step(parameters, x, labels)
    if eps == 0:
        return loss, gradients
    worst, more = interval_step(parameters, x, labels, np.float32(eps))
    share = np.float32(clean_share)
    return share * loss + (1 - share) * worst, [share * a + (1 - share) * b for a, b in zip(gradients, more)]


def train(recipe, images, labels, progress):
    """The parameters after all epochs."""
    rng = np.random.default_rng(recipe.seed)
    parameters = initial_parameters(rng)
    adam = Adam(parameters, recipe.decay)
    batches = len(labels) // recipe.batch
    for epoch in range(recipe.epochs):
        x, order = shifted(images, recipe.shift, rng), rng.permutation(len(labels))
        total = 0.0
        for k in range(batches):
            now = epoch + k / batches
            grown = min(max((now - recipe.warm_up) / recipe.ramp, 0.0), 1.0) if recipe.ramp else 0.0
            share = 1 - (1 - recipe.clean_share) * grown
            flat_until = recipe.warm_up + recipe.ramp
            cooled = max(now - flat_until, 0.0) / (recipe.epochs - flat_until)
            rate = recipe.rate * (0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * cooled)))
            pick = order[k * recipe.batch : (k + 1) * recipe.batch]
            loss, gradients = gradients_of(parameters, x[pick], labels[pick], recipe.eps * grown, share)
            adam.step(parameters, gradients, rate)
            total += float(loss)
        if progress and (epoch + 1) % 20 == 0:
            print(f"  epoch {epoch + 1:3d} of {recipe.epochs}: loss {total / batches:.4f}", flush=True)
    return parameters


# --- ONNX -----------------------------------------------------------------------------------------------------------
# A protobuf message is a list of (field number, value): an int is a varint, bytes and str are length-delimited. Field
# numbers are those of onnx/onnx.proto.


def varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def message(*fields):
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
        else:
            data = value.encode() if isinstance(value, str) else value
            out += varint(number << 3 | 2) + varint(len(data)) + data
    return out


def tensor(name, array):
    dims = [(1, d) for d in array.shape]
    return message(*dims, (2, 1), (8, name), (9, array.astype("<f4").tobytes()))  # data_type 1: FLOAT


def value_info(name, shape):
    dims = [(1, message((2, d) if isinstance(d, str) else (1, d))) for d in shape]
    return message((1, name), (2, message((1, message((1, 1), (2, message(*dims)))))))


def node(op, inputs, output, **attributes):
    described = [(5, message((1, key), (3, value), (20, 2))) for key, value in attributes.items()]  # type 2: INT
    return message(*[(1, name) for name in inputs], (2, output), (3, output), (4, op), *described)


def onnx_bytes(parameters, doc):
    """The network as an ONNX model, opset 13: `pixels` [N,1,28,28], Flatten, Gemm and Relu, `logits` [N,10]."""
    layers = len(parameters) // 2
    nodes, weights, here = [(1, node("Flatten", ["pixels"], "flat", axis=1))], [], "flat"
    for i in range(layers):
        names = [f"layer{i + 1}.weight", f"layer{i + 1}.bias"]
        weights += [(5, tensor(name, p)) for name, p in zip(names, parameters[2 * i : 2 * i + 2])]
        out = "logits" if i + 1 == layers else f"layer{i + 1}"
        nodes.append((1, node("Gemm", [here, *names], out, transB=1)))
        if i + 1 < layers:
            nodes.append((1, node("Relu", [out], f"{out}.relu")))
            here = f"{out}.relu"
    ends = [(11, value_info("pixels", ["N", 1, 28, 28])), (12, value_info("logits", ["N", CLASSES]))]
    graph = message(*nodes, (2, "mnist"), *weights, *ends)
    opset = message((1, ""), (2, 13))
    return message((1, 7), (2, "wavehull scripts/train_mnist.py"), (6, doc), (7, graph), (8, opset))


def read_back(path, parameters, images):
    """Compares onnxruntime's evaluation of the written file with ours."""
    try:
        import onnxruntime
    except ImportError:
        print("  not read back: onnxruntime is not installed")
        return
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    run = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    theirs = run.run(None, {"pixels": images[:, None]})[0]
    ours = logits_of(parameters, images.reshape(len(images), 784))
    exact = logits_of([p.astype(np.float64) for p in parameters], images.reshape(len(images), 784).astype(np.float64))
    same = int((theirs.argmax(1) == exact.argmax(1)).sum())
    print(f"  onnxruntime {onnxruntime.__version__}: {same} of {len(images)} digits get the same class as in f64;")
    far = np.abs(theirs - exact).max(), np.abs(ours - exact).max()
    print(f"  largest difference of a logit from f64 {far[0]:.2e} (numpy f32: {far[1]:.2e})")
    if same != len(images):
        raise SystemExit(f"{path}: onnxruntime disagrees with the trained network")


# --- the program ----------------------------------------------------------------------------------------------------


def main():
    root = Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description="Trains data/mnist-standard.onnx and data/mnist-robust.onnx.")
    parser.add_argument("--digits", type=Path, default=root / "data" / "mnist10k", help="folder of the IDX files")
    parser.add_argument("--out", type=Path, default=root / "data", help="folder for the .onnx files")
    parser.add_argument("--only", choices=sorted(RECIPES), help="train one of the two")
    parser.add_argument("--quiet", action="store_true", help="no line every 20 epochs")
    options = parser.parse_args()
    images, labels = load(options.digits, "train")
    test_images, test_labels = load(options.digits, "test")
    test = test_images.reshape(len(test_labels), 784)
    for name in [options.only] if options.only else ["standard", "robust"]:
        recipe = RECIPES[name]
        start = time.perf_counter()
        print(f"{name}: {recipe}")
        parameters = train(recipe, images, labels, not options.quiet)
        count = sum(p.size for p in parameters)
        print(f"  {count} parameters, {time.perf_counter() - start:.0f} s")
        print(f"  train accuracy {100 * accuracy(parameters, images.reshape(len(labels), 784), labels):.2f} %")
        print(f"  test accuracy {100 * accuracy(parameters, test, test_labels):.2f} %")
        shares = (f"{eps:g}: {100 * certified(parameters, test, test_labels, eps):.2f} %" for eps in REPORT_EPS)
        print("  certified by IBP on the test digits, by eps: " + ", ".join(shares))
        path = options.out / f"mnist-{name}.onnx"
        path.write_bytes(onnx_bytes(parameters, f"MNIST, fully connected, {name} training"))
        print(f"  wrote {path.name}, {path.stat().st_size} bytes")
        read_back(path, parameters, test_images)


if __name__ == "__main__":
    main()
