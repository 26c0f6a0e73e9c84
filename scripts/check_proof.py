#!/usr/bin/env python3
"""Re-checks a wavehull proof with nothing but Python and numpy, for those who trust neither the GPU nor the Rust code.

Usage: python3 scripts/check_proof.py PROOF NETWORK.onnx[.gz] PROPERTY.vnnlib[.gz]
Exit code 0: the proof establishes the property; 1: it does not, or cannot be checked (the reason is printed); 2: usage.

It takes choices from the proof (slopes, which neurons were refined, which rows are positive) and derives every bound
itself in f64, node by node, so that nothing of the network is folded together. Networks may have the operators of KNOWN below,
with paths that part and meet again; any other operator is refused by name. Every rounding is covered outward: a sum of K products in any order errs by at most
gamma_K * sum |a||b| + 2 K 2^-1074 with gamma_K = K u / (1 - K u), u = 2^-53 (Higham, Accuracy and Stability, ch. 3).
"""
import gzip, hashlib, itertools, math, re, struct, sys
from fractions import Fraction
import numpy as np

U, TINY, INF = 2.0**-53, 2.0**-1074, math.inf
DECIMAL = r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?"
def demand(condition, reason):
    if not condition:
        raise ValueError(reason)

# ---- Rounding
def up(x): return np.nextafter(x, INF)
def down(x): return np.nextafter(x, -INF)
def gamma(k): return k * U / (1 - k * U) * (1 + 8 * U)
def over(x): return up(x * (1 + 16 * U))                                   # x >= 0 of a few operations
def at_most(x, k): return up((x + 2 * k * TINY) * (1 + 2 * gamma(k + 4)))  # x, a sum of k non-negative products
def outward(x, sign):
    """The f64 next to a fraction that is at most (sign -1) or at least (sign 1) as large."""
    f = float(x)
    return f if (Fraction(f) - x) * sign >= 0 else math.nextafter(f, sign * INF)

# ---- ONNX, with just enough of protobuf
def varint(b, at):
    end = next(i for i in range(at, len(b)) if b[i] < 128) + 1
    value = sum((byte & 127) << 7 * i for i, byte in enumerate(b[at:end]))
    return value - (value >> 63 << 64), end
def every(b, number):  # the values of a field: integers, or bytes
    at, found = 0, []
    while at < len(b):
        key, at = varint(b, at)
        if key & 7 == 0:
            value, at = varint(b, at)
        else:
            size, at = ({1: 8, 5: 4}[key & 7], at) if key & 7 != 2 else varint(b, at)
            demand(0 <= size <= len(b) - at, "the network's file is damaged")
            value, at = b[at:at + size], at + size
        found += [value] if key >> 3 == number else []
    return found
def integers(b, field):  # of an attribute or a tensor, packed or not
    packed = lambda d: [varint(part, 0)[0] for part in re.findall(rb"[\x80-\xff]*[\0-\x7f]", d)]
    return [n for d in every(b, field) for n in ([d] if isinstance(d, int) else packed(d))]
def tensor(b):
    demand(every(b, 2) == [1] and not every(b, 13) and not every(b, 14), "a constant is not float, or not in the file")
    data = np.frombuffer(b"".join(every(b, 9) or every(b, 4)), "<f4").astype(np.float64).reshape(integers(b, 1))
    demand(np.isfinite(data).all(), "a weight is not finite")
    return data
CURVES = ("Relu", "Sigmoid", "Tanh")
KNOWN = CURVES + ("Gemm", "MatMul", "Conv", "Add", "Sub", "Mul", "Div", "Flatten", "Reshape", "Transpose", "Identity")
def window(shape, kernel, numbers):
    """Strides, dilations, pads (before, after) of both axes, and the result's extents; `numbers` reads an attribute."""
    strides, dilations, pads = numbers("strides", [1, 1]), numbers("dilations", [1, 1]), numbers("pads", [0] * 4)
    demand(len(kernel) == 2 and len(strides) == len(dilations) == 2 and len(pads) == 4, "Conv is not two-dimensional")
    demand(min(strides + dilations) > 0 and min(pads) >= 0, "Conv has a stride, dilation or pad that is not known")
    pads = list(zip(pads[:2], pads[2:]))
    sizes = [n + sum(p) - (k - 1) * d for n, p, k, d in zip(shape, pads, kernel, dilations)]
    demand(min(sizes) > 0, "Conv has a window larger than its input")
    return strides, dilations, pads, [(n - 1) // s + 1 for n, s in zip(sizes, strides)]
def network(data):
    """Steps (kind, constant, indices of the steps that it reads, number of values), step 0 being the input.

    The kinds: ("dense", W), ("conv", (w, window, shape)), ("pick", indices), ("add", c), ("times", c), ("over", c) with one
    operand; ("sum", sign of the second) with two; ("Relu", None), ("Sigmoid", None), ("Tanh", None).
    """
    graph = every(data, 7)[0]
    known = {every(t, 8)[0]: t for t in every(graph, 5)}
    (entry,) = [i for i in every(graph, 11) if every(i, 1)[0] not in known]
    (result,) = every(graph, 12)
    dims = every(every(every(every(entry, 2)[0], 1)[0], 2)[0], 1)
    value = np.zeros([max(1, (every(d, 1) or [1])[0]) for d in dims])  # only its shape matters; open dimensions are 1
    steps, computed = [("input", None, (), value.size)], {every(entry, 1)[0]: (0, value)}  # by name: step, shape

    def push(kind, const, sources, size):
        steps.append((kind, const, sources, size))
        return len(steps) - 1
    for node in every(graph, 1):
        op, ins, attr = every(node, 4)[0].decode(), every(node, 1), {every(a, 1)[0]: a for a in every(node, 5)}
        flag = lambda name, otherwise=0: (every(attr[name], 3) or [0])[0] if name in attr else otherwise
        real = lambda name: struct.unpack("<f", every(attr[name], 2)[0])[0] if name in attr else 1.0
        numbers = lambda name, otherwise: integers(attr[name.encode()], 8) if name.encode() in attr else otherwise
        out = every(node, 2)[0]
        demand(every(node, 7) in ([], [b""], [b"ai.onnx"]), f"{op} is not ONNX's own")
        if op == "Constant":
            known[out] = every(attr[b"value"], 5)[0]
            continue
        demand(op in KNOWN and b"broadcast" not in attr, f"the operator {op} is not known to this script")
        side = 0 if ins[0] in computed else 1
        demand(len(ins) > side and ins[side] in computed, f"{op} of constants is not known to this script")
        at, value = computed[ins[side]]
        if op in CURVES:
            at = push(op, None, (at,), value.size)
        elif op == "Flatten":
            value = value.reshape(math.prod(value.shape[:flag(b"axis", 1)]), -1)
        elif op == "Reshape":
            sizes = np.frombuffer(b"".join(every(known[ins[1]], 9)), "<i8").tolist() or integers(known[ins[1]], 7)
            value = value.reshape([n or value.shape[i] for i, n in enumerate(sizes)])
        elif op == "Transpose":
            order = numbers("perm", list(range(value.ndim))[::-1])
            indices = np.arange(value.size).reshape(value.shape).transpose(order)
            at, value = push("pick", indices.ravel(), (at,), value.size), value.transpose(order)
        elif op == "Conv":
            c = tensor(known[ins[1]])
            demand(flag(b"group", 1) == 1 and b"auto_pad" not in attr, "Conv with groups or automatic padding is not known")
            demand(value.ndim == 4 and value.shape[:2] == (1, c.shape[1]), "Conv of another number of channels")
            where = window(value.shape[2:], c.shape[2:], numbers)
            inner, value = value.shape[1:], np.zeros((1, len(c), *where[3]))
            at = push("conv", (c, where, inner), (at,), value.size)
            if len(ins) > 2:
                c = np.broadcast_to(tensor(known[ins[2]])[:, None, None], value.shape[1:])
                at = push("add", c.ravel(), (at,), value.size)
        elif op in ("Gemm", "MatMul"):
            demand(all(name in known for name in ins if name != ins[side]), f"{op} of two computed values")
            c = tensor(known[ins[1 - side]])
            trans = flag(b"transA"), flag(b"transB")
            value, c = value.T if trans[side] else value, c.T if trans[1 - side] else c
            demand(c.ndim == 2 and value.ndim == 2 and value.shape[side] == 1, f"{op} of more than one vector")
            weight = (c.T if side == 0 else c) * real(b"alpha")
            value = value @ c if side == 0 else c @ value
            at = push("dense", weight, (at,), value.size)
            if len(ins) > 2:
                c = np.broadcast_to(tensor(known[ins[2]]) * real(b"beta"), value.shape)
                at = push("add", c.ravel(), (at,), value.size)
        elif op in ("Add", "Sub") and ins[1 - side] in computed:
            other, second = computed[ins[1]]
            demand(value.shape == second.shape, f"{op} of computed values of two shapes")
            at = push("sum", 1.0 if op == "Add" else -1.0, (at, other), value.size)
        elif op != "Identity":
            demand(ins[1 - side] in known, f"{op} of two computed values")
            c, size = tensor(known[ins[1 - side]]), value.size
            value = value + 0 * c
            demand(value.size == size and (op != "Div" or side == 0 and c.all()), f"{op} repeats a value or divides by 0")
            c = np.broadcast_to(c, value.shape).ravel()
            if op == "Sub" and side == 1:
                at = push("times", -np.ones(size), (at,), size)
            kind = {"Mul": "times", "Div": "over"}.get(op, "add")
            at = push(kind, -c if op == "Sub" and side == 0 else c, (at,), size)
        computed[out] = at, value
    return steps, computed[every(result, 1)[0]][0]

# ---- VNN-LIB, without arithmetic inside conditions
def lists(text):
    stack = [[]]
    for token in re.findall(r"[()]|[^\s()]+", re.sub(r";.*", "", text)):
        stack.append([]) if token == "(" else stack[-1].append(token) if token != ")" else stack[-2].append(stack.pop())
    (commands,) = stack
    return commands
def alternatives(c):  # (bounds, rows) pairs, one of which must hold; plain conditions first, the first `or` slowest
    if c[0] == "or":
        return [pair for part in c[1:] for pair in alternatives(part)]
    if c[0] == "and":
        flat = lambda c: [q for p in c[1:] for q in (flat(p) if p[0] == "and" else [p])]
        parts = [alternatives(p) for p in sorted(flat(c), key=lambda p: p[0] == "or")]
        join = lambda pairs, i: [x for pair in pairs for x in pair[i]]
        return [(join(pairs, 0), join(pairs, 1)) for pairs in itertools.product(*parts)]
    demand(c[0] in ("<=", ">=", "<", ">") and len(c) == 3, f"{c[0]} is not known")
    total, sign = {"": Fraction(0)}, 1 if c[0][0] == "<" else -1  # of the condition total <= 0
    for side, factor in ((c[1], sign), (c[2], -sign)):
        demand(isinstance(side, str) and re.fullmatch(r"[XY]_\d+|" + DECIMAL, side), f"{side} is not known")
        name, number = (side, 1) if side[0] in "XY" else ("", Fraction(side))
        total[name] = total.get(name, 0) + factor * number
    for name in (name for name in total if name[:1] == "X"):
        demand(abs(total[name]) == 1 and len(total) == 2, "a condition on inputs that bounds none of them")
        return [([(int(name[2:]), total[name], -total[""] * total[name])], [])]
    return [([], [({int(k[2:]): v for k, v in total.items() if k}, total[""], c[0] in "<>")])]
def properties(text):
    """Numbers of inputs and outputs, and queries (lower ends, upper ends, conjunctions) in the order of their boxes."""
    commands = lists(text)
    demand(all(c[0] in ("declare-const", "declare-fun", "assert") for c in commands), "an unknown command in the property")
    asserts, queries = [c[1] for c in commands if c[0] == "assert" and len(c) == 2], {}
    inputs, outputs = (len([c for c in commands if c[0] != "assert" and c[1][:2] == letter]) for letter in ("X_", "Y_"))
    for bounds, rows in alternatives(["and"] + asserts):
        ends = {-1: {}, 1: {}}
        for i, sign, bound in bounds:
            ends[sign].setdefault(i, []).append(bound)
        demand(set(ends[-1]) == set(ends[1]) == set(range(inputs)), "an input lacks a bound or a declaration")
        demand(all(0 <= i < outputs for row in rows for i in row[0]), "an output lacks a declaration")
        box = tuple(max(ends[-1][i]) for i in range(inputs)), tuple(min(ends[1][i]) for i in range(inputs))
        if all(l <= h for l, h in zip(*box)):
            queries.setdefault(box, []).append(rows)
    return inputs, outputs, [(*box, rows) for box, rows in queries.items()]

# ---- Bounds. For every input in the box, the bounded quantity is at least the sum of A x over steps, + c - e
def size_of(lo, hi): return np.maximum(abs(lo), abs(hi))
def least(A, lo, hi): return np.maximum(A, 0) @ lo + np.minimum(A, 0) @ hi
def slices(w, where):
    """For each tap of a convolution: its weights and what the results read of the padded source."""
    strides, dilations, _, sizes = where
    for taps in np.ndindex(w.shape[2:]):
        yield w[:, :, taps[0], taps[1]], (..., *(slice(t * d, t * d + (n - 1) * s + 1, s)
                                                 for t, d, n, s in zip(taps, dilations, sizes, strides)))
def convolve(w, where, shape, x):
    x = np.pad(x.reshape(shape), [(0, 0), *where[2]])
    return sum(np.tensordot(weights, x[read], 1) for weights, read in slices(w, where)).ravel()
def transpose(w, where, shape, A):
    """Rows over the result of a convolution as rows over its source."""
    A, pads = A.reshape(-1, len(w), *where[3]), where[2]
    into = np.zeros((len(A), shape[0], *(n + sum(p) for n, p in zip(shape[1:], pads))))
    for weights, read in slices(w, where):
        into[read] += np.tensordot(A, weights, ((1,), (0,))).transpose(0, 3, 1, 2)
    return into[:, :, pads[0][0]:pads[0][0] + shape[1], pads[1][0]:pads[1][0] + shape[2]].reshape(len(A), -1)
def linear(kind, const):
    """A linear step: x -> |W| x, (l, h) -> least W x, A -> A W, and the longest sums forwards and back."""
    if kind == "dense":
        return lambda x: abs(const) @ x, lambda l, h: least(const, l, h), lambda A: A @ const, *const.shape[::-1]
    if kind == "pick":
        return lambda x: x[const], lambda l, h: l[const], lambda A: A[:, np.argsort(const)], 1, 1
    w, where, shape = const
    both = lambda l, h: convolve(np.maximum(w, 0), where, shape, l) + convolve(np.minimum(w, 0), where, shape, h)
    taps = w.shape[2] * w.shape[3]  # partial sums of which are added up
    size = lambda x: convolve(abs(w), where, shape, x)
    return size, both, lambda A: transpose(w, where, shape, A), (w.shape[1] + 1) * taps, (len(w) + 1) * taps
def logistic(x):  # between these is 1 / (1 + exp(-x)), exp erring by at most 8 ulp of its result
    e = np.exp(-abs(x))
    value = np.where(x <= 0, e, 1) / (1 + e)
    error = over(value * (2.0**-49 + 4 * U)) + 1e-300
    return np.maximum(down(value - error), 0), np.minimum(up(value + error), 1)
def gap(l, h, k):
    """At most the minimum of S(z) - k z over [l, h], S being the logistic function.

    It is concave for z >= 0: the minimum is at an end. For z <= 0 it is convex and above its tangent at any c <= 0.
    """
    at = lambda z: down(logistic(z)[0] - up(k * z))
    s = 2 * k / (1 + np.sqrt(np.maximum(1 - 4 * k, 0)))
    end = np.minimum(h, 0)
    c = np.maximum(np.minimum(np.where(s < 0.5, np.log(s) - np.log1p(-s), 0), end), np.minimum(l, end))
    low, high = (np.minimum(s, 0.5) for s in logistic(c))
    low, high = down(down(low * (1 - low) * (1 - 16 * U)) - k), up(over(high * (1 - high)) - k)
    left, right = down(np.maximum(high, 0) * down(l - c)), down(np.minimum(low, 0) * up(end - c))
    convex = down(at(c) + np.minimum(left, right))
    return np.where(l >= 0, np.minimum(at(l), at(h)), np.where(h > 0, np.minimum(convex, at(h)), convex))
def relax(kind, lo, hi, below, above):
    """Slopes and offsets of lines below and above an activation: below z + offset <= y <= above z + offset."""
    if kind == "Relu":  # the line above is sound at both ends, hence between them
        cross, zero = (lo < 0) & (hi > 0), np.zeros(lo.size)
        l, h = np.where(cross, lo, -1.0), np.where(cross, hi, 1.0)
        above = np.minimum(h / (h - l), 1.0)
        offset = np.where(cross, np.maximum(up(-l * above), up(h * up(1 - above))), 0.0)
        below, above = (np.where(cross, slope, np.where(hi > 0, 1.0, 0.0)) for slope in (below, above))
        return below, zero, above, offset
    known = (lo > -1e280) & (hi < 1e280)  # else horizontal lines; so small slopes count as 0
    lo, hi = np.clip(lo, -1e280, 1e280), np.clip(hi, -1e280, 1e280)
    below, above = (np.where(known & (slope > 1e-290), slope, 0.0) for slope in (below, above))
    if kind == "Sigmoid":
        return below, gap(lo, hi, below), above, up(1 - gap(-hi, -lo, above))
    floor, ceiling = gap(2 * lo, 2 * hi, below / 4), gap(-2 * hi, -2 * lo, above / 4)  # tanh(z) = 2 S(2 z) - 1
    return below, down(2 * floor - 1), above, up(1 - 2 * ceiling)
def forward(step, spans):
    kind, c, sources, _ = step
    lo, hi = spans[sources[0]]
    if kind in ("dense", "pick", "conv"):
        size, least_of, _, k, _ = linear(kind, c)
        error = over(gamma(2 * k + 2) * at_most(size(size_of(lo, hi)), k) + 4 * k * TINY)
        return down(least_of(lo, hi) - error), up(-least_of(-hi, -lo) + error)
    if kind == "Relu":
        return np.maximum(lo, 0), np.maximum(hi, 0)
    if kind == "Sigmoid":
        return logistic(lo)[0], logistic(hi)[1]
    if kind == "Tanh":
        return np.maximum(down(2 * logistic(2 * lo)[0] - 1), -1), np.minimum(up(2 * logistic(2 * hi)[1] - 1), 1)
    if kind == "sum":
        ends = [lo, hi], [other * c for other in spans[sources[1]][::int(c)]]
        return down(ends[0][0] + ends[1][0]), up(ends[0][1] + ends[1][1])
    ends = {"add": np.add, "times": np.multiply, "over": np.divide}[kind]([lo, hi], c)
    return down(np.minimum(*ends)), up(np.maximum(*ends))
def evaluate(A, c, e, lo, hi):
    k = 2 * A.shape[1]
    size = at_most(abs(A) @ size_of(lo, hi), k) + abs(c)
    bound = down(least(A, lo, hi) + c - over(e + gamma(k + 3) * size + 2 * k * TINY))
    return np.where(np.isfinite(bound), bound, -INF)
def walk(at, A, c, e, steps, spans, slopes):
    """The best lower bound of rows over step `at`, wherever they stand on one step alone on the way back to the box."""
    best, pending = np.full(len(A), -INF), {at: A}
    for at in range(at, -1, -1):
        A = pending.pop(at, None)
        if A is None:
            continue
        if not pending:
            best = np.maximum(best, evaluate(A, c, e, *spans[at]))
        kind, const, sources, n = steps[at]
        if not sources:
            break
        size = size_of(*spans[sources[0]])
        tiny = 8 * n * TINY * (1 + size.sum())
        if kind in ("dense", "pick", "conv"):
            size_of_image, _, back, k, terms = linear(kind, const)
            e = over(e + gamma(terms + 2) * at_most(abs(A) @ at_most(size_of_image(size), k), n) + terms * tiny)
            moved = [back(A)]
        elif kind == "add":
            e = over(e + gamma(n + 2) * (at_most(abs(A) @ abs(const), n) + abs(c)) + tiny)
            c, moved = c + A @ const, [A]
        elif kind == "sum":
            moved = [A, A * const]
        elif kind in CURVES:
            below, floor, above, ceiling = relax(kind, *spans[sources[0]], *slopes[at])
            up_, down_ = np.minimum(A, 0), np.maximum(A, 0)
            shift = down_ @ floor + up_ @ ceiling
            moved = [np.where(A >= 0, A * below, A * above)]
            sizes = at_most(down_ @ abs(floor) - up_ @ abs(ceiling), 2 * n)
            e = over(e + gamma(2) * at_most(abs(moved[0]) @ size, n) + gamma(2 * n + 2) * (sizes + abs(c)) + tiny)
            c = c + shift
        else:
            moved = [A * const if kind == "times" else A / const]
            e = over(e + gamma(2) * at_most(abs(moved[0]) @ size, n) + tiny)
        for source, A in zip(sources, moved):
            if source in pending:  # paths meet
                A = A + pending[source]
                e = over(e + gamma(2) * at_most(abs(A) @ size_of(*spans[source]), A.shape[1]))
            pending[source] = A
    return best

# ---- The proof
def check(proof, net, prop):
    steps, output = network(net)
    sizes = [steps[0][3], steps[output][3]]
    *declared, queries = properties(prop.decode())
    demand(sizes == declared, "the property does not fit the network")
    lines = [l.split() for l in proof.decode().splitlines() if l.strip() and not l.strip().startswith("#")][::-1]

    def take(*words, more=0):
        """The next line, which must begin with these words; the `more` numbers behind them."""
        line = lines.pop() if lines else ["nothing"]
        start, numbers = [str(word) for word in words], line[len(words):]
        demand(line[:len(words)] == start and len(numbers) == more, f"expected {start} and {more} numbers, found {line[:4]}")
        demand(all(re.fullmatch(DECIMAL, x) and math.isfinite(float(x)) for x in numbers), f"no finite numbers in {line[:4]}")
        return numbers
    take("wavehull-proof", 1)
    take("network", "sha256:" + hashlib.sha256(net).hexdigest())
    take("property", "sha256:" + hashlib.sha256(prop).hexdigest())
    take("soundness", "trust-f32" if lines and lines[-1][-1] == "trust-f32" else "strict")

    def refine(q, number, source, spans, slopes, step):
        """Reads a layer; narrows the bounds in front of it to what can be derived; the slopes of its lines."""
        lo, hi = spans[source]
        take("layer", number, lo.size)
        below = np.array(take("slopes", more=lo.size), dtype=float)
        above = below if step[0] == "Relu" else np.array(take("upper", more=lo.size), dtype=float)
        demand(all(((slope >= 0) & (slope <= 1)).all() for slope in (below, above)), "a slope is not in [0, 1]")
        refined = []
        while lines and lines[-1][0] == "refine":
            refined.append(take("refine", more=3))
        listed, claim = [int(r[0]) for r in refined], np.array([r[1:] for r in refined], dtype=float).reshape(-1, 2)
        demand(listed == sorted(set(listed)) and all(0 <= j < lo.size for j in listed), "refined neurons out of order")
        derived = []
        for start in range(0, len(listed), 256):
            unit = np.eye(lo.size)[listed[start:start + 256]]
            zero = np.zeros(2 * len(unit))
            derived.append(np.split(walk(source, np.concatenate([unit, -unit]), zero, zero, steps, spans, slopes), 2))
        if listed:
            floor, ceiling = np.concatenate(derived, axis=1)
            lo[listed], hi[listed] = np.maximum(lo[listed], floor), np.minimum(hi[listed], -ceiling)
            tight = ~((claim[:, 0] <= lo[listed]) & (claim[:, 1] >= hi[listed]))
            which = f"query {q}, layer {number}, neuron {listed[tight.argmax()]}"
            demand(not tight.any(), f"{which} is not shown to be in its bounds")
        return below, above
    worst = INF
    for q, (lo, hi, conjunctions) in enumerate(queries):
        take("query", q)
        spans = [tuple(np.array([outward(x, s) for x in end]) for end, s in ((lo, -1), (hi, 1)))]
        slopes, number = {}, 0
        for at, step in enumerate(steps[1:], 1):
            if step[0] in CURVES:
                (source,) = step[2]
                slopes[at] = refine(q, number, source, spans, slopes, step)
                number += 1
            spans.append(forward(step, spans))
        for number, rows in enumerate(conjunctions):
            row, claim = take("claim", number, more=2)
            demand(row in map(str, range(len(rows))), f"conjunction {number} of query {q} has no row {row}")
            factors, constant, strict = rows[int(row)]  # factors are small whole numbers
            A, c = np.array([[float(factors.get(i, 0)) for i in range(sizes[1])]]), np.array([float(constant)])
            slack = np.array([outward(abs(Fraction(c[0]) - constant), 1)])
            bound = walk(output, A, c, slack, steps, spans, slopes)[0]
            enough = float(claim) > 0 or strict and float(claim) == 0
            demand(enough and float(claim) <= bound, f"query {q}, conjunction {number}: the claim is {claim}, derived is {bound}")
            worst = min(worst, bound)
    take("end")
    demand(not lines, "there is text after `end`")
    return len(queries), worst

if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(print(__doc__) or 2)
    try:
        data = [open(name, "rb").read() for name in sys.argv[1:]]
        with np.errstate(all="ignore"):
            queries, worst = check(data[0], *(gzip.decompress(d) if d[:2] == b"\x1f\x8b" else d for d in data[1:]))
    except Exception as why:  # whatever a damaged file does to the readers above: it is not accepted
        sys.exit(print(f"refused: {why if isinstance(why, ValueError) else repr(why)}") or 1)
    print(f"accepted: {queries} queries, every claimed row is at least {worst:.6g}")
