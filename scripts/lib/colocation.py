"""The large task: from a file's name, and what is known of where it is found, to the names that are found beside it.

Item to item, like "also bought": samples and labels are file names, two are related if several directories hold both."""
import collections
import heapq
import re
from array import array

from debian_index import Release, Stop, lines, say
from xmc_set import clean, digest, in_test, shuffled, tf_idf

INDICES = ("main/Contents-all.gz", "main/Contents-amd64.gz")
# Names that say nothing: hashes, numbered pages of generated documentation.
JUNK = re.compile(r"(?=[0-9a-f]*\d)[0-9a-f]{12,}|^[a-z]?\d+[a-z]?(\.|$)|^form_\d+")
PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\W\d_a-zA-Z]+")
PLACE = re.compile(r"[a-z0-9+]{2,}")
DIRECTORY = (1 << 24) - 1


def fetch(mirror, releases, cache):
    files, sources = [], []
    for suite in releases:
        index = Release(mirror, suite, cache)
        for path in INDICES:
            file, source = index.fetch(path)
            files.append(file)
            sources.append(source)
    return files, sources


class Places:
    """Which names each directory holds, over all indices. Names are numbered in their alphabetical order."""

    def __init__(self, files, most_packages):
        names, directories, self.packages = {}, {}, []
        of_name, of_directory = array("I"), array("I")
        for file in files:
            say(f"reading {file.name}")
            for line in lines(file):
                fields = line.rsplit(None, 1)  # path, then section/package,section/package
                if len(fields) != 2:
                    raise Stop(f"{file}: a line without two fields: {line[:80]!r}; delete it and run this again")
                folder, _, name = fields[0].rpartition("/")
                d = directories.setdefault(folder, len(directories))
                if d == len(self.packages):
                    self.packages.append([])
                owners, owner = self.packages[d], fields[1].partition(",")[0]
                if len(owners) < most_packages and owner not in owners:
                    owners.append(owner)
                of_name.append(names.setdefault(name, len(names)))
                of_directory.append(d)
        if len(directories) > DIRECTORY:
            raise Stop("more than 16 million directories; name fewer releases")
        self.directories, self.names = list(directories), sorted(names)
        place = array("I", bytes(4 * len(names)))
        for number, name in enumerate(self.names):
            place[names[name]] = number
        self.pairs = sorted({place[n] << 24 | d for n, d in zip(of_name, of_directory)})
        say(f"{len(self.pairs)} files, {len(self.names)} names, {len(self.directories)} directories")

    def contexts(self, most_directories, most_names):
        """Directory -> its items, item -> its directories. Items are names in 2 to `most_directories` directories; directories that hold
        fewer than 2 or more than `most_names` items tell nothing and are left out, and then items that are left with fewer than 2."""
        df = array("I", bytes(4 * len(self.names)))
        for pair in self.pairs:
            df[pair >> 24] += 1
        usable = bytearray(2 <= n <= most_directories and not JUNK.search(name) for n, name in zip(df, self.names))
        holds = collections.defaultdict(list)
        for pair in self.pairs:
            if usable[pair >> 24]:
                holds[pair & DIRECTORY].append(pair >> 24)
        holds = {d: items for d, items in holds.items() if 2 <= len(items) <= most_names}
        places = collections.defaultdict(list)
        for d, items in holds.items():
            for item in items:
                places[item].append(d)
        return holds, {item: sorted(where) for item, where in sorted(places.items()) if len(where) >= 2}


def neighbours(holds, places, most, power, directories=12):
    """Item -> up to `most` items that at least two of its directories hold too, best first: by the number of shared directories over the
    power of the neighbour's own number, so that a name of everywhere does not come first everywhere. Equals go by the distance in the
    alphabetical list of all names: of a hundred files that always come together, the next ones of the listing."""
    found = {}
    weight = {item: len(where) ** -power for item, where in places.items()}
    for n, (item, where) in enumerate(places.items()):
        shared = collections.Counter()
        for d in where[:directories]:
            shared.update(holds[d])
        del shared[item]
        ranked = [(-count * weight[other], abs(other - item), other) for other, count in shared.items() if count >= 2 and other in weight]
        if ranked:
            found[item] = [other for _, _, other in heapq.nsmallest(most, ranked)]
        if n % 100_000 == 0:
            say(f"  neighbours: {n} of {len(places)} names")
    return found


def bag(name, where, places, shown):
    """Features of an item: the parts of its name (n:), its ending (x:), and the words of a few of its directories, their packages and sections."""
    stem, dot, ending = name.rpartition(".")
    words = ["n:" + part.lower() for part in PARTS.findall(stem if dot else name)] + (["x:" + ending.lower()] if dot else [])
    for d in where[:shown]:
        words += PLACE.findall(places.directories[d].lower())
        for owner in places.packages[d]:
            section, _, package = owner.rpartition("/")
            words += ["s:" + section] + ["p:" + part for part in re.split("[-+.]", package) if len(part) > 1]
    return words


def letters(name):
    """Runs of three characters of the name (c:), its start and end marked."""
    text = f"<{name.lower()}>"
    return ["c:" + text[i:i + 3] for i in range(len(text) - 2)]


def limit(items, count):
    """That many of the items, chosen by a hash of the name: the same ones whatever else there is."""
    if count is None or len(items) <= count:
        return items
    return sorted(items, key=lambda name: (digest(name), name))[:count]


def make(files, options):
    """Samples of both sides, [(name, labels, features)], and the names of labels and features. Every label has at least 2 training samples."""
    places = Places(files, most_packages=3)
    holds, where = places.contexts(options.most_directories, options.most_names)
    say(f"{len(where)} names in {len(holds)} directories that tell something")
    related = neighbours(holds, where, options.labels_per_sample, options.power)
    kept = set(limit([places.names[item] for item in related], options.samples))
    related = {item: others for item, others in related.items() if places.names[item] in kept}
    tested = {item: in_test(places.names[item], options.seed, options.test_share) for item in related}
    count = collections.Counter(other for item, others in related.items() if not tested[item] for other in others)
    labels = {item: n for n, item in enumerate(sorted(item for item, n in count.items() if n >= 2))}
    related = {item: chosen for item, others in related.items() if (chosen := sorted(labels[o] for o in others if o in labels))}
    say(f"{len(related)} samples, {len(labels)} labels; features")
    rows, features = tf_idf([bag(places.names[item], where[item], places, shown=3) for item in related], highest=0.5)
    more, runs = tf_idf([letters(clean(places.names[item])) for item in related])
    rows = [row + [(f + len(features), w) for f, w in others] for row, others in zip(rows, more)]
    features += map(clean, runs)
    sides = {False: [], True: []}
    for (item, chosen), row in zip(related.items(), rows):
        if row:
            sides[tested[item]].append((clean(places.names[item]), chosen, row))
    return shuffled(sides[False]), shuffled(sides[True]), [clean(places.names[item]) for item in labels], features
