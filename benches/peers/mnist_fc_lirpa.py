"""CROWN by auto_LiRPA on the 15 boxes of mnist_fc 256x4 at 0.03, for the rows `crown_mnist_fc_256x4_*` (development only).

    WAVEHULL_SHARED=FOLDER python benches/peers/mnist_fc_lirpa.py [--threads 2]

Prints the median milliseconds an input of one call of compute_bounds (f32, batch of 15, lower bounds of 9 margins), its
spread, and the mean worst margin, which must be that of `wavehull bench`'s network without intersection: -3.328.
"""

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch
from auto_LiRPA import BoundedModule, BoundedTensor, PerturbationLpNorm

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
import soundness_model as model  # noqa: E402  (readers of ONNX and VNN-LIB)

FOLDER = Path(os.environ["WAVEHULL_SHARED"]) / "vnncomp" / "mnist_fc"


def network():
    layers = []
    for node in model.read_onnx(FOLDER / "onnx/mnist-net_256x4.onnx.gz", (784,)).nodes:
        if node.kind == "linear":
            layer = torch.nn.Linear(node.weight.shape[1], node.weight.shape[0])
            layer.weight.data = torch.tensor(node.weight, dtype=torch.float32)
            layer.bias.data = torch.tensor(node.bias, dtype=torch.float32)
            layers.append(layer)
        else:
            layers.append(torch.nn.ReLU())
    return torch.nn.Sequential(*layers)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    torch.set_num_threads(parser.parse_args().threads)
    boxes = [model.read_vnnlib(FOLDER / f"vnnlib/prop_{i}_0.03.vnnlib.gz") for i in range(15)]
    low, high = (torch.tensor(np.array([box[end] for box, _ in boxes]), dtype=torch.float32) for end in (0, 1))
    rows = np.array([np.delete(np.eye(10)[label] - np.eye(10), label, axis=0) for _, label in boxes])
    rows = torch.tensor(rows, dtype=torch.float32)
    bounded = BoundedModule(network(), torch.zeros_like(low), verbose=False)
    point = BoundedTensor((low + high) / 2, PerturbationLpNorm(norm=np.inf, x_L=low, x_U=high))
    times, margin = [], 0.0
    with torch.no_grad():
        for _ in range(12):
            start = time.perf_counter()
            lower, _ = bounded.compute_bounds(x=(point,), C=rows, method="CROWN", bound_upper=False)
            times.append((time.perf_counter() - start) / len(boxes))
            margin = float(lower.min(1).values.mean())
    median = statistics.median(times[2:])
    spread = statistics.median(abs(t - median) for t in times[2:])
    print(f"{median * 1e3:.2f} ms an input, spread {spread / median:.1%}, mean worst margin {margin:.3f}, torch {torch.__version__}")


if __name__ == "__main__":
    main()
