"""Packages to the packages that they depend on, recommend or suggest: the task of data/debian-relations/, with names."""
import collections
import gzip
import re

from debian_index import Release, Stop, paragraphs, say
from xmc_set import in_test, shuffled, tf_idf

RELATIONS = ("Pre-Depends", "Depends", "Recommends", "Suggests")
TEXT = ("Package", "Description", "Section", "Source", "Maintainer", "Homepage")
WORD = re.compile(r"[a-z0-9+]{2,}")
TARGET = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9+.\-]*)")


def fetch(mirror, release, cache):
    """The three indices that a machine of that release has: security first, so that its version of a package is taken."""
    security = mirror.rstrip("/") + "-security"
    parts = ((security, f"{release}-security"), (mirror, f"{release}-updates"), (mirror, release))
    files, sources = [], []
    for base, suite in parts:
        file, source = Release(base, suite, cache).fetch("main/binary-amd64/Packages.xz")
        files.append(file)
        sources.append(source)
    return files, sources


def packages(files):
    """Each package once, as the first index that has it gives it."""
    found = {}
    for file in files:
        for package in paragraphs(file):
            if "Package" in package:
                found.setdefault(package["Package"], package)
    say(f"{len(found)} packages")
    return list(found.values())


def targets(package):
    """Names of all its relations, alternatives too, in order; not itself."""
    text = ",".join(package[field] for field in RELATIONS if field in package)
    names = (found[1] for part in re.split(r"[,|]", text) if (found := TARGET.match(part)))
    return [name for name in dict.fromkeys(names) if name != package["Package"]]


def words(package):
    """Words of the text fields; parts of the name (n:) and tags (t:) on their own."""
    text = " ".join(package.get(field, "") for field in TEXT).lower()
    tags = (tag.strip() for tag in package.get("Tag", "").split(","))
    return WORD.findall(text) + ["n:" + part for part in re.split("[-+.]", package["Package"])] + ["t:" + tag for tag in tags if tag]


def task(files):
    """[(name, labels by name, features)] of the packages that have labels, the labels in the order of their numbers, and the features' names."""
    known = packages(files)
    rows, features = tf_idf([words(p) for p in known])
    wanted = [targets(p) for p in known]
    count = collections.Counter(name for names in wanted for name in names)
    labels, samples = {}, []
    for package, names, row in zip(known, wanted, rows):
        names = [name for name in names if count[name] >= 2]
        for name in sorted(names):
            labels.setdefault(name, len(labels))
        if names:
            samples.append((package["Package"], names, row))
    return samples, list(labels), features


def make(files, seed, share):
    samples, labels, features = task(files)
    ids = {name: i for i, name in enumerate(labels)}
    sides = {False: [], True: []}
    for name, names, row in samples:
        sides[in_test(name, seed, share)].append((name, sorted(ids[n] for n in names), row))
    return shuffled(sides[False]), shuffled(sides[True]), labels, features


def read(file):
    """Rows of a set as the recovery compares them: labels, and features as they are written."""
    with gzip.open(file, "rt") as source:
        next(source)
        for line in source:
            labels, *row = line.split()
            yield [int(label) for label in labels.split(",")], tuple(row)


def refine(nodes, rows, labels_of, start):
    """Colours of labels until they stay: a row's colour is its own with its labels' colours, a label's its own with its rows'."""
    colour, classes = {node: hash(start(node)) for node in nodes}, 0
    holders = collections.defaultdict(list)
    for n, row in enumerate(rows):
        for node in labels_of(row):
            holders[node].append(n)
    while True:
        seen = [hash((row[1], tuple(sorted(colour[node] for node in labels_of(row))))) for row in rows]
        colour = {node: hash((colour[node], tuple(sorted(seen[n] for n in holders[node])))) for node in nodes}
        if len(set(colour.values())) == classes:
            return colour, seen
        classes = len(set(colour.values()))


def recover(files, folder):
    """Names of the labels and samples of a set that was made from the same indices but numbered a package's labels in an unknown order.

    Features are numbered as they come, so theirs are known at once. A package's new labels have neighbouring numbers; within such a block
    a label is told by its samples, and these by their features. Labels with the very same samples cannot be told apart, nor need
    they be: they get their names in alphabetical order."""
    samples, labels, features = task(files)
    ours = [(names, tuple(f"{f}:{w:.4f}" for f, w in row), name) for name, names, row in samples]
    sides = {side: list(read(folder / f"{side}.txt.gz")) for side in ("train", "test")}
    theirs = sides["train"] + sides["test"]
    if collections.Counter(row[1] for row in ours) != collections.Counter(row[1] for row in theirs):
        raise Stop(f"{folder}: not the set of these indices (its samples have other features); it needs the indices of the day it was made")
    block = {}
    for n, (names, _, _) in enumerate(ours):
        for name in names:
            block.setdefault(name, n)
    by_number = [block[name] for name in labels]  # ascending in n, so a number's block is the same in any order within blocks
    ours_colour, ours_rows = refine(labels, ours, lambda row: row[0], lambda name: block[name])
    theirs_colour, theirs_rows = refine(range(len(labels)), theirs, lambda row: row[0], lambda i: by_number[i])
    if collections.Counter(ours_rows) != collections.Counter(theirs_rows):
        raise Stop(f"{folder}: the labels' numbers are not those of these indices")
    same = collections.defaultdict(list)
    for name in sorted(labels):
        same[ours_colour[name]].append(name)
    alike = sum(len(names) for names in same.values() if len(names) > 1)
    found = [same[theirs_colour[i]].pop(0) for i in range(len(labels))]
    rows = collections.defaultdict(list)
    for names, row, name in ours:
        rows[row, tuple(sorted(names))].append(name)
    twins = sum(len(names) for names in rows.values() if len(names) > 1)
    say(f"{len(found)} labels named, {alike} of them up to order among labels of the very same samples")
    say(f"{len(theirs)} samples named, {twins} of them up to order among samples that are equal")
    named = {side: [rows[row, tuple(sorted(found[i] for i in numbers))].pop(0) for numbers, row in here] for side, here in sides.items()}
    return found, features, named
