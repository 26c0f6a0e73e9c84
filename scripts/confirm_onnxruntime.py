#!/usr/bin/env python3
"""Confirms counterexamples by a second program: runs each through onnxruntime and evaluates the property on its answer.

    python3 scripts/confirm_onnxruntime.py LIST.csv RESULTS_DIR [--strict]

LIST.csv is a VNN-COMP list: rows `onnx,vnnlib,...` with paths relative to the list (`.gz` or not), with or without a
header row. RESULTS_DIR holds one result file per row, `1.txt` for the first instance: `sat` on its first line, then
`((X_0 0.1) ... (Y_0 0.2) ...)`. Files with another verdict have nothing to confirm and are only counted.

What the competition asks of a counterexample (its rules, "counterexample validation"), per instance:
  * constraints on X and Y are missed by at most 1e-4, absolute, with Y as onnxruntime computes it in f32;
  * the recorded Y differs from onnxruntime's by less than 1e-3 of its largest entry.
Beside it stands the stricter reading, in rational arithmetic with no tolerance at all: X as written in the file lies in
the box, and onnxruntime's own Y fulfils the violated condition. (X as run need not: where a bound is no f32 number,
such as a fixed input of 0.1, rounding leaves the box by half a unit.) An instance is confirmed when X as written lies
in the box exactly and the competition's rules hold for X as run; `--strict` also asks for Y exactly.

Shares no code with Wavehull: the property reader below is a few lines of its own. Needs onnxruntime and numpy.
Exit codes: 0 every `sat` confirmed, 1 one was not or there was none, 2 wrong usage.
"""

import argparse
import csv
import gzip
import re
import sys
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import numpy as np
import onnxruntime

CONSTRAINT_TOLERANCE = Fraction(1, 10_000)  # absolute
OUTPUT_TOLERANCE = 1e-3  # relative to the largest output
OPEN_MISS = Fraction(1, 10**40)  # by how much equality misses `<`

PAIR = re.compile(r"\(\s*([XY]_\d+)\s+([^\s()]+)\s*\)")
TOKEN = re.compile(r"[()]|[^\s()]+")


class Problem(Exception):
    """Something in the input files that keeps an instance from being checked."""


# --- files ----------------------------------------------------------------------------------------------------------


def existing(path):
    """The path itself, or its twin with or without `.gz`."""
    twin = path.with_suffix("") if path.suffix == ".gz" else path.with_name(path.name + ".gz")
    for candidate in (path, twin):
        if candidate.is_file():
            return candidate
    raise Problem(f"{path}: no such file, with or without .gz")


def read_bytes(path):
    path = existing(path)
    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix == ".gz" else data


def read_list(path):
    """Rows of the list as (onnx path, vnnlib path, published verdict or '')."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.reader(file) if row and row[0].strip()]
    header = rows[0] if rows and rows[0][0].strip() == "onnx" else []
    verdict = header.index("verdict") if "verdict" in header else None
    return [
        (path.parent / row[0].strip(), path.parent / row[1].strip(), row[verdict] if verdict is not None else "")
        for row in rows[1 if header else 0 :]
    ]


def numbers(values, letter):
    """The values of X_0, X_1, ... in order, none missing."""
    chosen = {int(name[2:]): value for name, value in values.items() if name[0] == letter}
    if not chosen:
        raise Problem(f"no {letter}_0 in the result file")
    if sorted(chosen) != list(range(len(chosen))):
        raise Problem(f"{letter}_0 to {letter}_{max(chosen)} are not all in the result file")
    return [chosen[index] for index in range(len(chosen))]


def read_counterexample(text):
    """X and Y as exact fractions of the decimals in the file."""
    values = {}
    for name, value in PAIR.findall(text):
        if name in values:
            raise Problem(f"{name} is given twice")
        try:
            values[name] = Fraction(value)
        except (ValueError, ZeroDivisionError) as error:
            raise Problem(f"{name} is '{value}', not a finite number") from error
    return numbers(values, "X"), numbers(values, "Y")


# --- the property ---------------------------------------------------------------------------------------------------


def parse(text):
    """VNN-LIB as nested lists of atoms; comments run from `;` to the end of the line."""
    stack = [[]]
    for token in TOKEN.findall(re.sub(r";[^\n]*", "", text)):
        if token == "(":
            stack.append([])
        elif token == ")":
            if len(stack) == 1:
                raise Problem("the property closes a bracket that it never opened")
            done = stack.pop()
            stack[-1].append(done)
        else:
            stack[-1].append(token)
    if len(stack) != 1:
        raise Problem("the property leaves a bracket open")
    return stack[0]


def names(term):
    """The variables of a term."""
    if isinstance(term, str):
        return {term} if term[:2] in ("X_", "Y_") else set()
    return set().union(*(names(part) for part in term[1:]))


def value(term, point):
    """The exact value of an arithmetic term."""
    if isinstance(term, str):
        if term in point:
            return point[term]
        try:
            return Fraction(term)
        except ValueError as error:
            raise Problem(f"'{term}' is no number and no variable of the counterexample") from error
    parts = [value(part, point) for part in term[1:]]
    if term[0] == "+":
        return sum(parts)
    if term[0] == "-":
        return -parts[0] if len(parts) == 1 else parts[0] - sum(parts[1:])
    if term[0] == "*" and len(parts) == 2:
        return parts[0] * parts[1]
    raise Problem(f"unknown arithmetic '{term[0]}'")


def miss(formula, point):
    """By how much a formula is missed, exactly: 0 where it holds. `and` asks for its worst part, `or` for its best."""
    head, parts = formula[0], formula[1:]
    if head in ("and", "or"):
        return (max if head == "and" else min)(miss(part, point) for part in parts)
    if head not in ("<=", ">=", "<", ">", "=") or len(parts) != 2:
        raise Problem(f"unknown condition '{head}'")
    left, right = (value(part, point) for part in parts)
    gap = {"<": left - right, ">": right - left, "=": abs(left - right)}[head[0]]
    if gap == 0 and head in ("<", ">"):
        return OPEN_MISS
    return max(gap, Fraction(0))


@lru_cache(maxsize=4)
def assertions(path):
    """The asserted formulas of a property file: those on inputs alone, and the others."""
    formulas = [item[1] for item in parse(read_bytes(path).decode("utf-8")) if item[0] == "assert"]
    box, others = [], []
    for formula in formulas:
        (others if any(name[0] == "Y" for name in names(formula)) else box).append(formula)
    return box, others


# --- the network ----------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def load(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    model = read_bytes(path)
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own types share no base but this one
        raise Problem(f"onnxruntime cannot load {path.name}: {error}") from error


def run(path, x):
    """onnxruntime's f32 outputs for f32 inputs, both flat in C order."""
    network = load(path)
    inputs = network.get_inputs()
    if len(inputs) != 1:
        raise Problem(f"the network has {len(inputs)} inputs; one is expected")
    shape = [size if isinstance(size, int) and size > 0 else 1 for size in inputs[0].shape]
    if int(np.prod(shape)) != x.size:
        raise Problem(f"the network takes {shape}, the counterexample has {x.size} values")
    return network.run(None, {inputs[0].name: x.reshape(shape)})[0].reshape(-1)


# --- the verdict ----------------------------------------------------------------------------------------------------


def check(onnx, vnnlib, text):
    """The figures of one counterexample: what each condition is missed by, and how far the recorded Y is off."""
    x_text, y_text = read_counterexample(text)
    x = np.array([float(v) for v in x_text], dtype=np.float64).astype(np.float32)
    y = run(onnx, x)
    if len(y) != len(y_text):
        raise Problem(f"the network has {len(y)} outputs, the counterexample {len(y_text)}")
    if not np.isfinite(y).all():
        raise Problem("onnxruntime's outputs are not finite")
    written = {f"X_{i}": v for i, v in enumerate(x_text)}
    point = {f"X_{i}": Fraction(float(v)) for i, v in enumerate(x)}
    point |= {f"Y_{i}": Fraction(float(v)) for i, v in enumerate(y)}
    box, condition = assertions(vnnlib)
    if not condition:
        raise Problem("the property has no condition on outputs")
    recorded = np.array([float(v) for v in y_text])
    scale = float(np.abs(recorded).max())
    return {
        "box": max((miss(formula, written) for formula in box), default=Fraction(0)),
        "box_run": max((miss(formula, point) for formula in box), default=Fraction(0)),
        "condition": max(miss(formula, point) for formula in condition),
        # Outputs that are all next to zero have no relative error worth the name; the competition leaves them out too.
        "output": float(np.abs(recorded - y).max()) / scale if scale > 1e-6 else 0.0,
    }


def judge(figures, strict):
    """Whether the competition accepts it, and whether it is confirmed by this script's stricter rule."""
    accepted = (
        max(figures["box_run"], figures["condition"]) <= CONSTRAINT_TOLERANCE and figures["output"] < OUTPUT_TOLERANCE
    )
    exact = figures["box"] == 0 and (figures["condition"] == 0 or not strict)
    return accepted, accepted and exact


def say(miss_by):
    return "held exactly" if miss_by == 0 else f"missed by {float(miss_by):.3g}"


def confirm(number, row, text, strict):
    """Prints the line of one instance; returns whether it is confirmed."""
    onnx, vnnlib, verdict = row
    label = f"{number}: {onnx.name} {vnnlib.name}"
    try:
        figures = check(onnx, vnnlib, text)
    except (Problem, OSError, OverflowError, UnicodeDecodeError) as error:
        print(f"{label}: NOT CHECKED: {error}")
        return False
    accepted, confirmed = judge(figures, strict)
    note = "; the list says unsat" if verdict == "unsat" else ""
    print(
        f"{label}: {'confirmed' if confirmed else 'NOT CONFIRMED'}: box {say(figures['box'])} (as run in f32: {say(figures['box_run'])}), "
        f"condition {say(figures['condition'])}, recorded Y off by {figures['output']:.2g}, "
        f"within the competition's tolerances: {'yes' if accepted else 'NO'}{note}"
    )
    return confirmed


def result_files(folder, count):
    """The result files with their row numbers, in the order of the list."""
    found = []
    for path in folder.glob("*.txt"):
        if not path.stem.isdigit() or not 1 <= int(path.stem) <= count:
            print(f"error: {path}: the name is not a row number of the list (1 to {count})", file=sys.stderr)
            sys.exit(2)
        found.append((int(path.stem), path))
    return sorted(found)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("list", type=Path, help="VNN-COMP list: onnx,vnnlib,...")
    parser.add_argument("results", type=Path, help="folder of result files, 1.txt for the first instance")
    parser.add_argument("--strict", action="store_true", help="onnxruntime's Y must fulfil the condition exactly")
    arguments = parser.parse_args()
    for path, there in ((arguments.list, arguments.list.is_file()), (arguments.results, arguments.results.is_dir())):
        if not there:
            parser.error(f"{path}: not found")
    rows = read_list(arguments.list)
    total = confirmed = others = 0
    for number, path in result_files(arguments.results, len(rows)):
        verdict, _, text = path.read_text(encoding="utf-8").partition("\n")
        if verdict.strip() != "sat":
            others += 1
            continue
        total += 1
        confirmed += confirm(number, rows[number - 1], text, arguments.strict)
    print(f"onnxruntime {onnxruntime.__version__}: {confirmed} of {total} counterexamples confirmed; {others} other verdicts")
    sys.exit(0 if total and confirmed == total else 1)


if __name__ == "__main__":
    main()
