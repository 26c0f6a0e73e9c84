"""CROWN by auto_LiRPA on the published CIFAR-10 ResNets, beside `wavehull verify` on the same instances (development only).

Plain CROWN (every neuron of every layer back-substituted; H. Zhang et al., NeurIPS 2018; K. Xu et al., NeurIPS 2020) on the
first BATCH instances of vnncomp/cifar10_resnet, all in one call, f32 with TF32 off, lower bounds of the nine margins.

    WAVEHULL_SHARED=FOLDER python resnet_lirpa.py [--device cuda|cpu] [--threads N] [--batch 8] [--runs 5] [--json FILE]

Prints the median milliseconds an input, the spread, and the mean worst margin: resnet_2b's first eight have 0.3874 (plain CROWN
in f64). The JSON has the schema of `wavehull bench --json` (docs/json.md), the margins in `note`.
"""

import argparse
import gzip
import inspect
import json
import os
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
try:
    import numpy as np
    import soundness_model as model  # readers of Protobuf and VNN-LIB
    import torch
    from auto_LiRPA import BoundedModule, BoundedTensor, PerturbationLpNorm
    from crown_torch import entry, missing
except ImportError as error:
    sys.exit(f"{error}\nhelp: pip install torch numpy auto_LiRPA (its 0.3 on PyPI runs with torch 2.2)")

NETWORKS = {"resnet_2b": "resnet2b_pgd_filtered/prop_{}_eps_0.008", "resnet_4b": "resnet4b_pgd_filtered/prop_{}_eps_0.004"}


def fit_to_torch():
    """auto_LiRPA 0.3 overrides a method that torch from 2.0 on calls with one argument more, which does what it does anyway."""
    old = BoundedModule._named_members
    if "remove_duplicate" not in inspect.signature(old).parameters:
        BoundedModule._named_members = lambda self, get, prefix="", recurse=True, remove_duplicate=True: old(self, get, prefix, recurse)


class Network(torch.nn.Module):
    """An ONNX file with Conv, Gemm, Relu, Add and Flatten as a torch module, node for node."""

    def __init__(self, path):
        super().__init__()
        graph = dict(model.fields(gzip.decompress(path.read_bytes())))[7]
        pairs = list(model.fields(graph))
        tensors = dict(tensor(value) for number, value in pairs if number == 5)
        self.steps, self.layers = [], torch.nn.ModuleList()
        for number, value in pairs:
            if number == 1:
                self.append(tensors, *node(value))

    def append(self, tensors, op, inputs, output, attributes):
        sources = inputs
        if op == "Conv":
            stride, pad = attributes["strides"][0], attributes["pads"][0]
            outs, ins, size, _ = tensors[inputs[1]].shape
            self.layers.append(torch.nn.Conv2d(ins, outs, size, stride, pad))
        elif op == "Gemm":
            if attributes.get("transB") != [1]:
                sys.exit("a Gemm without transB is not read here")
            outs, ins = tensors[inputs[1]].shape
            self.layers.append(torch.nn.Linear(ins, outs))
        elif op in ("Relu", "Flatten"):
            self.layers.append(torch.nn.ReLU() if op == "Relu" else torch.nn.Flatten())
        elif op != "Add":
            sys.exit(f"the operator {op} is not read here")
        if op in ("Conv", "Gemm"):
            self.layers[-1].weight.data, self.layers[-1].bias.data = tensors[inputs[1]], tensors[inputs[2]]
            sources = inputs[:1]
        self.steps.append((None if op == "Add" else len(self.layers) - 1, sources, output))

    def forward(self, x):
        values = {self.steps[0][1][0]: x}
        for layer, sources, output in self.steps:
            operands = [values[name] for name in sources]
            values[output] = operands[0] + operands[1] if layer is None else self.layers[layer](operands[0])
        return values[self.steps[-1][2]]


def tensor(message):
    pairs = list(model.fields(message))
    named = dict(pairs)
    data = np.frombuffer(named[9], "<f4").reshape([v for n, v in pairs if n == 1])
    return named[8].decode(), torch.tensor(data.copy())


def node(message):
    pairs = list(model.fields(message))
    attributes = {}
    for raw in (v for n, v in pairs if n == 5):
        parts = list(model.fields(raw))
        attributes[dict(parts)[1].decode()] = model.integers(parts, 8) or model.integers(parts, 3)
    inputs = [v.decode() for n, v in pairs if n == 1]
    return dict(pairs)[4].decode(), inputs, next(v for n, v in pairs if n == 2).decode(), attributes


def problem(folder, name, batch):
    """The network, the ends of the boxes [batch, 3, 32, 32] and the rows y_label - y_other [batch, 9, 10]."""
    files = [folder / "vnnlib" / (NETWORKS[name].format(i) + ".vnnlib.gz") for i in range(batch)]
    boxes = [model.read_vnnlib(file) for file in files]
    low, high = (torch.tensor(np.array([box[end] for box, _ in boxes]), dtype=torch.float32) for end in (0, 1))
    rows = np.array([np.delete(np.eye(10)[label] - np.eye(10), label, axis=0) for _, label in boxes])
    shape = (batch, 3, 32, 32)
    network = Network(folder / "onnx" / f"{name}.onnx.gz").eval()
    return network, low.reshape(shape), high.reshape(shape), torch.tensor(rows, dtype=torch.float32)


def measured(folder, name, arguments, device):
    network, low, high, rows = (part.to(device) for part in problem(folder, name, arguments.batch))
    centre = (low + high) / 2
    bounded = BoundedModule(network, torch.zeros_like(low), device=device, verbose=False)
    point = BoundedTensor(centre, PerturbationLpNorm(norm=np.inf, x_L=low, x_U=high))
    sync = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    times, worst = [], None
    for _ in range(arguments.runs + 1):
        sync()
        start = time.perf_counter()
        lower, _ = bounded.compute_bounds(x=(point,), C=rows, method="CROWN", bound_upper=False)
        sync()
        times.append((time.perf_counter() - start) / arguments.batch)
        worst = lower.min(1).values
    times = times[1:]
    median = statistics.median(times)
    spread = statistics.median(abs(t - median) for t in times)
    # A bound that is above the value at the centre bounds nothing.
    right = bool((lower <= torch.einsum("bro,bo->br", rows, network(centre)) + 1e-3).all())
    margins = ", ".join(f"{margin:.5f}" for margin in worst.tolist())
    note = f"batch {arguments.batch}; mean worst margin {float(worst.mean()):.5f}; worst margins {margins}"
    label = f"crown_{name}_auto_lirpa"
    return entry(label, "verify", 1, "inputs", (median, spread, len(times)), 1, right, note)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=2, help="of the host")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", choices=tuple(NETWORKS))
    parser.add_argument("--json")
    arguments = parser.parse_args()
    shared = os.environ.get("WAVEHULL_SHARED")
    folder = Path(shared or ".") / "vnncomp" / "cifar10_resnet"
    if shared is None or not folder.is_dir():
        sys.exit("WAVEHULL_SHARED does not name a folder with vnncomp/cifar10_resnet\nhelp: scripts/get-vnncomp.sh FOLDER")
    fit_to_torch()
    torch.set_num_threads(arguments.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    device, entries = torch.device(arguments.device), []
    for name in [arguments.only] if arguments.only else NETWORKS:
        try:
            with torch.no_grad():
                e = measured(folder, name, arguments, device)
            print(f"{name}: {e['seconds'] * 1e3:.2f} ms an input, spread {e['spread'] / e['seconds']:.1%}, {e['check']}; {e['note']}", flush=True)
        except RuntimeError as error:
            e = missing(f"crown_{name}_auto_lirpa", "verify", str(error).splitlines()[0])
            print(f"{name}: {e['check']}", flush=True)
        entries.append(e)
    if arguments.json:
        where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {arguments.threads} threads"
        about = {"name": where, "backend": device.type, "driver": f"torch {torch.__version__}", "kind": "other", "software": False}
        report = {"schema": 1, "device": about, "version": torch.__version__, "quick": False, "seed": None}
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(report | {"stopped": False, "entries": entries}, file, indent=2)
    return int(any(e["check"].startswith("error") for e in entries))


if __name__ == "__main__":
    raise SystemExit(main())
