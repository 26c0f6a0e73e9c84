"""The work of `wavehull bench` by PyTorch on the same machine, for a table to stand beside ours (development only).

Plain CROWN (every neuron of every layer back-substituted; Zhang et al., NeurIPS 2018) on 784-256x4-10 networks, batch
15, radius 0.03, f32 with TF32 off; sgemm; a copy. With auto_LiRPA installed its CROWN runs too, as a row of its own.
Random weights differ from ours in their numbers, not in their distribution (He et al., biases of 0.1).

    python crown_torch.py [--device cuda|cpu] [--json FILE]

The JSON has the schema of `wavehull bench --json` (docs/json.md).
"""

import argparse
import json
import statistics
import time

import torch

BATCH, RADIUS, SEED = 15, 0.03, 7
WIDTHS = [784, 256, 256, 256, 256, 10]


def seconds_of(call, device, runs=5, total=0.3):
    """Median and median absolute deviation of the seconds of a call, the device's work included."""
    sync = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    call()
    sync()
    times = []
    while len(times) < runs or sum(times) < total:
        start = time.perf_counter()
        call()
        sync()
        times.append(time.perf_counter() - start)
    median = statistics.median(times)
    return median, statistics.median(abs(t - median) for t in times), len(times)


def network(dtype, device):
    torch.manual_seed(SEED)
    shapes = list(zip(WIDTHS[1:], WIDTHS))
    return [((torch.randn(o, i) * (2 / i) ** 0.5).to(device, dtype), (torch.randn(o) * 0.1).to(device, dtype)) for o, i in shapes]


def forward(layers, x):
    for weight, bias in layers[:-1]:
        x = torch.relu(x @ weight.T + bias)
    return x @ layers[-1][0].T + layers[-1][1]


def lower_bounds(layers, lines, k, rows, lo, hi):
    """Lower bounds [batch, r] of rows [batch, r, n_k] times the values of layer k before its ReLU."""
    constant = 0
    for j in range(k, -1, -1):
        weight, bias = layers[j]
        constant = constant + rows @ bias
        rows = rows @ weight
        if j:
            low, up, offset = (line[:, None, :] for line in lines[j - 1])
            negative = rows.clamp(max=0)
            constant = constant + (negative * offset).sum(-1)
            rows = rows.clamp(min=0) * low + negative * up
    ends = (rows.clamp(min=0) * lo[:, None, :] + rows.clamp(max=0) * hi[:, None, :]).sum(-1)
    return constant + ends


def crown(layers, lo, hi, rows):
    lines = []
    for k in range(len(layers) - 1):
        identity = torch.eye(layers[k][0].shape[0], dtype=lo.dtype, device=lo.device).expand(lo.shape[0], -1, -1)
        low = lower_bounds(layers, lines, k, identity, lo, hi)
        high = -lower_bounds(layers, lines, k, -identity, lo, hi)
        unstable = (low < 0) & (high > 0)
        slope = torch.where(unstable, high / (high - low).clamp(min=1e-30), (low >= 0).to(lo.dtype))
        area = torch.where(unstable, (high > -low).to(lo.dtype), slope)
        lines.append((area, slope, torch.where(unstable, -low * slope, torch.zeros_like(low))))
    return lower_bounds(layers, lines, len(layers) - 1, rows, lo, hi)


def problem(dtype, device):
    """The network, the boxes, and the rows y_class - y_other of every input."""
    layers = network(dtype, device)
    torch.manual_seed(SEED + 1)
    x = torch.rand(BATCH, WIDTHS[0]).to(device, dtype)
    classes = forward(layers, x).argmax(1)
    eye = torch.eye(10, dtype=dtype, device=device)
    rows = torch.stack([torch.stack([eye[c] - eye[o] for o in range(10) if o != c]) for c in classes.tolist()])
    return layers, (x - RADIUS).clamp(min=0), (x + RADIUS).clamp(max=1), rows


def crown_entry(device):
    layers, lo, hi, rows = problem(torch.float32, device)
    margins = crown(layers, lo, hi, rows)
    exact = crown(*problem(torch.float64, torch.device("cpu")))
    worst = ((margins.cpu().double() - exact).abs() / exact.abs().clamp(min=1)).max().item()
    timing = seconds_of(lambda: crown(layers, lo, hi, rows), device)
    return entry("crown_random_256x4_plain", "verify", 1, "inputs", timing, BATCH, worst <= 2e-3, f"{worst:.1e} from f64")


def lirpa_entry(device):
    try:
        import auto_LiRPA
    except ImportError:
        return missing("crown_random_256x4_auto_lirpa", "verify", "auto_LiRPA is not installed")
    layers, lo, hi, rows = problem(torch.float32, device)
    modules = []
    for weight, bias in layers:
        linear = torch.nn.Linear(weight.shape[1], weight.shape[0])
        linear.weight.data, linear.bias.data = weight, bias
        modules += [linear, torch.nn.ReLU()]
    model = auto_LiRPA.BoundedModule(torch.nn.Sequential(*modules[:-1]), lo, device=device)
    norm = auto_LiRPA.PerturbationLpNorm(norm=float("inf"), x_L=lo, x_U=hi)
    x = auto_LiRPA.BoundedTensor((lo + hi) / 2, norm)

    def call():
        return model.compute_bounds(x=(x,), C=rows, method="CROWN", bound_upper=False)[0]

    # Its lines may differ from ours where both slopes are as good, so the check is that it bounds the centre.
    y = forward(layers, (lo + hi) / 2)
    right = bool((call() <= torch.einsum("bro,bo->br", rows, y) + 1e-3).all())
    timing = seconds_of(call, device)
    version = getattr(auto_LiRPA, "__version__", "of unknown version")
    return entry("crown_random_256x4_auto_lirpa", "verify", 1, "inputs", timing, BATCH, right, f"auto_LiRPA {version}")


def sgemm_entry(n, device):
    torch.manual_seed(SEED)
    a, b = (torch.rand(n, n) * 2 - 1 for _ in range(2))
    (x, y) = (a.to(device), b.to(device))
    row = n // 2
    exact, size = a[row].double() @ b.double(), a[row].double().abs() @ b.double().abs()
    right = bool((((x @ y)[row].cpu().double() - exact).abs() <= n * 2**-23 / (1 - n * 2**-23) * size).all())
    timing = seconds_of(lambda: x @ y, device)
    return entry(f"sgemm_{n}", "matmul", 2 * n**3, "FLOP", timing, 1, right, None)


def copy_entry(device):
    x = torch.randint(0, 1 << 30, ((256 if device.type == "cuda" else 64) << 18,), dtype=torch.int32, device=device)
    y = torch.empty_like(x)
    timing = seconds_of(lambda: y.copy_(x), device)
    return entry("copy", "device", 8 * x.numel(), "B", timing, 1, bool((x == y).all()), f"{x.numel() >> 18} MiB")


def missing(name, group, why):
    empty = dict.fromkeys(["work", "seconds", "spread", "rate", "roof", "share", "clock", "wall", "compile", "transfer", "runs", "note"])
    return {"name": name, "group": group, "unit": "", **empty, "check": f"n/a: {why}"}


def entry(name, group, work, unit, timing, parts, right, note):
    seconds, spread, runs = (timing[0] / parts, timing[1] / parts, timing[2])
    made = missing(name, group, "")
    made.update(work=work, unit=unit, seconds=seconds, spread=spread, rate=work / seconds, clock="wall", wall=seconds, runs=runs)
    made.update(check="ok" if right else "error: wrong answer", note=note)
    return made


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    torch.backends.cuda.matmul.allow_tf32 = False
    cuda = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if cuda else f"CPU, {torch.get_num_threads()} threads"
    with torch.no_grad():
        entries = [copy_entry(device)]
        entries += [sgemm_entry(n, device) for n in (512, 1024, 4096)]
        entries += [crown_entry(device), lirpa_entry(device)]
    driver = f"torch {torch.__version__}" + (f", CUDA {torch.version.cuda}" if cuda else "")
    about = {"name": name, "backend": device.type, "driver": driver, "kind": "discrete" if cuda else "other", "software": False}
    report = {"schema": 1, "device": about, "version": torch.__version__, "quick": False, "seed": SEED, "stopped": False, "entries": entries}
    print(f"{name}, {driver}")
    for e in entries:
        figures = f"{e['seconds'] * 1e3:10.3f} ms  {e['rate']:10.3e} {e['unit']}/s" if e["seconds"] else "n/a"
        print(f"{e['name']:32} {figures}  {e['check']}" + (f"; {e['note']}" if e["note"] else ""))
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=2)
    return int(any(e["check"].startswith("error") for e in entries))


if __name__ == "__main__":
    raise SystemExit(main())
