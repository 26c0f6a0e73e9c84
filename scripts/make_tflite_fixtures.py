#!/usr/bin/env python3
"""Makes tests/fixtures/tflite/: what TFLite's reference kernels compute, for tests/pack_integer.rs.

    pip install ai-edge-litert==2.3.0 numpy flatbuffers
    python3 scripts/make_tflite_fixtures.py FOLDER

FOLDER has the MLPerf Tiny networks (shared/data/tinyml) and the recording for ad01. Written are small.tflite, dense.tflite, pads.tflite and
ends.tflite, networks of random weights with every operator that is read, and hashes.txt: for each network, kind of input and
tensor the FNV-1a hash (64 bits) of its codes over all samples. Kernels are those of the reference resolver, without delegates.

Inputs (the test makes the same ones):
  random  code i of sample s: the top byte of mix(s 2^20 + i), mix as below
  smooth  at (y, x, c) of sample s: a triangle wave along each axis and 2 bits of noise
  real    rows of 640 numbers of the recording, from frames 0, 24, 48, .. on, as round(x / scale) + zero point
"""
import functools
import os
import sys

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "fixtures", "tflite")
NETWORKS = ["ad01_int8", "kws_ref_model", "pretrainedResnet_large_int8", "pretrainedResnet_quant", "str_ww_ref_model", "vww_96_int8"]
SAMPLES = 3


def mix(n):
    """A hash of 32 bits (Chris Wellons, lowbias32)."""
    n = n.astype(np.uint32)
    n = (n ^ (n >> np.uint32(16))) * np.uint32(0x7FEB352D)
    n = (n ^ (n >> np.uint32(15))) * np.uint32(0x846CA68B)
    return n ^ (n >> np.uint32(16))


def random_input(shape, s):
    n = int(np.prod(shape))
    return (mix(np.arange(n, dtype=np.uint64) + (s << 20)) >> np.uint32(24)).astype(np.uint8).view(np.int8).reshape(shape)


def wave(n):
    """0, 1, .. 127, 127, .. 0 and again."""
    n = n & 255
    return np.where(n < 128, n, 255 - n)


def smooth_input(shape, s):
    h, w, c = shape
    y, x, c = np.meshgrid(np.arange(h), np.arange(w), np.arange(c), indexing="ij")
    noise = mix(((y * w + x) * shape[2] + c + (s << 20)).ravel()).reshape(shape) >> np.uint32(30)
    v = wave(y * 5 + s * 40) + wave(x * 3 + c * 20 + s * 11) - 128 + noise.astype(np.int64)
    return np.clip(v, -128, 127).astype(np.int8)


def fnv(data):
    h = 0xCBF29CE484222325
    for byte in data:
        h = (h ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return h


def shape3(shape):
    shape = [int(n) for n in shape]
    return shape[1:] if len(shape) == 4 else [1] * (4 - len(shape)) + shape[1:]


def run(name, path, out, recording=None):
    it = Interpreter(path, experimental_op_resolver_type=OpResolverType.BUILTIN_REF, experimental_preserve_all_tensors=True)
    it.allocate_tensors()
    given = it.get_input_details()[0]
    shape = shape3(given["shape"])
    kinds = {"random": [random_input(shape, s) for s in range(SAMPLES)], "smooth": [smooth_input(shape, s) for s in range(SAMPLES)]}
    if recording is not None:
        scale, zero = given["quantization"]
        rows = [recording[24 * s:24 * s + 5].reshape(-1).astype(np.float64) for s in range(8)]
        kinds["real"] = [np.clip(np.round(row / scale) + zero, -128, 127).astype(np.int8) for row in rows]
    for kind, samples in kinds.items():
        codes = {}
        for sample in samples:
            if given["dtype"] is np.float32:  # numbers that the first operator makes these codes of
                first = it._get_tensor_details(graph_of(path).operators[0].outputs[0], 0)["quantization"]
                sample = (sample.astype(np.float32) - np.float32(first[1])) * np.float32(first[0])
            it.set_tensor(given["index"], sample.reshape(given["shape"]))
            it.invoke()
            for t in it.get_tensor_details():
                if t["dtype"] is np.int8 and t["index"] in computed(path):
                    codes.setdefault(t["index"], []).append(it.get_tensor(t["index"]).tobytes())
        for index in sorted(codes):
            out.write(f"{name} {kind} {len(samples)} {index} {fnv(b''.join(codes[index])):016x}\n")
        print(name, kind, len(codes), "tensors")


@functools.cache
def graph_of(path):
    with open(path, "rb") as file:
        return schema.ModelT.InitFromPackedBuf(file.read(), 0).subgraphs[0]


@functools.cache
def computed(path):
    """Tensors that are given or computed."""
    graph = graph_of(path)
    return set(int(t) for t in graph.inputs) | set(int(t) for op in graph.operators for t in op.outputs)


class Builder:
    """A network of random weights."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.model, self.graph = schema.ModelT(), schema.SubGraphT()
        self.model.version, self.model.description = 3, "random weights, for tests of wavehull"
        self.model.subgraphs, self.model.operatorCodes = [self.graph], []
        self.model.buffers = [schema.BufferT()]
        self.graph.tensors, self.graph.operators = [], []

    def tensor(self, name, shape, scale, zero=0, data=None, kind=schema.TensorType.INT8, axis=0):
        t, q = schema.TensorT(), schema.QuantizationParametersT()
        t.name, t.shape, t.type, t.buffer = name, [int(n) for n in shape], kind, 0
        scales = np.atleast_1d(scale).astype(np.float32) if scale is not None else []
        q.scale, q.zeroPoint, q.quantizedDimension = list(scales), [zero] * len(scales), axis
        t.quantization = q
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = list(np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8))
            self.model.buffers.append(buffer)
            t.buffer = len(self.model.buffers) - 1
        self.graph.tensors.append(t)
        return len(self.graph.tensors) - 1

    def ints(self, values, kind=np.int32):
        values = np.array(values, kind)
        return self.tensor("numbers", values.shape, None, data=values, kind=schema.TensorType.INT32)

    def op(self, code, inputs, outputs, kind=0, options=None):
        codes = [c.builtinCode for c in self.model.operatorCodes]
        if code not in codes:
            c = schema.OperatorCodeT()
            c.builtinCode, c.deprecatedBuiltinCode, c.version = code, min(code, 127), 5 if code in (3, 4, 9) else 1 if code == 22 else 2
            self.model.operatorCodes.append(c)
            codes.append(code)
        o = schema.OperatorT()
        o.opcodeIndex, o.inputs, o.outputs = codes.index(code), inputs, outputs
        o.builtinOptionsType, o.builtinOptions = kind, options
        self.graph.operators.append(o)
        return outputs[0]

    def weights(self, shape, axis, channels=True):
        n = shape[axis]
        scale = self.rng.uniform(0.002, 0.02, n if channels else 1)
        return self.tensor("weights", shape, scale, 0, self.rng.integers(-127, 128, shape).astype(np.int8), axis=axis)

    def bias(self, n):
        data = self.rng.integers(-3000, 3000, n).astype(np.int32)
        return self.tensor("bias", [n], None, data=data, kind=schema.TensorType.INT32)

    def window(self, x, out, kernel, stride, dilation, padding, activation, name, groups=1, multiplier=None, channels=True, scale=0.3, zero=-20):
        """A convolution to a map of `out` channels, or a depthwise one with a multiplier."""
        h, w, c = self.graph.tensors[x].shape[1:]
        reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation)]
        oh, ow = [(n + s - 1) // s if padding == 0 else (n - r) // s + 1 for n, r, s in zip((h, w), reach, stride)]
        if multiplier:
            out, options, code, kind = c * multiplier, schema.DepthwiseConv2DOptionsT(), 4, schema.BuiltinOptions.DepthwiseConv2DOptions
            options.depthMultiplier = multiplier
            weights = self.weights([1, *kernel, out], 3, channels)
        else:
            options, code, kind = schema.Conv2DOptionsT(), 3, schema.BuiltinOptions.Conv2DOptions
            weights = self.weights([out, *kernel, c // groups], 0, channels)
        options.padding, options.strideH, options.strideW = padding, *stride
        options.dilationHFactor, options.dilationWFactor = dilation
        options.fusedActivationFunction = activation
        y = self.tensor(name, [1, oh, ow, out], scale, zero)
        return self.op(code, [x, weights, self.bias(out)], [y], kind, options)

    def simple(self, code, inputs, name, shape, scale, zero, kind=0, options=None):
        return self.op(code, inputs, [self.tensor(name, shape, scale, zero)], kind, options)

    def pool(self, x, code, kernel, stride, padding, name):
        h, w, c = self.graph.tensors[x].shape[1:]
        oh, ow = [(n + s - 1) // s if padding == 0 else (n - k) // s + 1 for n, k, s in zip((h, w), kernel, stride)]
        options = schema.Pool2DOptionsT()
        options.padding, options.strideH, options.strideW = padding, *stride
        options.filterHeight, options.filterWidth = kernel
        q = self.graph.tensors[x].quantization
        return self.simple(code, [x], name, [1, oh, ow, c], q.scale, q.zeroPoint[0], schema.BuiltinOptions.Pool2DOptions, options)

    def dense(self, x, n, name, depth, rows=1, activation=0, channels=False, scale=0.4, zero=7):
        options = schema.FullyConnectedOptionsT()
        options.fusedActivationFunction = activation
        weights = self.weights([n, depth], 0, channels)
        return self.simple(9, [x, weights, self.bias(n)], name, [rows, n], scale, zero, schema.BuiltinOptions.FullyConnectedOptions, options)

    def write(self, name, inputs, outputs):
        self.graph.inputs, self.graph.outputs = inputs, outputs
        b = flatbuffers.Builder(1024)
        b.Finish(self.model.Pack(b), b"TFL3")
        path = os.path.join(HERE, name + ".tflite")
        with open(path, "wb") as file:
            file.write(bytes(b.Output()))
        return path


def fused(options, activation):
    options.fusedActivationFunction = activation
    return options


def small():
    """Convolutions of every kind, sums, products, pools, curves."""
    b, options = Builder(1), schema.BuiltinOptions
    x = b.tensor("input", [1, 13, 11, 5], 0.05, 3)
    c1 = b.window(x, 6, (3, 3), (1, 1), (1, 1), 0, 3, "conv relu6", scale=0.03, zero=-128)
    c2 = b.window(c1, 7, (3, 2), (2, 1), (1, 2), 0, 0, "conv dilated", scale=0.05, zero=4)
    g = b.window(c1, 9, (3, 3), (2, 1), (1, 1), 0, 1, "conv groups", groups=3, scale=0.02, zero=-30)
    d1 = b.window(c2, 0, (3, 3), (1, 1), (1, 1), 0, 0, "depthwise", multiplier=1, scale=0.06, zero=-2)
    d3 = b.window(c2, 0, (2, 3), (1, 1), (2, 1), 0, 2, "depthwise of 3", multiplier=3, scale=0.011, zero=15)
    one = b.window(d3, 7, (1, 1), (1, 1), (1, 1), 1, 0, "conv of one scale", channels=False, scale=0.02, zero=-7)
    a = b.simple(0, [one, d1], "sum", [1, 7, 11, 7], 0.07, 11, options.AddOptions, fused(schema.AddOptionsT(), 1))
    row = b.tensor("row", [7], 0.02, -5, b.rng.integers(-128, 128, 7).astype(np.int8))
    a = b.simple(0, [a, row], "sum with a row", [1, 7, 11, 7], 0.09, -4, options.AddOptions, fused(schema.AddOptionsT(), 0))
    m = b.simple(18, [a, d1], "product", [1, 7, 11, 7], 0.2, 9, options.MulOptions, fused(schema.MulOptionsT(), 0))
    half = b.tensor("half", [1], 0.004, 0, np.array([125], np.int8))
    m = b.simple(18, [m, half], "half", [1, 7, 11, 7], 0.1, -9, options.MulOptions, fused(schema.MulOptionsT(), 0))
    p1 = b.pool(m, 1, (3, 2), (2, 2), 0, "average pool")
    p2 = b.pool(m, 17, (2, 3), (2, 2), 0, "max pool")
    s = b.simple(0, [p1, p2], "sum of pools", [1, 4, 6, 7], 0.11, 0, options.AddOptions, fused(schema.AddOptionsT(), 0))
    e = b.simple(14, [s], "logistic", [1, 4, 6, 7], 1 / 256, -128, options.NONE)
    t = b.simple(28, [s], "tanh", [1, 4, 6, 7], 1 / 128, 0, options.NONE)
    r = b.simple(19, [s], "relu", [1, 4, 6, 7], 0.1, -60, options.NONE)
    r6 = b.simple(21, [s], "relu6", [1, 4, 6, 7], 6 / 255, -128, options.NONE)
    q = b.simple(114, [r], "requantised", [1, 4, 6, 7], 1 / 128, 0, options.QuantizeOptions, schema.QuantizeOptionsT())
    concat = schema.ConcatenationOptionsT()
    concat.axis = 3
    j = b.simple(2, [t, q, t], "concatenated", [1, 4, 6, 21], 1 / 128, 0, options.ConcatenationOptions, concat)
    return b.write("small", [x], [e, r6, j, g, b.dense(j, 5, "dense of a map", 504, activation=1)])


def dense():
    """Dense layers per channel, of every place and of the whole map, with softmax."""
    b, options = Builder(2), schema.BuiltinOptions
    x = b.tensor("input", [1, 6, 3, 3], 0.05, -9)
    flat = b.simple(22, [x, b.ints([1, 54])], "flat", [1, 54], 0.05, -9, options.ReshapeOptions, schema.ReshapeOptionsT())
    y = b.dense(flat, 70, "dense per channel", 54, activation=3, channels=True, scale=0.02, zero=-100)
    z = b.dense(y, 270, "dense", 70, scale=0.05, zero=5)
    places = b.simple(22, [z, b.ints([1, 9, 30])], "places", [1, 9, 30], 0.05, 5, options.ReshapeOptions, schema.ReshapeOptionsT())
    rows = b.dense(places, 11, "dense of every place", 30, rows=9, scale=0.04, zero=-3)
    s = schema.SoftmaxOptionsT()
    s.beta = 1.0
    back = b.simple(22, [rows, b.ints([1, 9, 11])], "rows", [1, 9, 11], 0.04, -3, options.ReshapeOptions, schema.ReshapeOptionsT())
    first = b.simple(25, [back], "softmax of rows", [1, 9, 11], 1 / 256, -128, options.SoftmaxOptions, s)
    s = schema.SoftmaxOptionsT()
    s.beta = 0.7
    last = b.simple(25, [z], "softmax", [1, 270], 1 / 256, -128, options.SoftmaxOptions, s)
    return b.write("dense", [x], [first, last])


def pads():
    """Padding, concatenation along an axis of places, means."""
    b, options = Builder(3), schema.BuiltinOptions
    x = b.tensor("input", [1, 5, 7, 3], 0.02, 11)
    p = b.simple(34, [x, b.ints([[0, 0], [1, 2], [0, 3], [2, 1]])], "padded", [1, 8, 10, 6], 0.02, 11, options.PadOptions, schema.PadOptionsT())
    c = b.window(p, 6, (3, 3), (2, 2), (1, 1), 1, 1, "conv", scale=0.02, zero=11)
    concat = schema.ConcatenationOptionsT()
    concat.axis = 1
    j = b.simple(2, [c, c], "twice", [1, 6, 4, 6], 0.02, 11, options.ConcatenationOptions, concat)
    keep = schema.ReducerOptionsT()
    keep.keepDims = True
    m = b.simple(40, [j, b.ints([1, 2])], "mean", [1, 1, 1, 6], 0.013, -4, options.ReducerOptions, keep)
    same = b.simple(40, [j, b.ints([1, 2])], "mean of the same scale", [1, 6], 0.02, 11, options.ReducerOptions, schema.ReducerOptionsT())
    s = b.simple(18, [j, m], "excited", [1, 6, 4, 6], 0.01, 0, options.MulOptions, fused(schema.MulOptionsT(), 0))
    return b.write("pads", [x], [s, same])


def ends():
    """A float input and output around int8 codes."""
    b, options = Builder(4), schema.BuiltinOptions
    x = b.tensor("numbers", [1, 6, 5, 3], None, kind=schema.TensorType.FLOAT32)
    q = b.simple(114, [x], "input", [1, 6, 5, 3], 0.25, -7, options.QuantizeOptions, schema.QuantizeOptionsT())
    c = b.window(q, 9, (3, 3), (2, 2), (1, 1), 1, 1, "conv", scale=0.6, zero=-128)
    y = b.tensor("result", [1, 2, 2, 9], None, kind=schema.TensorType.FLOAT32)
    b.op(6, [c], [y], options.DequantizeOptions, schema.DequantizeOptionsT())
    return b.write("ends", [x], [y])


def main():
    folder = sys.argv[1]
    os.makedirs(HERE, exist_ok=True)
    with open(os.path.join(HERE, "hashes.txt"), "w") as out:
        out.write("# network, kind of input, samples, tensor in the file, FNV-1a of its codes; by scripts/make_tflite_fixtures.py\n")
        for make in (small, dense, pads, ends):
            path = make()
            run(make.__name__, path, out)
        recording = np.fromfile(os.path.join(folder, "normal_id_01_00000000_hist_librosa.bin"), np.float32).reshape(200, 128)
        for name in NETWORKS:
            run(name, os.path.join(folder, name + ".tflite"), out, recording if name == "ad01_int8" else None)


if __name__ == "__main__":
    main()
