#!/usr/bin/env python3
"""Training arrays in PyTorch: B multilayer perceptrons with Adam and B learning rates, one by one, with torch.func.vmap, and with hand-written baddbmm.

Prints one JSON line a variant: samples a second over all members, median of several runs, the variants interleaved. `wavehull bench train` has the same networks,
batch and optimiser. Needs torch >= 2.0.
"""
import argparse
import json
import statistics
import time

import torch
from torch import nn
from torch.func import functional_call, grad, stack_module_state, vmap

SHAPES = {"mlp_16_32_32_10": [16, 32, 32, 10], "mlp_784_256_128_10": [784, 256, 128, 10]}


def mlp(widths):
    layers = []
    for a, b in zip(widths, widths[1:]):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def rates(members, device):
    return torch.logspace(-4, -2, members, device=device)


class Serial:
    """One model after the other; `fused`: torch's one-pass Adam."""

    def __init__(self, widths, members, device, fused):
        self.models = [mlp(widths).to(device) for _ in range(members)]
        self.optimisers = [
            torch.optim.Adam(m.parameters(), lr=float(lr), fused=fused or None) for m, lr in zip(self.models, rates(members, "cpu"))
        ]

    def step(self, x, y):
        for model, optimiser in zip(self.models, self.optimisers):
            optimiser.zero_grad(set_to_none=True)
            nn.functional.cross_entropy(model(x), y).backward()
            optimiser.step()


class Stacked:
    """Adam by hand on parameters with a leading member axis."""

    def start(self, parameters, members, device):
        self.parameters = parameters
        self.m = [torch.zeros_like(p) for p in parameters]
        self.v = [torch.zeros_like(p) for p in parameters]
        self.lr = rates(members, device)
        self.t = 0

    def update(self, gradients):
        self.t += 1
        c1, c2 = 1 - 0.9**self.t, 1 - 0.999**self.t
        for p, g, m, v in zip(self.parameters, gradients, self.m, self.v):
            m.mul_(0.9).add_(g, alpha=0.1)
            v.mul_(0.999).addcmul_(g, g, value=0.001)
            lr = (self.lr / c1).view(-1, *[1] * (p.dim() - 1))
            p.sub_(lr * m / ((v / c2).sqrt_().add_(1e-8)))


class Vmap(Stacked):
    def __init__(self, widths, members, device):
        models = [mlp(widths).to(device) for _ in range(members)]
        stacked, _ = stack_module_state(models)
        self.names = list(stacked)
        base = mlp(widths).to(device)
        loss = lambda p, x, y: nn.functional.cross_entropy(functional_call(base, p, (x,)), y)
        self.gradient = vmap(grad(loss), in_dims=(0, None, None))
        self.start([stacked[n].detach() for n in self.names], members, device)

    def step(self, x, y):
        g = self.gradient(dict(zip(self.names, self.parameters)), x, y)
        self.update([g[n] for n in self.names])


class Bmm(Stacked):
    def __init__(self, widths, members, device):
        parameters = []
        for a, b in zip(widths, widths[1:]):
            bound = a**-0.5
            parameters.append(torch.empty(members, a, b, device=device).uniform_(-bound, bound).requires_grad_())
            parameters.append(torch.empty(members, 1, b, device=device).uniform_(-bound, bound).requires_grad_())
        self.start(parameters, members, device)
        self.members = members

    def step(self, x, y):
        h = x.unsqueeze(0).expand(self.members, -1, -1)
        for i in range(0, len(self.parameters), 2):
            h = torch.baddbmm(self.parameters[i + 1], h, self.parameters[i])
            if i + 2 < len(self.parameters):
                h = torch.relu(h)
        rows = h.flatten(0, 1)
        loss = nn.functional.cross_entropy(rows, y.repeat(self.members)) * self.members
        gradients = torch.autograd.grad(loss, self.parameters)
        with torch.no_grad():
            self.update(gradients)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, action="append", help="default: all")
    parser.add_argument("--members", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of a run, about")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    for name in args.shape or SHAPES:
        widths = SHAPES[name]
        x = torch.randn(args.batch, widths[0], device=args.device)
        y = torch.randint(widths[-1], (args.batch,), device=args.device)
        make = (widths, args.members, args.device)
        makers = {
            "one by one": lambda: Serial(*make, False),
            "one by one, fused Adam": lambda: Serial(*make, True),
            "vmap": lambda: Vmap(*make),
            "baddbmm": lambda: Bmm(*make),
        }
        variants = {}
        for key, maker in makers.items():
            try:
                variants[key] = maker()
            except RuntimeError as error:  # fused Adam is not on every device and version
                print(json.dumps({"name": name, "variant": key, "error": str(error).splitlines()[0]}))
        wait = torch.cuda.synchronize if args.device.startswith("cuda") else lambda: None

        def timed(variant, steps):
            wait()
            start = time.perf_counter()
            for _ in range(steps):
                variant.step(x, y)
            wait()
            return time.perf_counter() - start

        steps, found = {}, {key: [] for key in variants}
        for key, variant in variants.items():
            timed(variant, 3)
            steps[key] = max(1, int(args.seconds / max(timed(variant, 3) / 3, 1e-6)))
        for _ in range(args.runs):
            for key in steps:
                found[key].append(steps[key] * args.members * args.batch / timed(variants[key], steps[key]))
        for key in steps:
            print(json.dumps({
                "name": name, "variant": key, "members": args.members, "batch": args.batch, "device": args.device, "torch": torch.__version__,
                "threads": args.threads, "samples_per_second": round(statistics.median(found[key])), "runs": args.runs,
            }))


if __name__ == "__main__":
    main()
