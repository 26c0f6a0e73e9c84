#!/usr/bin/env python3
"""Training arrays in PyTorch: B models with Adam and B learning rates, one by one, with torch.func.vmap, and (perceptrons) with hand-written baddbmm.

Prints one JSON line a variant: samples a second over all members, median of several runs, the variants interleaved. `wavehull bench train` has the same networks,
batch and optimiser. f32 throughout (TF32 is off). Needs torch >= 2.0.
"""
import argparse
import json
import statistics
import time

import torch
from torch import nn
from torch.func import functional_call, grad, replace_all_batch_norm_modules_, stack_module_state, vmap

import torch_networks as networks

WIDTHS = {"mlp_16_32_32_10": [16, 32, 32, 10], "mlp_784_256_128_10": [784, 256, 128, 10]}
# Name: module, shape of a sample, classes, whether samples are tokens.
NETS = {
    **{name: (lambda w=w: networks.mlp(w), [w[0]], w[-1], False) for name, w in WIDTHS.items()},
    "lenet": (lambda: networks.lenet(10), [1, 28, 28], 10, False),
    "resnet18": (lambda: networks.resnet18(10, 64), [3, 32, 32], 10, False),
    "pointnet": (lambda: networks.pointnet(10, True), [3, 1024], 10, False),
    "transformer": (lambda mask=None: networks.transformer(96, 64, 128, 4, 2, mask), [64], 96, True),
}


def rates(members, device):
    return torch.logspace(-4, -2, members, device=device)


def loss_of(logits, y):
    return nn.functional.cross_entropy(logits.flatten(0, -2), y.flatten())


class Serial:
    """One model after the other; `fused`: torch's one-pass Adam; `compiled`: torch.compile."""

    def __init__(self, make, members, device, fused=False, compiled=False):
        self.models = [make().to(device) for _ in range(members)]
        self.optimisers = [
            torch.optim.Adam(m.parameters(), lr=float(lr), fused=fused or None) for m, lr in zip(self.models, rates(members, "cpu"))
        ]
        self.run = torch.compile(lambda m, x, y: loss_of(m(x), y)) if compiled else lambda m, x, y: loss_of(m(x), y)

    def step(self, x, y):
        for model, optimiser in zip(self.models, self.optimisers):
            optimiser.zero_grad(set_to_none=True)
            self.run(model, x, y).backward()
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
    """Batch norms without running statistics, which vmap cannot update in place."""

    def __init__(self, make, members, device):
        models = [replace_all_batch_norm_modules_(make()).to(device) for _ in range(members)]
        stacked, self.buffers = stack_module_state(models)
        self.names = list(stacked)
        base = models[0]

        def loss(parameters, buffers, x, y):
            return loss_of(functional_call(base, (parameters, buffers), (x,)), y)

        self.gradient = vmap(grad(loss), in_dims=(0, 0, None, None), randomness="different")
        self.start([stacked[n].detach() for n in self.names], members, device)

    def step(self, x, y):
        g = self.gradient(dict(zip(self.names, self.parameters)), self.buffers, x, y)
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
    parser.add_argument("--net", choices=NETS, action="append", help="default: the perceptrons and LeNet")
    parser.add_argument("--members", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true", help="one by one with torch.compile, too")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of a run, about")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.manual_seed(0)
    for name in args.net or [*WIDTHS, "lenet"]:
        module, shape, classes, tokens = NETS[name]
        size = (args.batch, *shape)
        x = (torch.randint(classes, size) if tokens else torch.randn(size)).to(args.device)
        y = torch.randint(classes, size if tokens else size[:1]).to(args.device)
        make = (module, args.members, args.device)
        makers = {
            "one by one": lambda: Serial(*make),
            "one by one, fused Adam": lambda: Serial(*make, fused=True),
            "vmap": lambda: Vmap((lambda: module(networks.causal)) if tokens else module, *make[1:]),
        }
        if args.compile:
            makers["one by one, compiled"] = lambda: Serial(*make, compiled=True)
        if name in WIDTHS:
            makers["baddbmm"] = lambda: Bmm(WIDTHS[name], *make[1:])
        wait = torch.cuda.synchronize if args.device.startswith("cuda") else lambda: None

        def timed(variant, steps):
            wait()
            start = time.perf_counter()
            for _ in range(steps):
                variant.step(x, y)
            wait()
            return time.perf_counter() - start

        variants, steps, found = {}, {}, {}
        for key, maker in makers.items():
            try:  # fused Adam is not on every device and version, and memory may not do
                variant = maker()
                timed(variant, 3)
                steps[key] = max(1, int(args.seconds / max(timed(variant, 3) / 3, 1e-6)))
            except RuntimeError as error:
                print(json.dumps({"name": name, "variant": key, "error": str(error).splitlines()[0]}))
                continue
            variants[key], found[key] = variant, []
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
