#!/usr/bin/env python3
"""Makes real extreme multi-label sets, with names, from Debian's public indices, in the Extreme Classification text format.

The large set (default; 557 thousand labels): which file names are found beside this one? Samples and labels are the names of files in all
packages of two releases; two names are related if several directories hold both. Item to item, like Amazon-670K. About 100 MB are fetched,
once; needs 6 GB of memory and some ten minutes.

The small set (--relations): which packages does this one depend on, recommend or suggest? The task of data/debian-relations/.

Writes train.txt.gz, test.txt.gz, labels.txt, features.txt, train-names.txt, test-names.txt and README.md to the folder. The same index
files and options give the same bytes. Python 3.8 or newer, standard library only.

exit codes: 0 the set is there; 1 it cannot be made (no network, a broken file, another index); 2 wrong usage"""
import argparse
import random
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "lib"))
import colocation  # noqa: E402
import relations  # noqa: E402
import xmc_set  # noqa: E402
from debian_index import Stop, mirror_of_this_machine, say, sha256  # noqa: E402

LICENCE = """The set holds facts about Debian's packages (names of files and packages, their places and relations; words of one-line descriptions
as counts), taken from the archive's public indices. No file's content is in it."""

LARGE = """# Names of files found beside each other

A sample is the name of a file in Debian's packages; its labels are the names that are found beside it: those that share at least two
directories with it, up to {most} of them, by shared directories / directories of the label ^ {power}, equals by their distance in the
alphabetical list of names. Features are tf-idf weights of the parts of its own name (n:), its runs of three characters (c:), its ending (x:),
and of words of up to three of its directories, with the packages there (p:) and their sections (s:). A label's name is not among the
features, but its parts can be, as names of neighbours look alike: {covered:.1%} of the labels of test samples have all parts of their name
(without the ending) among the sample's own.

Left out: names in one directory only or in more than {directories}, hashes and numbered pages, directories with more than {names} of the
names, and labels with fewer than two training samples. The split is by a hash of the sample's name (seed {seed}).
"""

SMALL = """# Debian relations

A sample is a package; its labels are the packages that it depends on, recommends or suggests, alternatives included, that at least two
packages name. Features are tf-idf weights of the words of its name, description, section, source, maintainer and home page, of the parts of its
name (n:) and of its tags (t:). The split is by a hash of the package's name (seed {seed}).
"""


def table(rows):
    return "".join(f"| {a} | {b} |\n" for a, b in [("", ""), ("---", "---"), *rows])


def count_table(train, test, labels, features, baseline):
    held = [len(row[1]) for row in train]
    filled = [len(row[2]) for row in train]
    count = [0] * len(labels)
    for row in train:
        for label in row[1]:
            count[label] += 1
    rows = [
        ("training samples", len(train)), ("test samples", len(test)), ("features", len(features)), ("labels", len(labels)),
        ("labels with 2 or more training samples", sum(n >= 2 for n in count)),
        ("labels a training sample: mean; quantiles 0, .1, .5, .9, .99, 1", f"{sum(held) / len(held):.2f}; {xmc_set.quantiles(held)}"),
        ("non-zero features a sample: mean; the same quantiles", f"{sum(filled) / len(filled):.1f}; {xmc_set.quantiles(filled)}"),
        ("training samples a label: mean; the same quantiles", f"{sum(count) / len(count):.2f}; {xmc_set.quantiles(count)}"),
    ]
    if baseline:
        pairs = [(a, b) for _, a, b in train], [(a, b) for _, a, b in test]
        near, queries = xmc_set.nearest(*pairs)
        rows.append(("P@1 of the most frequent label", f"{xmc_set.most_frequent(*pairs):.4f}"))
        rows.append((f"P@1 of the 10 nearest samples by words ({queries} test samples)", f"{near:.4f}"))
    return rows


def covered(test, labels, features):
    """Share of the test samples' labels whose name's parts are all among the sample's own."""
    parts = [{"n:" + part.lower() for part in colocation.PARTS.findall(label.rpartition(".")[0] or label)} for label in labels]
    hit = total = 0
    for _, chosen, row in test:
        words = {features[f] for f, _ in row}
        hit += sum(parts[label] <= words for label in chosen)
        total += len(chosen)
    return hit / max(1, total)


def write(out, made, text, sources, baseline):
    train, test, labels, features = made
    if not train or not test:
        raise Stop("no samples are left; allow more with --samples, --most-names or --test-share")
    out.mkdir(parents=True, exist_ok=True)
    for side, rows in (("train", train), ("test", test)):
        xmc_set.write_samples(out / f"{side}.txt.gz", [(a, b) for _, a, b in rows], len(features), len(labels))
        xmc_set.write_names(out / f"{side}-names.txt", [name for name, _, _ in rows])
    xmc_set.write_names(out / "labels.txt", labels)
    xmc_set.write_names(out / "features.txt", features)
    say("counting" + (" and baselines" if baseline else ""))
    rows = count_table(train, test, labels, features, baseline)
    made_of = "".join(f"* `{path}` ({date}), SHA-256 {digest}\n" for path, date, digest in sources)
    body = f"{text}\n{table(rows)}\nMade by `scripts/make_large_set.py` of, on any mirror of the Debian archive:\n\n{made_of}\n{LICENCE}\n"
    (out / "README.md").write_text(body, encoding="utf-8")
    for name, value in rows:
        print(f"{name}: {value}")


def name_shipped(folder, out, files):
    labels, features, samples = relations.recover(files, folder)
    out.mkdir(parents=True, exist_ok=True)
    xmc_set.write_names(out / "labels.txt.gz", labels)
    xmc_set.write_names(out / "features.txt.gz", features)
    for side, names in samples.items():
        xmc_set.write_names(out / f"{side}-names.txt.gz", names)


def self_test():
    """Made-up indices: both sets, their format, the same bytes twice, and names recovered from numbers that were mixed within blocks."""
    import gzip

    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        rng = random.Random(3)
        with open(folder / "Contents", "w") as file:
            for d in range(200):
                group = d % 40
                for name in rng.sample([f"Part{group}Of{n}.h" for n in range(6)], 5):
                    file.write(f"usr/include/group{group}/v{d}/{name}      libdevel/lib{group}-dev,libs/x\n")
        with open(folder / "Packages", "w") as file:
            for n in range(300):
                wanted = ", ".join(f"lib{rng.randrange(40)} (>= 1) | other{rng.randrange(9)}" for _ in range(3))
                file.write(f"Package: lib{n}\nDescription: words {n % 7} of kind{n % 11}\nDepends: {wanted}\nTag: a::b,\n c::d{n % 5}\n\n")
        options = parser().parse_args([str(folder / "out"), "--test-share", "0.3"])
        for attempt in "ab":
            write(folder / attempt, colocation.make([folder / "Contents"], options), "t", [], True)
        for name in ("train.txt.gz", "test.txt.gz", "labels.txt", "README.md"):
            assert (folder / "a" / name).read_bytes() == (folder / "b" / name).read_bytes(), name
        labels = (folder / "a" / "labels.txt").read_text().splitlines()
        with gzip.open(folder / "a" / "train.txt.gz", "rt") as source:
            samples, _, count = map(int, next(source).split())
            names = (folder / "a" / "train-names.txt").read_text().splitlines()
            rows = list(source)
        assert count == len(labels) and samples == len(rows) == len(names)
        for name, row in zip(names, rows):
            numbers = list(map(int, row.split()[0].split(",")))
            assert numbers == sorted(set(numbers)) and name not in (labels[i] for i in numbers)
            assert all(labels[i].split("Of")[0] == name.split("Of")[0] for i in numbers), "a neighbour of another group"
        packages = [folder / "Packages"]
        made = relations.make(packages, 1, 0.3)
        train, test, labels, features = made
        shuffled = list(range(len(labels)))
        shuffled[:2] = [1, 0]  # the first package's block has two labels or more
        mixed = [[(n, sorted(shuffled[i] for i in a), b) for n, a, b in side] for side in (train, test)]
        write(folder / "c", (*mixed, labels, features), "t", [], False)
        found, words, named = relations.recover(packages, folder / "c")
        assert found[:2] == [labels[1], labels[0]] and found[2:] == labels[2:] and words == features
        assert named["train"] == [name for name, _, _ in train] and named["test"] == [name for name, _, _ in test]
    print("self-test: all is well")


def parser():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder", type=Path, nargs="?", help="where the set goes")
    p.add_argument("--relations", action="store_true", help="the small set: packages and their relations")
    p.add_argument("--names-of", type=Path, metavar="SET", help="recover the names of a relations set made from the same indices")
    p.add_argument("--mirror", help="a mirror of the Debian archive (default: the one in /etc/apt, or deb.debian.org)")
    p.add_argument("--releases", help="suites, by commas (default: bookworm,trixie; --relations: bookworm)")
    p.add_argument("--index", type=Path, nargs="+", metavar="FILE", help="these index files (plain, .gz or .xz), nothing is fetched")
    p.add_argument("--cache", type=Path, help="where the fetched indices are kept (default: FOLDER/.indices)")
    p.add_argument("--seed", type=int, default=1, help="of the split")
    p.add_argument("--test-share", type=float, help="of the samples (default: 0.1; --relations: 0.25)")
    p.add_argument("--samples", type=int, help="at most so many, chosen by a hash of the name (default: all)")
    p.add_argument("--labels-per-sample", type=int, default=7)
    p.add_argument("--power", type=float, default=0.4, help="0: the commonest neighbours first; 0.5: by cosine; 1: the most telling first")
    p.add_argument("--most-directories", type=int, default=500, help="names in more than so many directories are no items")
    p.add_argument("--most-names", type=int, default=384, help="directories with more than so many items are left out")
    p.add_argument("--no-baseline", action="store_true", help="do not measure the simple baselines (minutes)")
    p.add_argument("--self-test", action="store_true", help="test this script on made-up indices; no network")
    return p


def main():
    p = parser()
    args = p.parse_args()
    if args.self_test:
        return self_test()
    if args.folder is None:
        p.error("which folder?")
    small = args.relations or args.names_of is not None
    if args.test_share is None:
        args.test_share = 0.25 if small else 0.1
    if not 0 < args.test_share < 1 or args.labels_per_sample < 1 or (args.samples is not None and args.samples < 1):
        p.error("--test-share is between 0 and 1; --labels-per-sample and --samples are at least 1")
    if args.index:
        files, sources = args.index, [(str(file.name), "given", sha256(file)) for file in args.index]
    else:
        cache = args.cache or args.folder / ".indices"
        cache.mkdir(parents=True, exist_ok=True)
        mirror = args.mirror or mirror_of_this_machine()
        releases = (args.releases or ("bookworm" if small else "bookworm,trixie")).split(",")
        if small and len(releases) != 1:
            p.error("--relations takes one release")
        files, sources = relations.fetch(mirror, releases[0], cache) if small else colocation.fetch(mirror, releases, cache)
    if args.names_of:
        return name_shipped(args.names_of, args.folder, files)
    if small:
        made, text = relations.make(files, args.seed, args.test_share), SMALL.format(seed=args.seed)
    else:
        made = colocation.make(files, args)
        text = LARGE.format(
            most=args.labels_per_sample, power=args.power, directories=args.most_directories, names=args.most_names, seed=args.seed,
            covered=covered(made[1], made[2], made[3]),
        )
    write(args.folder, made, text, sources, not args.no_baseline)


if __name__ == "__main__":
    try:
        main()
    except (Stop, OSError) as error:
        say(f"make_large_set: {error}")
        sys.exit(1)
