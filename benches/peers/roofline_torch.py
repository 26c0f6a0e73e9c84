"""Roofs by PyTorch on the same machine, host and CUDA in one run, to stand beside `wavehull bench`'s own (development only).

sgemm (f32, TF32 off) at square, narrow and tiny shapes; copies within the host and within the device; a sum that reads only;
transfers between them. Every answer is checked before it is timed.

    python roofline_torch.py [--device all|cpu|cuda] [--threads N] [--json FILE]

The JSON has the schema of `wavehull bench --json` (docs/json.md); names end in the device.
"""

import argparse
import json
import sys

try:
    import torch
    from crown_torch import entry, missing, seconds_of
except ImportError as error:
    sys.exit(f"{error}\nhelp: pip install torch numpy")

SEED = 7
SQUARE = {"cpu": (512, 1024, 2048), "cuda": (512, 1024, 4096, 8192)}
UNEVEN = ((1000, 10, 784), (64, 16, 32))
COPY_MIB = {"cpu": 256, "cuda": 1024}


def sgemm(device, m, n, k):
    generator = torch.Generator().manual_seed(SEED)
    a, b = (torch.rand(*shape, generator=generator) * 2 - 1 for shape in ((m, k), (k, n)))
    x, y = a.to(device), b.to(device)
    row = m // 2
    exact, size = a[row].double() @ b.double(), a[row].double().abs() @ b.double().abs()
    # Any order of k roundings to nearest or to either neighbour.
    bound = k * 2**-23 / (1 - k * 2**-23) * size
    right = bool((((x @ y)[row].cpu().double() - exact).abs() <= bound).all())
    name = f"sgemm_{n}" if m == n == k else f"sgemm_{m}x{n}x{k}"
    return entry(f"{name}_{device.type}", "matmul", 2 * m * n * k, "FLOP", seconds_of(lambda: x @ y, device), 1, right, None)


def words(device, mib, **options):
    generator = torch.Generator().manual_seed(SEED)
    values = torch.randint(-100, 100, (mib << 18,), generator=generator, dtype=torch.int32)
    return torch.empty_like(values, device=device, **options).copy_(values)


def copy(device):
    x = words(device, COPY_MIB[device.type])
    y = torch.empty_like(x)
    timing = seconds_of(lambda: y.copy_(x), device)
    return entry(f"copy_{device.type}", "memory", 8 * x.numel(), "B", timing, 1, torch.equal(x, y), f"{x.numel() >> 18} MiB")


def read(device):
    x = words(device, COPY_MIB[device.type])
    right = int(x.sum()) == int(x.cpu().to(torch.int64).sum())
    timing = seconds_of(lambda: x.sum(), device)
    return entry(f"sum_{device.type}", "memory", 4 * x.numel(), "B", timing, 1, right, f"reads only, {x.numel() >> 18} MiB")


def transfer(device, name, pinned):
    host, there = words("cpu", 256, pin_memory=pinned), words(device, 256)
    source, target = (host, there) if name == "upload" else (there, host)
    target.zero_()
    timing = seconds_of(lambda: target.copy_(source), device)
    right = torch.equal(source.cpu(), target.cpu())
    return entry(f"{name}_{'pinned' if pinned else 'pageable'}", "memory", 4 * host.numel(), "B", timing, 1, right, "256 MiB")


def measured(kind):
    """All entries of a device; one that fails (too little memory) is a row that says so."""
    device = torch.device(kind)
    shapes = [(n, n, n) for n in SQUARE[kind]] + list(UNEVEN)
    calls = [("copy", lambda: copy(device)), ("sum", lambda: read(device))]
    calls += [("sgemm_{}x{}x{}".format(*s), lambda s=s: sgemm(device, *s)) for s in shapes]
    if kind == "cuda":
        calls += [(n, lambda n=n, p=p: transfer(device, n, p)) for n in ("upload", "download") for p in (False, True)]
    for name, call in calls:
        try:
            yield call()
        except RuntimeError as error:
            yield missing(f"{name}_{kind}", "memory", str(error).splitlines()[0])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("all", "cpu", "cuda"), default="all")
    parser.add_argument("--threads", type=int, help="of the host (default: torch's)")
    parser.add_argument("--json")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    torch.backends.cuda.matmul.allow_tf32 = False
    cuda = torch.cuda.is_available()
    if arguments.device == "cuda" and not cuda:
        sys.exit("torch sees no CUDA device\nhelp: --device cpu, or install a torch that was built for this driver")
    kinds = [k for k in ("cpu", "cuda") if arguments.device in ("all", k) and (k == "cpu" or cuda)]
    name = torch.cuda.get_device_name() if "cuda" in kinds else f"CPU, {torch.get_num_threads()} threads"
    driver = f"torch {torch.__version__}, {torch.get_num_threads()} host threads"
    print(f"{name}, {driver}")
    entries = []
    with torch.no_grad():
        for kind in kinds:
            for e in measured(kind):
                entries.append(e)
                figures = f"{e['seconds'] * 1e3:10.3f} ms  {e['rate']:10.3e} {e['unit']}/s" if e["seconds"] else "n/a"
                print(f"{e['name']:28} {figures}  {e['check']}", flush=True)
    if arguments.json:
        about = {"name": name, "backend": kinds[-1], "driver": driver, "kind": "discrete" if "cuda" in kinds else "other"}
        report = {"schema": 1, "device": about | {"software": False}, "version": torch.__version__, "quick": False}
        report |= {"seed": SEED, "stopped": False, "entries": entries}
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=2)
    return int(any(e["check"].startswith("error") for e in entries))


if __name__ == "__main__":
    raise SystemExit(main())
