#!/usr/bin/env python3
"""Makes tests/fixtures/quantised: a small network as onnxruntime's tools quantise it, and what it stores.

    python3 scripts/make_quantised_fixtures.py

Each NAME.onnx has a NAME.npz for `wavehull::pack::input`, whose arrays were made here with numpy and onnxruntime alone:
`w/LAYER` are the stored weights (code less zero point modulo 256, unsigned if the zero point is the smallest code; depthwise
as one filter of all channels), `a/LAYER.input`, `a/LAYER.output` the stored maps of sample.npy. Sums of f32 beside a tie may
fall on its other side: maps computed otherwise may differ by a step here and there.

Needs onnx, onnxruntime and numpy.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import quantization as q

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "quantised"
rng = np.random.default_rng(5)
node = helper.make_node


def normal(*shape):
    return rng.normal(0, 1 / np.sqrt(np.prod(shape[1:]) or 1), shape).astype(np.float32)


def save(nodes, constants, shape, result, opset=21, kind=TensorProto.FLOAT):
    tensors = [c if isinstance(c, onnx.TensorProto) else numpy_helper.from_array(c, n) for n, c in constants.items()]
    x, y = (helper.make_tensor_value_info(n, kind, s) for n, s in (("x", shape), ("y", result)))
    made = helper.make_model(helper.make_graph(nodes, "quantised", [x], [y], tensors),
                             opset_imports=[helper.make_opsetid("", opset)])
    made.ir_version = 10
    onnx.checker.check_model(made)
    return made


def network():
    """A convolution, a depthwise one, a pool and two dense layers."""
    return save([
        node("Conv", ["x", "w0", "b0"], ["c0"], name="first", pads=[1, 1, 1, 1]),
        node("Relu", ["c0"], ["r0"]),
        node("Conv", ["r0", "w1", "b1"], ["c1"], name="depthwise", group=6, strides=[2, 2], pads=[0, 1, 1, 0]),
        node("Relu", ["c1"], ["r1"]),
        node("MaxPool", ["r1"], ["m1"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", ["m1"], ["f1"]),
        node("MatMul", ["f1", "w2"], ["d2"], name="product"),
        node("Relu", ["d2"], ["r2"]),
        node("MatMul", ["r2", "w3"], ["y"], name="last"),
    ], {"w0": normal(6, 3, 3, 3), "b0": normal(6), "w1": normal(6, 1, 2, 3), "b1": normal(6),
        "w2": normal(24, 10), "w3": normal(10, 5)}, [1, 3, 8, 9], [1, 5], opset=13)  # fmt: skip


class Reader(q.CalibrationDataReader):
    def __init__(self, samples):
        self.rest = [{"x": s[None]} for s in samples]

    def get_next(self):
        return self.rest.pop() if self.rest else None


def centre(codes, zero):
    """Code less zero point modulo the container; unsigned if the zero point is the smallest code."""
    bits = 8 * codes.dtype.itemsize
    least = np.iinfo(codes.dtype).min
    steps = codes.astype(np.int64) - np.asarray(zero).astype(np.int64)
    if bits == 8 and np.all(np.asarray(zero) == least):
        return (steps & 255).astype(np.uint8)
    return ((steps + (1 << (bits - 1))) % (1 << bits) - (1 << (bits - 1))).astype(f"int{bits}")


def weights(array, op, group):
    if array.ndim == 2:
        return array.T[:, None, None, :] if op == "MatMul" else array[:, None, None, :]
    if group > 1 and array.shape[1] == 1:
        return array[:, 0].transpose(1, 2, 0)[None]
    return array.transpose(0, 2, 3, 1)


def maps(array):
    return array[0].transpose(1, 2, 0) if array.ndim == 4 else array.reshape(-1, 1, array.shape[-1])


def spread(zero, rank, axis):
    """A zero point for each index of an axis."""
    zero = np.asarray(zero)
    return zero.reshape([-1 if i == axis % rank else 1 for i in range(rank)]) if zero.size > 1 else zero.reshape(())


def stored(made, sample):
    """What each layer of a quantised network stores."""
    graph = made.graph
    constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    source = {o: n for n in graph.node for o in n.output}
    readers = {}
    for n in graph.node:
        for i in n.input:
            readers.setdefault(i, []).append(n)
    wide = onnx.ModelProto.FromString(made.SerializeToString())
    have = {o.name for o in graph.output}
    kinds = {"QuantizeLinear", "QLinearConv", "QLinearMatMul", "MaxPool", "Reshape", "Flatten", "DynamicQuantizeLinear"}
    extra = [o for n in graph.node if n.op_type in kinds for o in n.output if o not in have]
    for name in extra:
        wide.graph.output.append(helper.make_empty_tensor_value_info(name))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(wide.SerializeToString(), options)
    names = [o.name for o in session.get_outputs()]
    values = dict(zip(names, session.run(names, {"x": sample})))
    out = {}
    for n in graph.node:
        op = n.op_type.removeprefix("QLinear").removesuffix("Integer")
        if op not in ("Conv", "MatMul", "Gemm"):
            continue
        group = next((a.i for a in n.attribute if a.name == "group"), 1)
        axis = 0 if op == "Conv" else -1
        name = n.name.removesuffix("_quant")
        if n.op_type.startswith("QLinear"):
            code, zero = constants[n.input[3]], constants[n.input[5]]
            out[f"a/{name}.input"] = maps(centre(values[n.input[0]], constants[n.input[2]]))
            out[f"a/{name}.output"] = maps(centre(values[n.output[0]], constants[n.input[7]]))
        elif n.op_type.endswith("Integer"):
            code, zero = constants[n.input[1]], constants[n.input[3]]
        else:
            dq = source[n.input[1]]
            code, zero = constants[dq.input[0]], constants[dq.input[2]]
            dq = source[n.input[0]]
            out[f"a/{name}.input"] = maps(centre(values[dq.input[0]], constants[dq.input[2]]))
            end = readers[n.output[0]][0]
            end = readers[end.output[0]][0] if end.op_type == "Relu" else end
            if end.op_type == "QuantizeLinear":
                out[f"a/{name}.output"] = maps(centre(values[end.output[0]], constants[end.input[2]]))
        out[f"w/{name}"] = weights(centre(code, spread(zero, code.ndim, axis)), op, group)
    return out


def hand_made():
    """Blocks of four bits, unsigned weights in 4 and 8 bits, weights that the network itself quantises; fp16; an operator that is not read."""
    w0 = rng.integers(-8, 8, (4, 10)).astype(np.int64)
    w1 = rng.integers(0, 16, (6, 4)).astype(np.int64)
    w2 = rng.normal(0, 0.5, (5, 6)).astype(np.float32)
    scale2 = (np.abs(w2).max(1) / 127).astype(np.float32)
    made = save([
        node("DequantizeLinear", ["w0", "s0", "z0"], ["w0f"], axis=1, block_size=4),
        node("Gemm", ["x", "w0f"], ["h0"], name="blocks", transB=1),
        node("DequantizeLinear", ["w1", "s1", "z1"], ["w1f"], axis=0),
        node("Transpose", ["w1f"], ["w1t"], perm=[1, 0]),
        node("MatMul", ["h0", "w1t"], ["h1"], name="turned"),
        node("QuantizeLinear", ["w2", "s2", "z2"], ["w2q"], axis=0),
        node("DequantizeLinear", ["w2q", "s2", "z2"], ["w2f"], axis=0),
        node("Gemm", ["h1", "w2f"], ["y"], name="trained", transB=1),
    ], {
        "w0": helper.make_tensor("w0", TensorProto.INT4, w0.shape, w0.flatten().tolist()),
        "s0": (rng.integers(1, 9, (4, 3)) / 16).astype(np.float32),
        "z0": helper.make_tensor("z0", TensorProto.INT4, (4, 3), [0] * 12),
        "w1": helper.make_tensor("w1", TensorProto.UINT4, w1.shape, w1.flatten().tolist()),
        "s1": (rng.integers(1, 9, 6) / 16).astype(np.float32),
        "z1": helper.make_tensor("z1", TensorProto.UINT4, (6,), [8] * 6),
        "w2": w2, "s2": scale2, "z2": np.zeros(5, np.int8),
    }, ["N", 10], ["N", 5])  # fmt: skip
    q2 = np.clip(np.round(w2 / scale2[:, None]), -128, 127).astype(np.int8)
    arrays = {"w/blocks": w0.astype(np.int8), "w/turned": (w1 - 8).astype(np.int8), "w/trained": q2}
    yield "hand_made", made, {k: v[:, None, None, :] for k, v in arrays.items()}
    half = {"w0": normal(4, 3, 2, 2).astype(np.float16), "w1": normal(144, 5).astype(np.float16)}
    made = save([
        node("Conv", ["x", "w0"], ["c"], name="first"),
        node("Relu", ["c"], ["r"]),
        node("Flatten", ["r"], ["f"]),
        node("MatMul", ["f", "w1"], ["y"], name="last"),
    ], half, [1, 3, 7, 7], [1, 5], kind=TensorProto.FLOAT16)  # fmt: skip
    yield "half", made, {"w/first": weights(half["w0"], "Conv", 1), "w/last": weights(half["w1"], "MatMul", 1)}
    # HardSwish is not read, so what is left are weights: depthwise in f32, columns in int8, a table in uint8.
    w1 = rng.integers(-128, 128, (75, 5)).astype(np.int8)
    table = rng.integers(0, 256, (20, 4)).astype(np.uint8)
    made = save([
        node("Conv", ["x", "w0"], ["c"], group=3),
        node("HardSwish", ["c"], ["h"]),
        node("Flatten", ["h"], ["f"]),
        node("DequantizeLinear", ["w1", "s1", "z1"], ["w1f"], axis=1),
        node("MatMul", ["f", "w1f"], ["m"]),
        node("Gather", ["table", "ids"], ["g"]),
        node("DequantizeLinear", ["g", "st", "zt"], ["gf"]),
        node("MatMul", ["m", "gf"], ["y"]),
    ], {"w0": normal(3, 1, 3, 3), "w1": w1, "s1": np.full(5, 0.25, np.float32), "z1": np.zeros(5, np.int8),
        "table": table, "ids": np.arange(5), "st": np.float32(0.5), "zt": np.uint8(100)}, [1, 3, 7, 7], [1, 4])  # fmt: skip
    yield "unread", made, {"w/w1": w1.T[:, None, None, :], "w/table": centre(table, np.uint8(100))[:, None, None, :]}


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    plain = network()
    samples = rng.normal(0, 1, (8, 3, 8, 9)).astype(np.float32)
    np.save(FOLDER / "sample.npy", samples[:1])
    (FOLDER / "float.onnx").write_bytes(plain.SerializeToString())
    made = list(hand_made())
    static = [
        ("qdq_channel", q.QuantFormat.QDQ, q.QuantType.QInt8, q.QuantType.QInt8, True),
        ("qdq_tensor", q.QuantFormat.QDQ, q.QuantType.QUInt8, q.QuantType.QUInt8, False),
        ("qlinear", q.QuantFormat.QOperator, q.QuantType.QUInt8, q.QuantType.QInt8, True),
    ]
    with TemporaryDirectory() as folder:
        before, after = Path(folder) / "float.onnx", Path(folder) / "quantised.onnx"
        onnx.save(plain, before)
        for name, form, activation, weight, channel in static:
            q.quantize_static(before, after, Reader(samples), quant_format=form, activation_type=activation,
                              weight_type=weight, per_channel=channel)
            made.append((name, onnx.load(after), None))
        q.quantize_dynamic(before, after, weight_type=q.QuantType.QUInt8)
        made.append(("dynamic", onnx.load(after), None))
    for name, model, arrays in made:
        arrays = stored(model, samples[:1]) if arrays is None else arrays
        (FOLDER / f"{name}.onnx").write_bytes(model.SerializeToString())
        np.savez(FOLDER / f"{name}.npz", **arrays)
        print(name, {k: (v.dtype.name, v.shape) for k, v in arrays.items()})


if __name__ == "__main__":
    main()
