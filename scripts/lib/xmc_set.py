"""A multi-label set in the Extreme Classification text format: tf-idf, a split by hash, files, and two simple baselines."""
import collections
import contextlib
import gzip
import hashlib
import heapq
import io
import math
import random


def digest(name, key=b""):
    return hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8, key=key).digest()


def in_test(name, seed, share):
    """The split: a hash of the sample's name and the seed, so that a name stays on its side whatever else is in the index."""
    return int.from_bytes(digest(name, str(seed).encode()), "big") < share * 2**64


def shuffled(rows):
    """Rows in the order of a hash of their names: an index is sorted, and neither training nor the first part of a test set should be."""
    return sorted(rows, key=lambda row: (digest(row[0]), row[0]))


def tf_idf(bags, lowest=2, highest=1.0):
    """Bags of words (iterables) to [(feature, weight)] and the features' names, numbered as they come. (1 + ln tf) ln(N / df);
    words of fewer than `lowest` bags, or of more than that share of them, are left out."""
    counts = [collections.Counter(bag) for bag in bags]
    df = collections.Counter()
    for count in counts:
        df.update(count.keys())
    ids, rows = {}, []
    for count in counts:
        row = []
        for word, n in count.items():
            if lowest <= df[word] <= highest * len(counts):
                row.append((ids.setdefault(word, len(ids)), (1 + math.log(n)) * math.log(len(counts) / df[word])))
        rows.append(sorted(row))
    return rows, list(ids)


@contextlib.contextmanager
def text_file(path):
    """To write text; a .gz is packed, and its bytes depend on the text alone: no name and no time in the header."""
    with open(path, "wb") as file:
        if str(path).endswith(".gz"):
            with gzip.GzipFile(filename="", mode="wb", compresslevel=6, mtime=0, fileobj=file) as packed:
                with io.TextIOWrapper(packed, encoding="utf-8", newline="\n") as out:
                    yield out
        else:
            with io.TextIOWrapper(file, encoding="utf-8", newline="\n") as out:
                yield out


def clean(name):
    """One line, valid UTF-8."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace").replace("\n", " ").replace("\r", " ")


def write_names(path, names):
    with text_file(path) as out:
        out.writelines(clean(name) + "\n" for name in names)


def write_samples(path, rows, features, labels):
    """Rows are (labels, [(feature, weight)]), both ascending."""
    with text_file(path) as out:
        out.write(f"{len(rows)} {features} {labels}\n")
        for chosen, row in rows:
            out.write(",".join(map(str, chosen)) + "".join(f" {f}:{w:.4f}" for f, w in row) + "\n")


def quantiles(values, at=(0.0, 0.1, 0.5, 0.9, 0.99, 1.0)):
    values = sorted(values)
    return [values[min(len(values) - 1, int(len(values) * q))] for q in at]


def most_frequent(train, test):
    """P@1 of the label that most training samples have, said for every test sample."""
    count = collections.Counter(label for labels, _ in train for label in labels)
    best = min(count, key=lambda label: (-count[label], label))
    return sum(best in labels for labels, _ in test) / len(test)


def nearest(train, test, neighbours=10, queries=2000, common=0.02, seed=1):
    """P@1 of the label with the largest sum of cosines among the nearest training samples, for a seeded choice of test samples.
    Features of more than `common` of the training samples are not looked up (nor are they words that tell much)."""
    posts, norms = collections.defaultdict(list), []
    df = collections.Counter(f for _, row in train for f, _ in row)
    for n, (_, row) in enumerate(train):
        norms.append(math.sqrt(sum(w * w for _, w in row)) or 1.0)
        for f, w in row:
            if df[f] <= common * len(train):
                posts[f].append((n, w))
    chosen = random.Random(seed).sample(range(len(test)), min(queries, len(test)))
    hits = 0
    for q in chosen:
        labels, row = test[q]
        scores = collections.defaultdict(float)
        for f, w in row:
            for n, v in posts.get(f, ()):
                scores[n] += w * v
        votes = collections.defaultdict(float)
        for score, n in heapq.nsmallest(neighbours, ((-s / norms[n], n) for n, s in scores.items())):
            for label in train[n][0]:
                votes[label] -= score
        if votes:
            hits += min(votes, key=lambda label: (-votes[label], label)) in labels
    return hits / len(chosen), len(chosen)
