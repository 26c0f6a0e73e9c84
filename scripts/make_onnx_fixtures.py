#!/usr/bin/env python3
"""Makes tests/fixtures/operators: small networks with every operator, and what onnxruntime computes for them.

    python3 scripts/make_onnx_fixtures.py

Each NAME.onnx has a NAME.txt with three samples: the input, onnxruntime's output in f32, and its output for the same
network widened to f64 (an empty list where onnxruntime has no f64 kernel for an operator). The second line of the text
says how far a correct evaluator may be off:

    |difference| <= 2 terms u magnitude,  u = 2^-24 or 2^-53

`terms` is the sum over all nodes of the length of their longest sum, `magnitude` the largest number in the network with
absolute values in place of all numbers: each node's rounding is at most (its terms) u times its sum of absolute
products, and what follows multiplies that by no more than the absolute weights. (A squashing function has slope at most 1
and values at most 1: x + 1 stands for it there.) `terms` is 0 where arithmetic is exact: weights are multiples of 1/4,
inputs of 1/8, so sums of products fit the 24 bits of f32 as long as `magnitude` is small. Then all must agree exactly.

Needs onnx, onnxruntime and numpy.
"""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "operators"
SAMPLES = 3
EXACT = {
    "Add", "Sub", "Neg", "Sum", "Relu", "Clip", "Conv", "ConvTranspose", "Gemm", "MatMul", "MaxPool", "GlobalMaxPool",
    "Pad", "Transpose", "Concat", "Slice", "Gather", "Split", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Shape",
    "Cast", "Identity", "Dropout", "Constant",
}  # fmt: skip
WEIGHTED = {"Conv", "ConvTranspose", "Gemm", "MatMul"}

rng = np.random.default_rng(20)
node = helper.make_node


def quarters(*shape):
    """Weights: multiples of 1/4 in -1..1."""
    return rng.integers(-4, 5, shape).astype(np.float32) / 4


def positive(*shape):
    """Variances."""
    return rng.integers(1, 9, shape).astype(np.float32) / 4


def tensor(name, array):
    return numpy_helper.from_array(np.asarray(array), name)


def weights(**arrays):
    return [tensor(name, array) for name, array in arrays.items()]


def ints(**lists):
    return [tensor(name, np.array(numbers, np.int64)) for name, numbers in lists.items()]


def model(nodes, constants, shape, opset=13, ir=8, result=None):
    """A model from x to y; `result` is the shape of y where onnx cannot infer it."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, result)
    graph = helper.make_graph(nodes, "operators", [x], [y], constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    made.ir_version = ir
    made = onnx.shape_inference.infer_shapes(made, data_prop=True)
    del made.graph.value_info[:]
    onnx.checker.check_model(made)
    return made


# --- the networks ---------------------------------------------------------------------------------------------------


def networks():
    yield "conv", model([
        node("Conv", ["x", "w1", "b1"], ["c1"], strides=[2, 1], pads=[1, 0, 2, 1], dilations=[1, 2]),
        node("Relu", ["c1"], ["r1"]),
        node("Conv", ["r1", "w2"], ["c2"], group=2, kernel_shape=[2, 3], pads=[0, 1, 1, 2]),
        node("Relu", ["c2"], ["r2"]),
        node("Conv", ["r2", "w3", "b3"], ["y"], pads=[1, 1, 1, 1]),
    ], weights(w1=quarters(4, 2, 3, 2), b1=quarters(4), w2=quarters(6, 2, 2, 3), w3=quarters(3, 6, 1, 1),
               b3=quarters(3)), [1, 2, 7, 6])  # fmt: skip
    # onnxruntime refuses dilations beside SAME_*.
    for rule, dilations in (("SAME_UPPER", [1, 1]), ("SAME_LOWER", [1, 1]), ("VALID", [1, 2])):
        yield f"depthwise_{rule.lower()}", model([
            node("Conv", ["x", "w1", "b1"], ["c1"], group=3, strides=[2, 3], auto_pad=rule),
            node("Relu", ["c1"], ["r1"]),
            node("Conv", ["r1", "w2"], ["c2"], group=6, auto_pad=rule, dilations=dilations),
            node("Conv", ["c2", "w3"], ["y"], strides=[3, 2], auto_pad=rule),
        ], weights(w1=quarters(6, 1, 2, 4), b1=quarters(6), w2=quarters(6, 1, 3, 2), w3=quarters(4, 6, 1, 1)),
            [1, 3, 9, 11])  # fmt: skip
    yield "conv_1d", model([
        node("Conv", ["x", "w1", "b1"], ["c1"], dilations=[2], pads=[4, 0]),
        node("Relu", ["c1"], ["r1"]),
        node("MaxPool", ["r1"], ["m1"], kernel_shape=[3], strides=[2], pads=[1, 1]),
        node("ConvTranspose", ["m1", "w2"], ["t1"], strides=[3], output_padding=[1], pads=[0, 2]),
        node("AveragePool", ["t1"], ["a1"], kernel_shape=[4], strides=[4]),
        node("Flatten", ["a1"], ["y"]),
    ], weights(w1=quarters(4, 3, 3), b1=quarters(4), w2=quarters(4, 2, 3)), ["N", 3, 11])  # fmt: skip
    yield "conv_transpose", model([
        node("ConvTranspose", ["x", "w1", "b1"], ["c1"], strides=[2, 3], pads=[1, 0, 0, 2], output_padding=[1, 2]),
        node("Relu", ["c1"], ["r1"]),
        node("ConvTranspose", ["r1", "w2"], ["y"], group=2, dilations=[2, 1], pads=[1, 1, 2, 1]),
    ], weights(w1=quarters(3, 4, 3, 2), b1=quarters(4), w2=quarters(4, 1, 2, 3)), [1, 3, 4, 3])  # fmt: skip
    yield "conv_transpose_flip", model([
        node("ConvTranspose", ["x", "w"], ["c"], strides=[1, 2], auto_pad="VALID"),
        node("Neg", ["c"], ["y"]),
    ], weights(w=quarters(1, 1, 3, 4)), [1, 1, 2, 3])  # fmt: skip
    yield "max_pool", model([
        node("MaxPool", ["x"], ["p1"], kernel_shape=[3, 2], strides=[2, 1], pads=[1, 1, 2, 0]),
        node("MaxPool", ["p1"], ["p2"], kernel_shape=[2, 3], dilations=[2, 1], pads=[1, 0, 1, 1]),
        node("MaxPool", ["p2"], ["p3"], kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
        node("MaxPool", ["p3"], ["y"], kernel_shape=[2, 2], strides=[2, 2], auto_pad="SAME_UPPER"),
    ], [], [1, 2, 11, 10])  # fmt: skip
    yield "max_pool_half", model([
        node("MaxPool", ["x"], ["y"], kernel_shape=[2, 3], strides=[2, 3], ceil_mode=1),
    ], [], [1, 1, 1, 2])  # fmt: skip
    yield "average_pool_half", model([
        node("AveragePool", ["x"], ["y"], kernel_shape=[2, 4], strides=[2, 3], ceil_mode=1),
    ], [], [1, 1, 1, 6])  # fmt: skip
    yield "average_pool", model([
        node("AveragePool", ["x"], ["p1"], kernel_shape=[3, 2], strides=[2, 1], pads=[1, 1, 2, 0]),
        node("AveragePool", ["p1"], ["p2"], kernel_shape=[3, 3], pads=[1, 1, 1, 2], count_include_pad=1),
        node("AveragePool", ["p2"], ["p3"], kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
        node("AveragePool", ["p3"], ["y"], kernel_shape=[2, 2], strides=[2, 2], auto_pad="SAME_LOWER"),
    ], [], [1, 2, 11, 10])  # fmt: skip
    yield "average_pool_dilated", model([
        node("AveragePool", ["x"], ["y"], kernel_shape=[2, 3], dilations=[3, 2], pads=[1, 0, 1, 2]),
    ], [], [1, 2, 7, 6], opset=19, ir=9)  # fmt: skip
    yield "residual", model([
        node("Conv", ["x", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1]),
        node("Relu", ["c1"], ["r1"]),
        node("Conv", ["r1", "w2"], ["c2"], pads=[1, 1, 1, 1], strides=[2, 2]),
        node("Conv", ["x", "w3"], ["c3"], strides=[2, 2]),
        node("Add", ["c2", "c3"], ["s1"]),
        node("Relu", ["s1"], ["r2"]),
        node("Conv", ["r2", "w4"], ["c4"], pads=[1, 1, 1, 1]),
        node("Sum", ["c4", "r2", "c2"], ["s2"]),
        node("GlobalMaxPool", ["s2"], ["g"]),
        node("Flatten", ["g"], ["f"]),
        node("Gemm", ["f", "w5", "b5"], ["y"], transB=1),
    ], weights(w1=quarters(3, 2, 3, 3), b1=quarters(3), w2=quarters(3, 3, 3, 3), w3=quarters(3, 2, 1, 1),
               w4=quarters(3, 3, 3, 3), w5=quarters(4, 3), b5=quarters(4)), [1, 2, 6, 6])  # fmt: skip
    yield "batch_norm", model([
        node("Conv", ["x", "w1"], ["c1"]),
        node("BatchNormalization", ["c1", "s1", "b1", "m1", "v1"], ["n1"], epsilon=1e-3),
        node("Relu", ["n1"], ["r1"]),
        node("GlobalAveragePool", ["r1"], ["g"]),
        node("Squeeze", ["g", "axes"], ["q"]),
        node("BatchNormalization", ["q", "s2", "b2", "m2", "v2"], ["n2"], momentum=0.5),
        node("MatMul", ["n2", "w2"], ["y"]),
    ], weights(w1=quarters(3, 2, 2, 2), s1=quarters(3), b1=quarters(3), m1=quarters(3), v1=positive(3), s2=quarters(3),
               b2=quarters(3), m2=quarters(3), v2=positive(3), w2=quarters(3, 4)) + ints(axes=[2, -1]),
        [1, 2, 5, 4], opset=15)  # fmt: skip
    yield "channels_last", model([
        node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
        node("Pad", ["t", "pads", "value"], ["p"]),
        node("Conv", ["p", "w1", "b1"], ["c"], strides=[2, 2]),
        node("Relu", ["c"], ["r"]),
        node("Transpose", ["r"], ["n"], perm=[0, 2, 3, 1]),
        node("Reshape", ["n", "flat"], ["f"]),
        node("MatMul", ["f", "w2"], ["y"]),
    ], weights(w1=quarters(4, 3, 3, 3), b1=quarters(4), w2=quarters(36, 5), value=np.float32(-0.5))
        + ints(pads=[0, 0, 1, 0, 0, 0, 1, 2], flat=[1, -1]), [1, 5, 6, 3])  # fmt: skip
    yield "pads", model([
        node("Pad", ["x"], ["p"], pads=[0, 0, 1, 0, 0, 0, 0, 2], value=0.75),
        node("Transpose", ["p"], ["y"]),
    ], [], [1, 2, 2, 3], opset=9, ir=4)  # fmt: skip
    yield "pads_of_axes", model([
        node("Pad", ["x", "pads", "", "axes"], ["p"]),
        node("Pad", ["p", "none"], ["y"]),
    ], ints(pads=[1, 2, 0, 1], axes=[-1, 1], none=[0] * 6), [1, 2, 3], opset=18)  # fmt: skip
    yield "pieces", model([
        node("Split", ["x", "sizes"], ["s1", "s2", "s3"], axis=1),
        node("Slice", ["x", "starts", "ends", "axes", "steps"], ["l"]),
        node("Gather", ["x", "picks"], ["g"], axis=2),
        node("Slice", ["g", "one", "two", "one"], ["h"]),
        node("Squeeze", ["h", "two"], ["q"]),
        node("Concat", ["s3", "s1", "l", "q"], ["k"], axis=1),
        node("Gather", ["k", "last"], ["v"], axis=-1),
        node("Add", ["v", "v"], ["y"]),
    ], ints(sizes=[1, 2, 3], starts=[-1, 4], ends=[-1000, -5], axes=[1, 2], steps=[-2, -1], one=[1], two=[2])
        + [tensor("picks", np.array([[3, -1, 0, 1]], np.int64)), tensor("last", np.array(-1, np.int64))],
        [1, 6, 4])  # fmt: skip
    yield "old_pieces", model([
        node("Split", ["x"], ["s1", "s2"], axis=2),
        node("Slice", ["s2"], ["l"], starts=[0, -2], ends=[9, 9], axes=[0, 1]),
        node("Concat", ["l", "s1"], ["y"], axis=1),
    ], [], [1, 3, 4], opset=9, ir=4)  # fmt: skip
    yield "shapes", model([
        node("Conv", ["x", "w"], ["c"], kernel_shape=[2, 2]),
        node("Shape", ["c"], ["shape"]),
        node("Gather", ["shape", "zero"], ["batch"]),
        node("Unsqueeze", ["batch", "front"], ["first"]),
        node("Slice", ["shape", "front", "front1"], ["same"]),
        node("Concat", ["first", "rest"], ["target"], axis=0),
        node("Cast", ["target"], ["target64"], to=TensorProto.INT64),
        node("Reshape", ["c", "target64"], ["f"]),
        node("Clip", ["f", "low", "high"], ["k1"]),
        node("Clip", ["k1", "", "half"], ["k2"]),
        node("Clip", ["k2", "zero_f"], ["k3"]),
        node("Clip", ["f", "zero_f", "high"], ["k4"]),
        node("Clip", ["f", "half"], ["k5"]),
        node("Concat", ["k1", "k2", "k3", "k4", "k5"], ["y"], axis=-1),
    ], weights(w=quarters(3, 2, 2, 2), low=np.float32(-0.75), high=np.float32(1.25), half=np.float32(0.5),
               zero_f=np.float32(0)) + [tensor("zero", np.array(0, np.int64))]
        + ints(front=[0], front1=[1], rest=[-1]), ["N", 2, 4, 3], result=["N", "M"])  # fmt: skip
    yield "old_clip", model([
        node("Clip", ["x"], ["c"], min=-0.5, max=1.0),
        node("Sub", ["c", "x"], ["y"]),
    ], [], [1, 12], opset=10, ir=3)  # fmt: skip
    yield "smooth", model([
        node("Gemm", ["x", "w1"], ["g1"]),
        node("Sigmoid", ["g1"], ["s"]),
        node("Gemm", ["s", "w2", "b2"], ["g2"]),
        node("Tanh", ["g2"], ["t"]),
        node("Gemm", ["t", "w3"], ["g3"]),
        node("Softmax", ["g3"], ["y"]),
    ], weights(w1=quarters(5, 6), w2=quarters(6, 4), b2=quarters(4), w3=quarters(4, 5)), [1, 5])  # fmt: skip
    for opset, axis in ((11, 1), (12, -2), (13, 1), (13, -1)):
        yield f"softmax_{opset}_{axis % 3}", model(
            [node("Softmax", ["x"], ["y"], axis=axis)], [], [1, 3, 4], opset=opset, ir=6
        )
    yield "softmax_default", model([node("Softmax", ["x"], ["y"])], [], [1, 2, 3], opset=9, ir=4)
    yield "leaky_relu", model([
        node("Gemm", ["x", "w1"], ["g1"]),
        node("LeakyRelu", ["g1"], ["l1"], alpha=-0.5),
        node("Gemm", ["l1", "w2"], ["g2"]),
        node("LeakyRelu", ["g2"], ["y"]),
    ], weights(w1=quarters(5, 6), w2=quarters(6, 4)), [1, 5])  # fmt: skip
    yield "gelu", model([
        node("Gemm", ["x", "w1"], ["g1"]),
        node("Gelu", ["g1"], ["y"], approximate="tanh"),
    ], weights(w1=quarters(5, 9)), [1, 5], opset=20, ir=9)  # fmt: skip
    yield "layer_norm", model([
        node("LayerNormalization", ["x", "s1", "b1"], ["l1"], axis=1, epsilon=0.125),
        node("LayerNormalization", ["l1", "s2"], ["y"]),
    ], weights(s1=quarters(3, 8), b1=quarters(3, 8), s2=quarters(8)), [1, 3, 8], opset=17)  # fmt: skip
    yield "group_norm", model([
        node("GroupNormalization", ["x", "s1", "b1"], ["g1"], num_groups=3, epsilon=0.25),
        node("Flatten", ["g1"], ["f1"]),
        node("GroupNormalization", ["f1", "s2", "b2"], ["y"], num_groups=4),
    ], weights(s1=quarters(6), b1=quarters(6), s2=quarters(36), b2=quarters(36)), [1, 6, 2, 3], opset=21, ir=10,
        result=[1, 36])  # fmt: skip
    # The names tell `main` and `absolute` that inputs are rows of tables, and that no number is added.
    yield "embedding_causal", model([
        node("Cast", ["x"], ["ids"], to=TensorProto.INT64),
        node("Gather", ["table", "ids"], ["e1"]),
        node("Add", ["e1", "positions"], ["e2"]),
        node("MatMul", ["e2", "w1"], ["q"]),
        node("Transpose", ["e2"], ["k"], perm=[0, 2, 1]),
        node("MatMul", ["q", "k"], ["s1"]),
        node("Add", ["s1", "mask"], ["s2"]),
        node("Softmax", ["s2"], ["s3"]),
        node("Dropout", ["s3", "ratio"], ["s4"]),
        node("MatMul", ["s4", "e2"], ["y"]),
    ], weights(table=quarters(9, 4), positions=quarters(5, 4), w1=quarters(4, 4), ratio=np.float32(0.25),
               mask=np.triu(np.full((5, 5), -1e9, np.float32), 1)), [1, 5])  # fmt: skip


# --- how far results may be off -------------------------------------------------------------------------------------


def absolute(source):
    """The network with absolute values in place of all numbers and identities in place of what is no larger."""
    made = onnx.ModelProto.FromString(source.SerializeToString())
    made.ir_version = 8  # before 4, constants must stand among the inputs
    for constant in made.graph.initializer:
        if constant.data_type == TensorProto.FLOAT:
            array = np.abs(numpy_helper.to_array(constant))
            constant.CopyFrom(tensor(constant.name, 0 * array if constant.name == "mask" else array))
    nodes = []
    one = tensor("one_more", np.array(1, np.float32))
    for n in made.graph.node:
        if n.op_type in ("Relu", "LeakyRelu", "Clip", "Neg"):
            n = node("Identity", n.input[:1], n.output)
        elif n.op_type == "Sub":
            n = node("Add", n.input, n.output)
        elif n.op_type in ("Sigmoid", "Tanh", "Softmax"):
            n = node("Add", [n.input[0], "one_more"], n.output)
        elif n.op_type == "Gelu":
            n = node("Add", [n.input[0], n.input[0]], n.output)
        elif n.op_type in ("LayerNormalization", "GroupNormalization"):
            # No result is above the root of 32 terms plus a bias of 1, no slope above 1 / (the deviation, at least 1/8).
            nodes.append(node("Mul", [n.input[0], "eight"], [n.output[0] + "_steep"]))
            n = node("Add", [n.output[0] + "_steep", "one_more"], n.output)
        elif n.op_type == "BatchNormalization":
            negative = n.input[3] + "_negative"
            nodes.append(node("Neg", [n.input[3]], [negative]))
            n.input[3] = negative
        nodes.append(n)
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    made.graph.initializer.extend([one, tensor("eight", np.array(8, np.float32))])
    return made


def magnitude(source, inputs):
    """The largest number in the network of absolute values, as onnxruntime computes it."""
    made = absolute(source)
    inferred = onnx.shape_inference.infer_shapes(made, data_prop=True).graph
    del made.graph.output[:]
    infos = list(inferred.value_info) + list(inferred.output)
    made.graph.output.extend(info for info in infos if info.type.tensor_type.elem_type == TensorProto.FLOAT)
    values = [value for outputs in run(made, [np.abs(x) for x in inputs], every=True) for value in outputs]
    return max([1.0] + [float(np.max(np.abs(value))) for value in values])


def terms(source):
    """The sum over all nodes of the length of their longest sum; 8 for what is computed by a library."""
    constants = {t.name: list(t.dims) for t in source.graph.initializer}
    total = 0
    for n in source.graph.node:
        kernel = next((list(a.ints) for a in n.attribute if a.name == "kernel_shape"), [])
        if n.op_type == "MatMul" and n.input[1] not in constants:
            total += 8
        elif n.op_type in WEIGHTED:
            total += int(np.prod(constants[n.input[1]])) + 2
        elif n.op_type == "AveragePool":
            total += int(np.prod(kernel)) + 1
        elif n.op_type == "GlobalAveragePool":
            total += 64
        else:
            total += 8
    return total


def is_exact(source, largest):
    """Whether all sums fit 24 bits: the inputs have 3 bits behind the point, each layer of weights adds 2."""
    depth = {}
    for n in source.graph.node:
        before = max((depth.get(name, 0) for name in n.input), default=0)
        depth |= dict.fromkeys(n.output, before + (n.op_type in WEIGHTED))
    bits = 3 + 2 * max(depth.values())
    return all(n.op_type in EXACT for n in source.graph.node) and largest * 2**bits < 2**24


# --- onnxruntime ----------------------------------------------------------------------------------------------------


def widened(source):
    """The network with f64 in place of f32."""
    wide = onnx.ModelProto.FromString(source.SerializeToString())
    for info in list(wide.graph.input) + list(wide.graph.output):
        info.type.tensor_type.elem_type = TensorProto.DOUBLE
    for constant in wide.graph.initializer:
        if constant.data_type == TensorProto.FLOAT:
            constant.CopyFrom(tensor(constant.name, numpy_helper.to_array(constant).astype(np.float64)))
    return wide


def run(source, inputs, every=False):
    """onnxruntime's output (or all outputs) with the graph as it is, or None if a kernel is missing."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(source.SerializeToString(), options)
    except Exception as error:  # onnxruntime's own types share no base but this one
        if "NOT_IMPLEMENTED" in str(error) or "Type Error" in str(error):
            return None
        raise
    outputs = [session.run(None, {"x": x}) for x in inputs]
    return outputs if every else [first for first, *_ in outputs]


def numbers(key, array):
    return " ".join([key] + [repr(float(v)) for v in np.asarray(array).flatten()])


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    for old in list(FOLDER.glob("*.onnx")) + list(FOLDER.glob("*.txt")):
        old.unlink()
    for name, made in networks():
        shape = [d.dim_value or 1 for d in made.graph.input[0].type.tensor_type.shape.dim]
        inputs = [rng.integers(-16, 17, shape).astype(np.float32) / 8 for _ in range(SAMPLES)]
        if name.startswith("embedding"):
            inputs = [np.abs(8 * x) % 9 for x in inputs]
        narrow = run(made, inputs)
        # In f64, onnxruntime's Gelu has the constants of f32 and its group normalisation the statistics.
        wide = None if name in ("gelu", "group_norm") else run(widened(made), [x.astype(np.float64) for x in inputs])
        largest = magnitude(made, inputs)
        count = 0 if is_exact(made, largest) else terms(made)
        lines = [
            f"# {name}.onnx: inputs, onnxruntime {onnxruntime.__version__} in f32, in f64 (if it has the kernels)",
            f"terms {count} magnitude {largest!r}",
        ]
        for i, x in enumerate(inputs):
            lines += [numbers("input", x), numbers("f32", narrow[i]), numbers("f64", wide[i] if wide else [])]
        (FOLDER / f"{name}.onnx").write_bytes(made.SerializeToString())
        (FOLDER / f"{name}.txt").write_text("\n".join(lines) + "\n")
        print(f"{name}: terms {count}, magnitude {largest:g}, f64 {'yes' if wide else 'no'}")


if __name__ == "__main__":
    main()
