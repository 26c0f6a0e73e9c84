#!/usr/bin/env python3
"""Trains networks with very many labels on one data set with Wavehull and with PyTorch, one after the other, and prints one table.

Both get the same samples, batches of one size, epochs or steps, learning rate and hidden elements, weights of the same distribution, and Adam;
both look at the same test samples (all that have labels) after the same steps, if all training samples have labels, and count the seconds of their
steps alone: batches made on the host and rebuilds of hash tables are in, reading files and looking at the test part are not. PyTorch
(benches/peers/xmc_torch.py) gets the number of threads that was fastest in 40 steps of each mode; Wavehull takes what its device has.

They differ in what they cannot share. Shared sets of Wavehull have room for the batch's labels and --negatives others, rounded up to a multiple
of 256; PyTorch's have as many draws as --negatives, doubles counted once: the table has both sizes. PyTorch's sampled mode is lazy (rows that a
step does not touch rest); ours catches up by default (--rows), and before a look all rows do, which is counted. Orders of samples and random
numbers are other ones; PyTorch leaves training samples without labels out, Wavehull does not.

samples/s: all samples over all seconds, the median of the rounds. p10: a batch over the 10th percentile of a step's time, PyTorch's alone.

exit codes: 0 the table is there; 1 a training failed; 2 wrong usage; 4 the program, torch or numpy is missing"""
import argparse
import gzip
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PEER = ROOT / "benches" / "peers" / "xmc_torch.py"
MODES = ["full", "uniform", "log-uniform", "slide", "hash-union", "hash-most", "neighbours"]
HASHING = MODES[3:]
PEERS = ["sampled", "full", "none"]
EXIT_FAILED, EXIT_SETUP = 1, 4
# Steps by which the number of threads is chosen, and the program's own samples between rebuilds.
PROBED = 40
REBUILD = 12_800


def say(text):
    print(f"wavehull: {text}", file=sys.stderr, flush=True)


def stop(code, text, help_):
    say(text)
    say(f"help: {help_}")
    sys.exit(code)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shipped = ROOT / "data" / "debian-relations"
    parser.add_argument("folder", type=Path, nargs="?", default=shipped, help="holds train.txt.gz and test.txt.gz [data/debian-relations]")
    parser.add_argument("--program", type=Path, help="wavehull [target/release/wavehull, or ./wavehull of a bundle]")
    python = os.environ.get("PYTHON", sys.executable)
    parser.add_argument("--python", default=python, help="an interpreter with torch and numpy [$PYTHON, or this one]")
    parser.add_argument("--ours", default="uniform,neighbours,full", help=f"modes of wavehull: {', '.join(MODES)} [%(default)s]")
    parser.add_argument("--peers", default="sampled,full", help=f"modes of PyTorch: {', '.join(PEERS)} [%(default)s]")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--epochs", type=int, default=6, help="[%(default)s]")
    length.add_argument("--steps", type=int, help="so many steps instead")
    parser.add_argument("--batch", type=int, default=256, help="[%(default)s]")
    parser.add_argument("--hidden", type=int, default=128, help="[%(default)s]")
    parser.add_argument("--lr", type=float, default=5e-4, help="[%(default)s]")
    parser.add_argument("--schedule", choices=["constant", "cosine"], default="constant", help="cosine: down to 0 at the last step [%(default)s]")
    parser.add_argument("--negatives", type=int, default=1000, help="of shared sets [%(default)s]")
    parser.add_argument("--rows", choices=["catch-up", "lazy", "dense"], default="catch-up", help="[%(default)s]")
    parser.add_argument("--neighbours", type=int, help="kept of each label, in the mode neighbours")
    parser.add_argument("--looks", type=int, default=4, help="looks at the test part an epoch [%(default)s]")
    parser.add_argument("--reach", type=float, metavar="P", help="also the seconds until P@1 is P or more")
    parser.add_argument("--rounds", type=int, default=1, help="of all trainings, in turn; curves are those of the first [%(default)s]")
    parser.add_argument("--threads", type=int, help="of PyTorch, instead of the fastest number")
    parser.add_argument("--device", help="of PyTorch: cpu or cuda [cuda where there is one]")
    parser.add_argument("--adapter", help="of wavehull: a part of its name, or its index")
    parser.add_argument("--memory", type=int, metavar="MIB", help="of wavehull's device")
    parser.add_argument("--seed", type=int, default=1, help="[%(default)s]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything to a file")
    args = parser.parse_args()
    args.ours = [mode for mode in args.ours.split(",") if mode]
    args.peers = [mode for mode in args.peers.split(",") if mode and mode != "none"]
    for word in args.ours:
        if word not in MODES:
            parser.error(f"no mode of wavehull is called '{word}'")
    for word in args.peers:
        if word not in PEERS:
            parser.error(f"no mode of PyTorch is called '{word}'")
    for name in ("epochs", "batch", "hidden", "rounds", "steps", "threads"):
        if (value := getattr(args, name)) is not None and value < 1:
            parser.error(f"--{name} {value}: give 1 or more")
    if args.looks < 0 or args.negatives < 0 or args.lr <= 0:
        parser.error("--looks and --negatives are 0 or more, --lr is above 0")
    return args


def find(args):
    """The files and programs that are needed, or an end with exit code 4."""
    for part in ("train.txt.gz", "test.txt.gz"):
        if not (args.folder / part).is_file():
            help_ = "give a folder with train.txt.gz and test.txt.gz, such as data/debian-relations"
            stop(2, f"{args.folder / part} is not there", help_)
    if args.ours:
        found = [args.program] if args.program else [ROOT / "target" / "release" / "wavehull", ROOT / "wavehull"]
        args.program = next((path.resolve() for path in found if path.is_file()), None)
        if args.program is None:
            help_ = "build it with 'cargo build --release', or give --program PATH"
            stop(EXIT_SETUP, f"no program at {' or '.join(map(str, found))}", help_)
    if args.peers:
        try:
            subprocess.run([args.python, "-c", "import torch, numpy"], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            help_ = "give --python INTERPRETER (or PYTHON=...) of an environment with both, or --peers none"
            stop(EXIT_SETUP, f"{args.python} has no torch and numpy", help_)


def shape(folder):
    """Samples, features and labels of the training part, as its first line has them."""
    path = folder / "train.txt.gz"
    try:
        with gzip.open(path, "rb") as file:
            samples, features, labels = map(int, file.readline(100).split())
            return [samples, features, labels]
    except (OSError, EOFError, ValueError):
        stop(2, f"{path}: the first line is not 'samples features labels'", "give a set in the Extreme Classification text format, in gzip")


def last_json(command, what):
    """The document on the last lines of a program's output."""
    say(what)
    ran = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, text=True)
    if ran.returncode != 0:
        stop(EXIT_FAILED, f"{what} failed with exit code {ran.returncode}", "its last words stand above")
    text = ran.stdout.strip()
    return json.loads(text if text.startswith("{") else text.splitlines()[-1])


def config(args, mode):
    quoted = {part: json.dumps(str((args.folder / f"{part}.txt.gz").resolve())) for part in ("train", "test")}
    lines = ["[data]", f"train = {quoted['train']}", f"test = {quoted['test']}", "cache = false", "[model]", f"hidden = {args.hidden}"]
    lines += ["[train]", f"steps = {args.steps}" if args.steps else f"epochs = {args.epochs}", f"batch = {args.batch}"]
    if args.schedule == "cosine":
        lines.append(f"schedule = {{ cosine = {args.steps or args.epochs * -(-args.shape[0] // args.batch)} }}")
    # All test samples at every look; checkpoints at the end alone.
    lines += [f"learning_rate = {args.lr!r}", f'rows = "{args.rows}"', f"looks = {args.looks}", f"look_samples = {2**32 - 1}"]
    lines += ["checkpoint_seconds = 1e9", f"seed = {args.seed}", "[active]", f'mode = "{mode}"']
    if mode == "slide":
        lines.append(f"size = {args.negatives}")
    elif mode != "full":
        lines.append(f"negatives = {args.negatives}")
    if mode in HASHING:
        # Tables are made anew once an epoch at least.
        lines += ["[hash]", f"rebuild = {min(REBUILD, args.shape[0])}"]
    if mode == "neighbours" and args.neighbours:
        lines.append(f"neighbours = {args.neighbours}")
    return "\n".join(lines) + "\n"


def ours(args, mode):
    with tempfile.TemporaryDirectory(prefix="compare-hash-") as work:
        file = Path(work) / "config.toml"
        file.write_text(config(args, mode))
        command = [args.program, "--quiet", "hash", "train", file, "--folder", Path(work) / "run", "--json"]
        command += ["--adapter", args.adapter] if args.adapter else []
        command += ["--memory", args.memory] if args.memory else []
        found = last_json(command, f"wavehull, {mode}")
    looks = found["looks"]
    curve = [{key: look[key] for key in ("step", "epoch", "seconds")} for look in looks]
    for look, of_look in zip(looks, curve):
        of_look["p_at_1_3_5"] = [p for _, p in look.get("precision") or []]
    samples, steps = (sum(look[key] for look in looks) for key in ("samples", "steps"))
    active = sum(look["active"] * look["steps"] for look in looks) / max(steps, 1)
    return {
        "who": "wavehull", "version": found["version"], "device": found["device"], "mode": mode, "rows": args.rows, "threads": None,
        "active_labels": round(active), "steps": found["steps"], "seconds": found["seconds"],
        "samples_per_second": samples / max(found["seconds"], 1e-9), "samples_per_second_p10": None, "curve": curve,
    }


def peer(args, mode, threads, limit=None):
    command = [args.python, PEER, args.folder, "--mode", mode, "--batch", args.batch, "--hidden", args.hidden, "--lr", args.lr]
    command += ["--schedule", args.schedule]
    command += ["--negatives", args.negatives, "--seed", args.seed, "--threads", threads, "--epochs", args.epochs]
    steps = limit or args.steps
    command += ["--limit-steps", steps] if steps else []
    command += ["--looks", 0, "--test-limit", 1] if limit else ["--looks", args.looks]
    command += ["--device", args.device] if args.device else []
    what = f"torch, {mode}, {threads} thread{'s' if threads > 1 else ''}" + (f", {limit} steps" if limit else "")
    found = last_json(command, what)
    samples = found["samples_per_second_mean"]
    if not limit and found["curve"]:
        per_epoch = -(-found["samples"] // args.batch)
        whole, rest = divmod(found["steps"], per_epoch)
        # The last batch of an epoch is a short one.
        samples = (whole * found["samples"] + rest * args.batch) / max(found["seconds"], 1e-9)
    return {
        "who": "torch", "version": found["torch"], "device": found["device"], "mode": mode, "rows": "lazy" if mode == "sampled" else "dense",
        "threads": found["threads"], "active_labels": found["active_labels"], "steps": found["steps"], "seconds": found["seconds"],
        "samples_per_second": samples, "samples_per_second_p10": found["samples_per_second"], "curve": found["curve"],
    }


def fastest(args, mode):
    """The number of threads with which some steps took PyTorch least."""
    if args.threads:
        return args.threads
    most = os.cpu_count() or 1
    counts = sorted({1, most, *(2**i for i in range(1, 8) if 2**i < most)})
    if len(counts) == 1:
        return 1
    return max(counts, key=lambda threads: peer(args, mode, threads, PROBED)["samples_per_second_p10"])


def reached(run, wanted):
    """Seconds until a look found P@1 of `wanted` or more."""
    return next((look["seconds"] for look in run["curve"] if look["p_at_1_3_5"] and look["p_at_1_3_5"][0] >= wanted), None)


def table(runs, args):
    heads = ["who", "mode", "rows", "threads", "active", "samples/s", "p10", "seconds", "P@1 at the end", "best P@1"]
    rows = [heads + ([f"seconds to P@1 {args.reach:g}"] if args.reach else [])]
    for run in runs:
        found = [look["p_at_1_3_5"][0] for look in run["curve"] if look["p_at_1_3_5"]]
        cells = [run["who"], run["mode"], run["rows"], run["threads"] or "-", run["active_labels"], f"{run['samples_per_second']:,.0f}"]
        cells += [f"{run['samples_per_second_p10']:,}" if run["samples_per_second_p10"] else "-", f"{run['seconds']:.1f}"]
        cells += [f"{found[-1]:.4f}", f"{max(found):.4f}"] if found else ["-", "-"]
        if args.reach:
            cells.append("not reached" if run["reached_seconds"] is None else f"{run['reached_seconds']:.1f}")
        rows.append([str(cell) for cell in cells])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in rows]
    return "\n".join([lines[0], "| " + " | ".join("-" * width for width in widths) + " |", *lines[1:]])


def main():
    args = arguments()
    find(args)
    args.shape = shape(args.folder)
    threads = {mode: fastest(args, mode) for mode in args.peers}
    kept, rates = {}, {}
    for _ in range(args.rounds):
        for who, modes in (("wavehull", args.ours), ("torch", args.peers)):
            for mode in modes:
                run = ours(args, mode) if who == "wavehull" else peer(args, mode, threads[mode])
                kept.setdefault((who, mode), run)
                rates.setdefault((who, mode), []).append(run["samples_per_second"])
    runs = list(kept.values())
    for key, run in kept.items():
        run["samples_per_second"], run["rounds"] = statistics.median(rates[key]), rates[key]
        run["reached_seconds"] = reached(run, args.reach) if args.reach else None
    length = f"{args.steps} steps" if args.steps else f"{args.epochs} epochs"
    counts = ", {} samples, {} features, {} labels".format(*args.shape)
    model = f"{args.hidden} hidden, Adam at {args.lr:g}{' down a cosine' if args.schedule == 'cosine' else ''}"
    print(f"{args.folder.name}{counts}; {length} in batches of {args.batch}, {model}; {os.cpu_count()} processors")
    if any(run["who"] == "wavehull" and run["device"]["software"] for run in runs):
        print("wavehull ran on a SOFTWARE DEVICE: the processor posing as a GPU")
    print(table(runs, args))
    if args.json:
        document = {
            "schema": 1, "data": args.folder.name, "shape": args.shape, "epochs": None if args.steps else args.epochs, "steps": args.steps,
            "batch": args.batch, "hidden": args.hidden, "learning_rate": args.lr, "schedule": args.schedule,
            "negatives": args.negatives, "seed": args.seed, "reach": args.reach,
            "processors": os.cpu_count(), "machine": platform.machine(), "runs": runs,
        }
        args.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
