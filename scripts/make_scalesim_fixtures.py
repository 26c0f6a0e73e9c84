#!/usr/bin/env python3
"""Makes tests/fixtures/scalesim: what SCALE-Sim 3.0.0 reports, to the letter.

    python3 scripts/make_scalesim_fixtures.py [runs|random]

runs/NAME.txt is one run: its .cfg, its topology and the three reports, each behind a line `== FILE`; those of ResNet-50 take
minutes. random.txt has small layers on odd machines, one a block: settings, the layer's numbers, then its line of each report, or `error`
and the exception with which the original ended (it divides by zero where a cycle asks for more than half a buffer). Runs that
are there are not made again.

Needs scalesim 3.0.0 and numpy < 2.
"""

import random
import shutil
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "scalesim"
MACHINES = FOLDER.parent.parent.parent / "examples" / "machines"
REPORTS = ["COMPUTE_REPORT.csv", "BANDWIDTH_REPORT.csv", "DETAILED_ACCESS_REPORT.csv"]

CFG = """[general]
run_name = run

[architecture_presets]
ArrayHeight:    {rows}
ArrayWidth:     {columns}
IfmapSramSzkB:    {ifmap}
FilterSramSzkB:   {filter}
OfmapSramSzkB:    {ofmap}
IfmapOffset:    0
FilterOffset:   10000000
OfmapOffset:    20000000
Bandwidth : {bandwidth}
Dataflow : {dataflow}
ReadRequestBuffer: 32
WriteRequestBuffer: 32

[layout]
IfmapCustomLayout: False
IfmapSRAMBankBandwidth: {ifmap_bandwidth}
IfmapSRAMBankNum: {ifmap_banks}
IfmapSRAMBankPort: 2
FilterCustomLayout: False
FilterSRAMBankBandwidth: {filter_bandwidth}
FilterSRAMBankNum: {filter_banks}
FilterSRAMBankPort: 2

[sparsity]
SparsitySupport : false
SparseRep : ellpack_block
OptimizedMapping : false
BlockSize : 8
RandomNumberGeneratorSeed : 40

[run_presets]
InterfaceBandwidth: {mode}
UseRamulatorTrace: False
"""
DEFAULTS = {
    "ifmap": 1, "filter": 1, "ofmap": 1, "bandwidth": 10, "mode": "CALC",
    "ifmap_bandwidth": 10, "ifmap_banks": 10, "filter_bandwidth": 10, "filter_banks": 10,
}  # fmt: skip
HEADER = "Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,\n"
CONV = HEADER + "a, 14, 14, 3, 3, 16, 24, 1,\nb, 28, 28, 3, 3, 8, 40, 2,\nc, 7, 7, 1, 1, 64, 64, 1,\n"
ODD = HEADER + "odd, 9, 11, 3, 2, 5, 7, 2,\nDP1, 6, 6, 3, 3, 3, 1, 1,\n\nratio, 5, 8, 5, 1, 12, 9, 3, 2:4,\n"
GEMM = "Layer, M, N, K,\nsquare, 33, 20, 50,\nrow, 1, 10, 256,\neven, 64, 64, 64,\n"
LARGE = HEADER + "large, 56, 56, 3, 3, 64, 64, 1,\n"


def simulate(cfg, topology, gemm=False):
    """The three reports of a run."""
    from scalesim.scale_sim import scalesim

    folder = Path(tempfile.mkdtemp())
    try:
        (folder / "run.cfg").write_text(cfg)
        (folder / "topology.csv").write_text(topology)
        # The original wants a layout for every run; nothing reads it while custom layouts are off.
        (folder / "layout.csv").write_text("Layer name,\n")
        simulator = scalesim(
            save_disk_space=True, verbose=False, config=str(folder / "run.cfg"), topology=str(folder / "topology.csv"),
            layout=str(folder / "layout.csv"), input_type_gemm=gemm,
        )  # fmt: skip
        simulator.run_scale(top_path=str(folder))
        return [(folder / simulator.config.get_run_name() / name).read_text() for name in REPORTS]
    finally:
        shutil.rmtree(folder)


def runs():
    """Every dataflow on several arrays, with buffers so small that they are filled many times."""
    odd = {"rows": 5, "columns": 7, "ifmap_bandwidth": 4, "ifmap_banks": 2, "filter_bandwidth": 6, "filter_banks": 3}
    for dataflow in ["os", "ws", "is"]:
        for mode in ["CALC", "USER"]:
            end = f"{dataflow}_{mode.lower()}"
            for rows, columns in [(16, 16), (32, 8)]:
                yield f"conv_{rows}x{columns}_{end}", {"rows": rows, "columns": columns, "dataflow": dataflow, "mode": mode}, CONV
            yield f"odd_5x7_{end}", {**odd, "dataflow": dataflow, "mode": mode, "bandwidth": "1, 2, 3"}, ODD
            yield f"gemm_8x8_{end}", {"rows": 8, "columns": 8, "ifmap": 2, "dataflow": dataflow, "mode": mode}, GEMM
    large = {"rows": 128, "columns": 128, "ifmap": 64, "filter": 32, "ofmap": 48}
    for dataflow in ["os", "ws", "is"]:
        yield f"large_128x128_{dataflow}_calc", {**large, "dataflow": dataflow}, LARGE
    yield "resnet50_128x128_ws_calc", None, (MACHINES / "resnet50.csv").read_text()
    yield "large_128x128_ws_user", {**large, "dataflow": "ws", "mode": "USER", "bandwidth": 8}, LARGE


def make_runs():
    (FOLDER / "runs").mkdir(parents=True, exist_ok=True)
    for name, changes, topology in runs():
        file = FOLDER / "runs" / f"{name}.txt"
        if file.exists():
            continue
        cfg = CFG.format(**{**DEFAULTS, **changes}) if changes else (MACHINES / "scalesim_128x128.cfg").read_text()
        reports = simulate(cfg, topology, gemm=name.startswith("gemm"))
        parts = [("run.cfg", cfg), ("topology.csv", topology), *zip(REPORTS, reports)]
        file.write_text("".join(f"== {part}\n{text}" for part, text in parts))
        print(name, flush=True)


def make_random():
    rng = random.Random(5)
    file = FOLDER / "random.txt"
    done = file.read_text().split("\n\n") if file.exists() else []
    blocks = []
    for number in range(114):
        wide = number >= 95
        banks = [rng.randint(1, 4), rng.randint(1, 4)]
        changes = {
            "rows": rng.choice([1, 2, 3, 4, 6, 8, 13, 64]), "columns": rng.choice([1, 2, 3, 5, 7, 8, 11, 64]),
            "ifmap": rng.randint(1, 3), "filter": rng.randint(1, 3), "ofmap": rng.choice([1, 1, 2]),
            "dataflow": rng.choice(["os", "ws", "is"]), "mode": rng.choice(["CALC", "USER"]),
            "bandwidth": rng.choice([1, 1, 2, 3, 10, 40]),
            "ifmap_banks": banks[0], "ifmap_bandwidth": banks[0] * rng.choice([1, 2, 5, 40]),
            "filter_banks": banks[1], "filter_bandwidth": banks[1] * rng.choice([1, 2, 5, 40]),
        }  # fmt: skip
        kernel = [rng.randint(1, 5), rng.randint(1, 5)]
        layer = [
            kernel[0] + rng.randint(0, 12), kernel[1] + rng.randint(0, 12), *kernel,
            rng.choice([1, 3, 8, 17, 40]), rng.choice([1, 4, 9, 30]), rng.randint(1, 3),
        ]  # fmt: skip
        if wide:  # Arrays that ask for more in a cycle than a buffer of 1 KiB holds: here the original may divide by zero.
            changes |= {"rows": rng.choice([600, 1100]), "columns": rng.choice([600, 1100])}
            layer = [rng.randint(5, 34), rng.randint(5, 34), 1, 1, rng.randint(1, 4), rng.choice([3, 1300]), 1]
            layer[:2] = layer[:2] if layer[5] == 3 else [5, 6]
        if number >= 110:
            changes |= {"columns": 1100, "ifmap": 1, "filter": 1, "dataflow": ["ws", "is"][number % 2], "mode": "CALC"}
            layer = [3, 4, 1, 1, 2, 1300, 1] if number % 2 == 0 else [40, 50, 1, 1, 2, 3, 1]
        while not wide and product([layer[0], layer[1], *kernel, layer[4], layer[5]]) > 400_000:
            layer[5] = max(1, layer[5] // 2)
            layer[4] = max(1, layer[4] // 2)
            if layer[4] == layer[5] == 1:
                break
        if number < len(done):  # A run that was cut off goes on; delete the file to begin anew.
            blocks.append(done[number].strip("\n") + "\n")
            continue
        cfg = CFG.format(**{**DEFAULTS, **changes})
        try:
            reports = simulate(cfg, HEADER + "x, " + ", ".join(map(str, layer)) + ",\n")
            lines = [report.splitlines()[1] for report in reports]
        except (ValueError, ZeroDivisionError, IndexError) as error:
            lines = ["error " + type(error).__name__]
        settings = " ".join(f"{key}={value}" for key, value in changes.items())
        blocks.append("\n".join([settings, " ".join(map(str, layer)), *lines]) + "\n")
        if number % 5 == 0:
            file.write_text("\n".join(blocks))
            print(number, flush=True)
    file.write_text("\n".join(blocks))


def product(numbers):
    result = 1
    for number in numbers:
        result *= number
    return result


if __name__ == "__main__":
    wanted = sys.argv[1:] or ["runs", "random"]
    if "runs" in wanted:
        make_runs()
    if "random" in wanted:
        make_random()
