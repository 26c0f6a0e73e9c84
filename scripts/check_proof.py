#!/usr/bin/env python3
"""Re-checks a wavehull proof with nothing but Python and numpy, for those who trust neither the GPU nor the Rust code.

Usage: python3 scripts/check_proof.py PROOF NETWORK.onnx[.gz] PROPERTY.vnnlib[.gz]
Exit code 0: the proof establishes the property; 1: it does not, or cannot be checked (the reason is printed); 2: usage.

It takes choices from the proof (slopes, which neurons were refined, which rows are positive) and derives every bound
itself in f64. Every rounding is covered outward: a sum of K products in any order errs by at most
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
def tensor(b):
    demand(every(b, 2) == [1] and not every(b, 13) and not every(b, 14), "a constant is not float, or not in the file")
    packed = lambda d: [varint(part, 0)[0] for part in re.findall(rb"[\x80-\xff]*[\0-\x7f]", d)]
    shape = [size for d in every(b, 1) for size in ([d] if isinstance(d, int) else packed(d))]
    data = np.frombuffer(b"".join(every(b, 9) or every(b, 4)), "<f4").astype(np.float64).reshape(shape)
    demand(np.isfinite(data).all(), "a weight is not finite")
    return data
def network(data):
    """Steps on the flat vector: ("dense", W), ("add", c), ("times", c), ("over", c), ("relu", None); both lengths."""
    graph = every(data, 7)[0]
    known = {every(t, 8)[0]: t for t in every(graph, 5)}
    (entry,) = [i for i in every(graph, 11) if every(i, 1)[0] not in known]
    (result,) = every(graph, 12)
    dims = every(every(every(every(entry, 2)[0], 1)[0], 2)[0], 1)
    value = np.zeros([max(1, (every(d, 1) or [1])[0]) for d in dims])  # only its shape matters; open dimensions are 1
    first, steps, current = value.size, [], every(entry, 1)[0]
    for node in every(graph, 1):
        op, ins, attr = every(node, 4)[0].decode(), every(node, 1), {every(a, 1)[0]: a for a in every(node, 5)}
        flag = lambda name, otherwise=0: (every(attr[name], 3) or [0])[0] if name in attr else otherwise
        real = lambda name: struct.unpack("<f", every(attr[name], 2)[0])[0] if name in attr else 1.0
        (out,) = every(node, 2)
        demand(every(node, 7) in ([], [b""], [b"ai.onnx"]), f"{op} is not ONNX's own")
        if op == "Constant":
            known[out] = every(attr[b"value"], 5)[0]
            continue
        demand(current in ins[:2] and ins.count(current) == 1, f"{op} does not follow the node before it")
        side = ins.index(current)
        if op == "Relu":
            steps.append(("relu", None))
        elif op == "Flatten":
            value = value.reshape(math.prod(value.shape[:flag(b"axis", 1)]), -1)
        else:
            demand(op in ("Gemm", "MatMul", "Add", "Sub", "Mul", "Div") and b"broadcast" not in attr, f"{op} is not known")
            demand(all(name in known for name in ins if name != current), f"{op} of two computed values")
            c = tensor(known[ins[1 - side]])
            if op in ("Gemm", "MatMul"):
                trans = flag(b"transA"), flag(b"transB")
                value, c = value.T if trans[side] else value, c.T if trans[1 - side] else c
                demand(c.ndim == 2 and value.ndim == 2 and value.shape[side] == 1, f"{op} of more than one vector")
                steps.append(("dense", (c.T if side == 0 else c) * real(b"alpha")))
                value = value @ c if side == 0 else c @ value
                c, op, side = tensor(known[ins[2]]) * real(b"beta") if len(ins) > 2 else np.zeros(1), "Add", 0
            size, value = value.size, value + 0 * c
            demand(value.size == size and (op != "Div" or side == 0 and c.all()), f"{op} repeats a value or divides by 0")
            c = np.broadcast_to(c, value.shape).ravel()
            steps += [("times", -np.ones(size))] if op == "Sub" and side == 1 else []
            steps.append(({"Mul": "times", "Div": "over"}.get(op, "add"), -c if op == "Sub" and side == 0 else c))
        current = out
    demand(every(result, 1)[0] == current, "the output is not the last node's")
    return steps, first, value.size

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

# ---- Bounds. For every input in the box, the bounded quantity is at least A x + c - e
def size_of(lo, hi): return np.maximum(abs(lo), abs(hi))
def least(A, lo, hi): return np.maximum(A, 0) @ lo + np.minimum(A, 0) @ hi
def forward(kind, c, lo, hi):
    if kind == "dense":
        k = 2 * c.shape[1]
        error = over(gamma(k + 2) * at_most(abs(c) @ size_of(lo, hi), k) + 2 * k * TINY)
        return down(least(c, lo, hi) - error), up(-least(-c, lo, hi) + error)
    ends = {"add": np.add, "times": np.multiply, "over": np.divide}[kind]([lo, hi], c)
    return down(np.minimum(*ends)), up(np.maximum(*ends))
def evaluate(A, c, e, lo, hi):
    k = 2 * A.shape[1]
    size = at_most(abs(A) @ size_of(lo, hi), k) + abs(c)
    bound = down(least(A, lo, hi) + c - over(e + gamma(k + 3) * size + 2 * k * TINY))
    return np.where(np.isfinite(bound), bound, -INF)
def walk(A, c, e, steps, spans, slopes):
    """The best lower bound of the rows over the newest span, the span behind every ReLU, and the box."""
    best, relu = evaluate(A, c, e, *spans[-1]), len(slopes)
    for (kind, const), (lo, hi) in zip(reversed(steps[:len(spans) - 1]), reversed(spans[:-1])):
        n, size = A.shape[1], size_of(lo, hi)
        tiny = 4 * n * TINY * (1 + size.sum())
        if kind == "dense":
            e = over(e + gamma(n + 2) * at_most(abs(A) @ at_most(abs(const) @ size, size.size), n) + tiny)
            A = A @ const
        elif kind == "add":
            e = over(e + gamma(n + 2) * (at_most(abs(A) @ abs(const), n) + abs(c)) + tiny)
            c = c + A @ const
        elif kind == "relu":
            relu -= 1
            best = np.maximum(best, evaluate(A, c, e, np.maximum(lo, 0), np.maximum(hi, 0)))
            cross = (lo < 0) & (hi > 0)
            l, h = np.where(cross, lo, -1.0), np.where(cross, hi, 1.0)
            above = np.minimum(h / (h - l), 1.0)
            offset = np.where(cross, np.maximum(up(-l * above), up(h * up(1 - above))), 0.0)
            above, below = (np.where(cross, s, np.where(hi > 0, 1.0, 0.0)) for s in (above, slopes[relu]))
            shift, A = np.minimum(A, 0) @ offset, np.where(A >= 0, A * below, A * above)
            e = over(e + gamma(2) * at_most(abs(A) @ size, n) + gamma(n + 2) * (at_most(-shift, n) + abs(c)) + tiny)
            c = c + shift
        else:
            A = A * const if kind == "times" else A / const
            e = over(e + gamma(2) * at_most(abs(A) @ size, n) + tiny)
    return np.maximum(best, evaluate(A, c, e, *spans[0]))

# ---- The proof
def check(proof, net, prop):
    steps, *sizes = network(net)
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
    worst = INF
    for q, (lo, hi, conjunctions) in enumerate(queries):
        take("query", q)
        spans, slopes = [tuple(np.array([outward(x, s) for x in end]) for end, s in ((lo, -1), (hi, 1)))], []
        for kind, const in steps:
            if kind != "relu":
                spans.append(forward(kind, const, *spans[-1]))
                continue
            lo, hi = spans[-1]
            take("layer", len(slopes), lo.size)
            slope, refined = np.array(take("slopes", more=lo.size), dtype=float), []
            demand(((slope >= 0) & (slope <= 1)).all(), "a slope is not in [0, 1]")
            while lines and lines[-1][0] == "refine":
                refined.append(take("refine", more=3))
            if refined:
                listed, claim = [int(r[0]) for r in refined], np.array([r[1:] for r in refined], dtype=float)
                demand(listed == sorted(set(listed)) and 0 <= listed[0] and listed[-1] < lo.size, "refined neurons out of order")
                unit, zero = np.eye(lo.size)[listed], np.zeros(2 * len(listed))
                below, above = np.split(walk(np.concatenate([unit, -unit]), zero, zero, steps, spans, slopes), 2)
                lo[listed], hi[listed] = np.maximum(lo[listed], below), np.minimum(hi[listed], -above)
                tight = ~((claim[:, 0] <= lo[listed]) & (claim[:, 1] >= hi[listed]))
                which = f"query {q}, layer {len(slopes)}, neuron {listed[tight.argmax()]}"
                demand(not tight.any(), f"{which} is not shown to be in its bounds")
            slopes.append(slope)
            spans.append((np.maximum(lo, 0), np.maximum(hi, 0)))
        for number, rows in enumerate(conjunctions):
            row, claim = take("claim", number, more=2)
            demand(row in map(str, range(len(rows))), f"conjunction {number} of query {q} has no row {row}")
            factors, constant, strict = rows[int(row)]  # factors are small whole numbers
            A, c = np.array([[float(factors.get(i, 0)) for i in range(sizes[1])]]), np.array([float(constant)])
            bound = walk(A, c, outward(abs(Fraction(c[0]) - constant), 1), steps, spans, slopes)[0]
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
