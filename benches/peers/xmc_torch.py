#!/usr/bin/env python3
"""Wide output layers in PyTorch: one hidden layer, softmax over all labels or over a sampled set, on data in the Extreme Classification text format.

Modes:
  full     every label; dense Adam over both tables. --precision bf16 or fp16: its three products with matrix units, f32 weights; --compile
  sampled  the batch's labels and --negatives uniform ones, one set for the whole batch, no duplicates; Adam on the touched rows only (moments of
           other rows rest, bias correction by the global step). --log-q subtracts the log of each label's chance to be in the set
All: input rows summed by value, ReLU, target 1/labels for each of a sample's labels, mean over the batch; weights N(0, 0.01), biases 0;
f32, TF32 off. Gradients are written out: no autograd, no temporary of a table's size but the dense gradients.

Time: a step includes making its batch, not evaluation; 10th percentile and mean. Prints a line a look at the test part and, last, JSON (--json: to a
file as well), whose `curve` has for every look the steps, the seconds spent in them, and P@1, P@3, P@5 of all test samples with labels. Looks are at
the steps at which `wavehull hash train` looks; scripts/compare_hash.py runs both.
Needs torch >= 2.0 and numpy. --synthetic LABELS: Amazon-670K-like random data instead of files, for speed alone.
"""
import argparse
import gzip
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8
HALF = {"f32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def ranges(starts, counts):
    """[start, start + count) for each pair, end to end."""
    ends = np.cumsum(counts)
    return np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - counts - starts, counts)


def parse(path):
    """Label offsets, labels, feature offsets, features, values; all numbers of the file are read in one call."""
    opener = gzip.open if str(path).endswith(".gz") else open
    with opener(path, "rb") as file:
        header = file.readline().split()
        body = file.read()
    if len(header) != 3:
        raise SystemExit(f"{path}: the first line is not 'samples features labels'")
    samples, features, labels = map(int, header)
    if not body.endswith(b"\n"):
        body += b"\n"
    raw = np.frombuffer(body, np.uint8)
    ends = np.flatnonzero(raw == 10)
    starts = np.concatenate([[0], ends[:-1] + 1])
    if len(starts) != samples:
        raise SystemExit(f"{path}: {len(starts)} samples, the header says {samples}")

    def in_lines(byte):
        return np.diff(np.searchsorted(np.flatnonzero(raw == byte), np.concatenate([starts, [len(raw)]])))

    n_labels = np.where((raw[starts] == 32) | (raw[starts] == 10), 0, in_lines(ord(",")) + 1)
    n_features = in_lines(ord(":"))
    numbers = np.fromstring(body.translate(bytes.maketrans(b",:\n", b"   ")).decode(), sep=" ")
    width = n_labels + 2 * n_features
    if len(numbers) != width.sum():
        raise SystemExit(f"{path}: not in the Extreme Classification format")
    first = np.cumsum(width) - width
    y = numbers[ranges(first, n_labels)].astype(np.int64)
    at = np.repeat(first + n_labels - 2 * (np.cumsum(n_features) - n_features), n_features) + 2 * np.arange(n_features.sum())
    x, values = numbers[at].astype(np.int64), numbers[at + 1].astype(np.float32)
    if (len(y) and not 0 <= y.min() <= y.max() < labels) or (len(x) and not 0 <= x.min() <= x.max() < features):
        raise SystemExit(f"{path}: an id is out of range")
    offsets = [np.concatenate([[0], np.cumsum(n)]) for n in (n_labels, n_features)]
    return (offsets[0], y, offsets[1], x, values), features, labels


def synthetic(samples, labels, seed):
    """Numbers of the shape of Amazon-670K: 135,909 features, about 78 non-zeros, 5.26 labels; both Zipf-like. Nothing to learn."""
    rng, features = np.random.default_rng(seed), 135_909
    n_y, n_x = rng.integers(1, 10, samples), rng.integers(20, 137, samples)

    def zipf(count, top):
        return np.minimum(np.exp(rng.random(count) * math.log(top)).astype(np.int64), top - 1)

    y = np.where(rng.random(n_y.sum()) < 0.5, rng.integers(0, labels, n_y.sum()), zipf(n_y.sum(), labels))
    x, values = zipf(n_x.sum(), features), rng.lognormal(2.0, 0.8, n_x.sum()).astype(np.float32)
    offsets = [np.concatenate([[0], np.cumsum(n)]) for n in (n_y, n_x)]
    return (offsets[0], y, offsets[1], x, values), features, labels


class Data:
    """A set on the device. Offsets stay on the host too, so that a batch's sizes are known without waiting."""

    def __init__(self, arrays, device):
        self.y_host, y, self.x_host, x, values = arrays
        self.count = len(self.y_host) - 1
        self.y, self.x, self.values = (torch.from_numpy(a).to(device) for a in (y, x, values))
        self.device = device

    def batch(self, rows):
        """Labels and their samples, weights 1/labels; features, their samples, offsets, values."""
        def part(offsets):
            counts = offsets[rows + 1] - offsets[rows]
            which = np.repeat(np.arange(len(rows)), counts)
            start = np.concatenate([[0], np.cumsum(counts)[:-1]])
            arrays = (ranges(offsets[rows], counts), which, start, 1.0 / np.maximum(counts, 1)[which])
            return [torch.from_numpy(a).to(self.device, non_blocking=True) for a in arrays]

        y_at, y_row, _, share = part(self.y_host)
        x_at, x_row, x_start, _ = part(self.x_host)
        return (self.y[y_at], y_row, share.float()), (self.x[x_at], x_row, x_start, self.values[x_at])


class Lazy:
    """Adam on rows of a table."""

    def __init__(self, table):
        self.table, self.m, self.v = table, torch.zeros_like(table), torch.zeros_like(table)

    def step(self, rows, gradient, lr, t):
        m = self.m.index_select(0, rows).mul_(BETA1).add_(gradient, alpha=1 - BETA1)
        v = self.v.index_select(0, rows).mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
        self.m.index_copy_(0, rows, m)
        self.v.index_copy_(0, rows, v)
        move = m.div_(v.div_(1 - BETA2**t).sqrt_().add_(EPS)).mul_(-lr / (1 - BETA1**t))
        self.table.index_add_(0, rows, move)


def dense_adam(tables, lr, device):
    for table in tables:
        table.grad = torch.zeros_like(table)
    for kind in ({"fused": True}, {"foreach": True}, {}):
        try:  # the one-pass Adam is not on every device and version
            adam = torch.optim.Adam(tables, lr=lr, betas=(BETA1, BETA2), eps=EPS, **kind)
            if kind.get("fused"):
                probe = torch.zeros(1, device=device, requires_grad=True)
                probe.grad = torch.zeros_like(probe)
                torch.optim.Adam([probe], fused=True).step()
            return adam, next(iter(kind), "plain")
        except (RuntimeError, TypeError):
            continue
    raise SystemExit("no Adam")


def products(h, weight, bias, y, y_row, share, half):
    """From hidden activations to gradients, over all of `weight`: (of h, of weight, of bias), summed over the batch."""
    a, w = (h, weight) if half is None else (h.to(half), weight.to(half))
    z = (a @ w.t()).float() + bias
    d = torch.softmax(z, 1).index_put((y_row, y), -share, accumulate=True)
    db = d.sum(0)
    if half is not None:
        d = d.to(half)
    return (d @ w).float(), (d.t() @ a).float(), db


class Network:
    def __init__(self, features, labels, args, device, chance, last):
        make = torch.Generator().manual_seed(args.seed)
        self.input = torch.empty(features, args.hidden).normal_(0, 0.01, generator=make).to(device)
        self.output = torch.empty(labels, args.hidden).normal_(0, 0.01, generator=make).to(device)
        self.b1, self.b2 = torch.zeros(1, args.hidden, device=device), torch.zeros(labels, 1, device=device)
        self.tables = [self.input, self.output, self.b1, self.b2]
        self.args, self.device, self.labels, self.t, self.last = args, device, labels, 0, last
        self.draw = torch.Generator(device=device).manual_seed(args.seed + 1)
        self.half, self.chance, self.active = HALF[args.precision], chance, []
        self.products = torch.compile(products, dynamic=True) if args.compile else products
        if args.mode == "full":
            self.adam, self.adam_kind = dense_adam(self.tables, args.lr, device)
        else:
            self.lazy, self.adam_kind = [Lazy(table) for table in self.tables], "touched rows"

    def hidden(self, x, start, values):
        return F.embedding_bag(x, self.input, start, mode="sum", per_sample_weights=values).add_(self.b1)

    def rate(self):
        """The learning rate of step t: as given, or down half a cosine."""
        return self.args.lr * (0.5 + 0.5 * math.cos(math.pi * (self.t - 1) / self.last) if self.args.schedule == "cosine" else 1.0)

    def step(self, labels, features):
        self.t += 1
        (y, y_row, share), (x, x_row, start, values) = labels, features
        before = self.hidden(x, start, values)
        h, batch = before.relu(), len(before)
        if self.args.mode == "full":
            dh, dw, db = self.products(h, self.output, self.b2.view(1, -1), y, y_row, share, self.half)
            self.output.grad, self.b2.grad = dw.div_(batch), db.div_(batch).view(-1, 1)
        else:
            rows = torch.randint(self.labels, (self.args.negatives,), generator=self.draw, device=self.device)
            rows = torch.unique(torch.cat([y, rows]))
            bias = self.b2.index_select(0, rows).view(1, -1)
            if self.args.log_q:
                bias = bias - self.chance[rows]
            dh, dw, db = self.products(h, self.output.index_select(0, rows), bias, torch.searchsorted(rows, y), y_row, share, self.half)
            self.active.append(len(rows))
        dh = dh.mul_(before > 0).div_(batch)
        parts = dh.index_select(0, x_row).mul_(values.unsqueeze(1))
        if self.args.mode == "full":
            self.input.grad.zero_().index_add_(0, x, parts)
            self.b1.grad = dh.sum(0, keepdim=True)
            self.adam.param_groups[0]["lr"] = self.rate()
            self.adam.step()
            return
        touched, slot = torch.unique(x, return_inverse=True)
        gradient = torch.zeros(len(touched), self.args.hidden, device=self.device).index_add_(0, slot, parts)
        one = torch.zeros(1, dtype=torch.long, device=self.device)
        todo = ((touched, gradient), (rows, dw.div_(batch)), (one, dh.sum(0, keepdim=True)), (rows, db.div_(batch).view(-1, 1)))
        for lazy, (at, g) in zip(self.lazy, todo):
            lazy.step(at, g, self.rate(), self.t)

    def precision_at(self, data, limit, batch=256):
        """P@1, P@3, P@5, exactly: all labels, all (or the first `limit`) samples that have labels."""
        hits, count = torch.zeros(5, dtype=torch.long), 0
        have = np.flatnonzero(np.diff(data.y_host))[:limit]
        for first in range(0, len(have), batch):
            rows = have[first:first + batch]
            (y, y_row, _), (x, _, start, values) = data.batch(rows)
            z = torch.addmm(self.b2.view(1, -1), self.hidden(x, start, values).relu_(), self.output.t())
            best = z.topk(min(5, self.labels)).indices
            truth = torch.sort(y_row * self.labels + y).values
            ask = torch.arange(len(rows), device=self.device).unsqueeze(1) * self.labels + best
            found = torch.searchsorted(truth, ask).clamp_(max=len(truth) - 1)
            got = (truth[found] == ask).sum(0).cpu()
            hits[: len(got)] += got
            count += len(rows)
        return [round(float(hits[:k].sum()) / (k * max(count, 1)), 4) for k in (1, 3, 5)]


class Clock:
    """Seconds of each step; on a GPU by events, read when the epoch is over."""

    def __init__(self, device):
        self.cuda, self.marks = device.type == "cuda", []

    def mark(self):
        if self.cuda:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self.marks.append(event)
        else:
            self.marks.append(time.perf_counter())

    def steps(self):
        if self.cuda:
            torch.cuda.synchronize()
            found = [a.elapsed_time(b) / 1e3 for a, b in zip(self.marks, self.marks[1:])]
        else:
            found = [b - a for a, b in zip(self.marks, self.marks[1:])]
        self.marks = []
        return found


def log_chance(train, labels, args, device):
    """ln of the chance that a label is in a batch's set: drawn as a negative, or a label of one of its samples."""
    share = np.minimum(np.bincount(train[1], minlength=labels) / max(1, len(train[0]) - 1), 1.0)
    missed = args.batch * np.log1p(-np.minimum(share, 1 - 1e-12)) + args.negatives * math.log1p(-1.0 / max(labels, 2))
    return torch.from_numpy(np.log(-np.expm1(missed))).float().to(device)


def run(args):
    device = torch.device(args.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    clock = time.perf_counter()
    if args.synthetic:
        (train, features, labels), test = synthetic(args.batch * 200, args.synthetic, args.seed), None
    else:
        train, features, labels = parse(args.folder / "train.txt.gz")
        test, *other = parse(args.folder / "test.txt.gz")
        if other != [features, labels]:
            raise SystemExit(f"{args.folder}: the headers of train and test differ")
    read = time.perf_counter() - clock
    chance = log_chance(train, labels, args, device) if args.log_q else None
    train, test = Data(train, device), test and Data(test, device)
    have = np.flatnonzero(np.diff(train.y_host))
    order, times, curve, watch = np.random.default_rng(args.seed), [], [], Clock(device)
    per_epoch = -(-len(have) // args.batch)
    last = args.limit_steps or args.epochs * per_epoch
    net = Network(features, labels, args, device, chance, last)
    spent, full, rows = 0.0, [], None

    def passed(step):
        """Looks up to a step, as `wavehull hash train` has them: so many an epoch, one of them at its end."""
        return step * args.looks // per_epoch

    def look():
        """Adds up the steps since the last look, and measures."""
        nonlocal spent
        now = watch.steps()
        spent += sum(now)
        times.extend(seconds for seconds, whole in zip(now, full) if whole)
        full.clear()
        at = net.precision_at(test, args.test_limit) if test else None
        curve.append({"step": net.t, "epoch": round(net.t / per_epoch, 4), "seconds": round(spent, 3), "p_at_1_3_5": at})
        print(f"epoch {net.t / per_epoch:.2f}: {spent:.1f} s, P@1/3/5 {at}", flush=True)
        watch.mark()

    watch.mark()
    while net.t < last:
        if net.t % per_epoch == 0:
            rows = order.permutation(have)
        first = net.t % per_epoch * args.batch
        chosen = rows[first:first + args.batch]
        net.step(*train.batch(chosen))
        watch.mark()
        # The first steps warm up, and the last one of an epoch may be a short one.
        full.append((net.t > 3 or last <= 6) and len(chosen) == args.batch)
        if passed(net.t) > passed(net.t - 1) or net.t == last:
            look()
    times = times or [spent / max(net.t, 1)]
    p10 = float(np.quantile(times, 0.1))
    result = {
        "name": "synthetic" if args.synthetic else args.folder.name, "mode": args.mode, "log_q": args.log_q, "precision": args.precision,
        "compiled": args.compile, "adam": net.adam_kind, "features": features, "labels": labels, "samples": len(have),
        "test_samples": min(test.count, args.test_limit or test.count) if test else 0, "batch": args.batch, "hidden": args.hidden,
        "lr": args.lr, "schedule": args.schedule, "negatives": args.negatives if args.mode == "sampled" else 0,
        "active_labels": round(float(np.mean(net.active))) if net.active else labels,
        "seed": args.seed, "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu", "torch": torch.__version__,
        "threads": torch.get_num_threads(), "read_seconds": round(read, 2), "steps": net.t, "timed_steps": len(times),
        "step_ms_p10": round(p10 * 1e3, 4), "step_ms_mean": round(float(np.mean(times)) * 1e3, 4),
        "samples_per_second": round(args.batch / p10), "samples_per_second_mean": round(args.batch / float(np.mean(times))),
        "seconds": round(spent, 3), "curve": curve,
    }
    if device.type == "cuda":
        result["peak_gpu_bytes"] = torch.cuda.max_memory_allocated(device)
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="holds train.txt.gz and test.txt.gz")
    parser.add_argument("--synthetic", type=int, metavar="LABELS", help="random data of so many labels, 200 batches; speed alone")
    parser.add_argument("--mode", choices=["full", "sampled"], default="sampled")
    parser.add_argument("--negatives", type=int, default=1000)
    parser.add_argument("--log-q", action="store_true")
    parser.add_argument("--precision", choices=HALF, default="f32")
    parser.add_argument("--compile", action="store_true", help="torch.compile around the output layer")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--schedule", choices=["constant", "cosine"], default="constant", help="cosine: down to 0 at the last step")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--limit-steps", type=int, metavar="N", help="so many steps, whatever --epochs says")
    parser.add_argument("--looks", type=int, default=1, help="looks at the test part an epoch; 0: one at the end")
    parser.add_argument("--test-limit", type=int, help="evaluate on the first so many test samples")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", help="default: cuda where there is one, else cpu")
    parser.add_argument("--json", type=Path, help="append the JSON line to this file")
    args = parser.parse_args()
    if (args.folder is None) == (args.synthetic is None):
        parser.error("a folder or --synthetic")
    with torch.no_grad():
        line = json.dumps(run(args))
    print(line)
    if args.json:
        with open(args.json, "a") as out:
            out.write(line + "\n")


if __name__ == "__main__":
    main()
