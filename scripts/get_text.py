#!/usr/bin/env python3
"""Fetches a few million words of real English as plain text, for skip-gram training: a dictionary from a public Debian package.

  gcide     dict-gcide, the GNU Collaborative International Dictionary of English, 5 million words; GPL-2+
  foldoc    dict-foldoc, the Free On-line Dictionary of Computing, 0.8 million; GFDL
  wordnet   dict-wn, WordNet's entries; the WordNet licence

The package's hash is checked. Markup goes: braces, [1913 Webster] and other source notes, pronunciations between backslashes, numbers of
definitions. A paragraph becomes a line. The text keeps its package's licence; it is not part of this project.

The same package gives the same bytes. Python 3.8 or newer, standard library only.

exit codes: 0 the text is there; 1 it cannot be made; 2 wrong usage"""
import argparse
import collections
import gzip
import io
import re
import sys
import tarfile
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "lib"))
from debian_index import Release, Stop, download, mirror_of_this_machine, paragraphs, say, sha256  # noqa: E402

TEXTS = {
    "gcide": ("dict-gcide", "gcide.dict.dz", "GPL-2+"),
    "foldoc": ("dict-foldoc", "foldoc.dict.dz", "GFDL"),
    "wordnet": ("dict-wn", "wn.dict.dz", "the WordNet licence"),
}
WORD = re.compile(r"[a-z]+(?:'[a-z]+)*")
NOTE = re.compile(r"\[(?:\d{4} Webster|PJC|WordNet[^\]]*|Webster[^\]]*|Century[^\]]*|[A-Z][A-Za-z]{1,3}|RDH|\d+)(?: *\+ *\w+)*\]")
SPOKEN = re.compile(r"\\[^\\]{1,80}\\")
NUMBER = re.compile(r"^(?:\(?[a-z0-9]{1,2}[.)] )+")


def package_file(mirror, release, name, cache):
    index = Release(mirror, release, cache)
    listed, _ = index.fetch("main/binary-amd64/Packages.xz")
    for package in paragraphs(listed):
        if package.get("Package") == name:
            break
    else:
        raise Stop(f"{release} has no package {name}; another release: --release NAME")
    target = cache / Path(package["Filename"]).name
    if not (target.exists() and sha256(target) == package["SHA256"]):
        say(f"fetching {package['Filename']}")
        if not download(f"{mirror.rstrip('/')}/{package['Filename']}", target):
            raise Stop(f"the mirror has no {package['Filename']}; another mirror: --mirror URL")
        if sha256(target) != package["SHA256"]:
            target.unlink()
            raise Stop(f"{package['Filename']} does not have the listed hash; run this again")
    return target


def member(deb, wanted):
    """A file of a .deb: an ar archive with a tar archive in it."""
    with open(deb, "rb") as file:
        if file.read(8) != b"!<arch>\n":
            raise Stop(f"{deb}: not a Debian package; delete it and run this again")
        while head := file.read(60):
            try:
                name, size = head[:16].decode().rstrip(" /"), int(head[48:58])
            except ValueError:
                break
            body = file.read(size + size % 2)[:size]
            if name.startswith("data.tar"):
                if name.endswith(".zst"):
                    raise Stop(f"{deb}: packed with zstd; take an older release, for example --release bookworm")
                with tarfile.open(fileobj=io.BytesIO(body)) as tar:
                    for entry in tar:
                        if entry.isfile() and entry.name.rpartition("/")[2] == wanted:
                            return tar.extractfile(entry).read()
    raise Stop(f"{deb}: no {wanted} in it; another release: --release NAME")


def plain(raw):
    """Paragraphs without their markup, one a line."""
    out = []
    for paragraph in re.split(r"\n[ \t]*\n", raw):
        text = NOTE.sub(" ", SPOKEN.sub(" ", paragraph)).replace("{", "").replace("}", "")
        text = NUMBER.sub("", " ".join(text.split()))
        if WORD.search(text.lower()):
            out.append(text)
    return "\n".join(out) + "\n"


def only_words(text):
    """As Text8: small letters and single spaces."""
    return " ".join(WORD.findall(text.lower())).replace("'", "") + "\n"


def self_test():
    """A made-up package: an ar archive with a tar archive with a packed text."""
    raw = 'Above \\A*bove"\\, prep. [OE. above]\n   1. In or to a {higher}\n      place.\n      [1913 Webster]\n\n   [PJC]\n\n   2. More than.\n'
    data = gzip.compress(raw.encode())
    with tempfile.TemporaryDirectory() as folder:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:xz") as tar:
            entry = tarfile.TarInfo("./usr/share/dictd/x.dict.dz")
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
        body = packed.getvalue()
        head = b"data.tar.xz".ljust(16) + b"0".ljust(32) + str(len(body)).encode().ljust(10) + b"`\n"
        deb = Path(folder) / "x.deb"
        deb.write_bytes(b"!<arch>\n" + head + body + b"\n" * (len(body) % 2))
        text = plain(gzip.decompress(member(deb, "x.dict.dz")).decode())
    assert text == "Above , prep. [OE. above] 1. In or to a higher place.\nMore than.\n", text
    assert only_words("Don't, A-b") == "dont a b\n"
    print("self-test: all is well")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("file", type=Path, nargs="?", help="where the text goes")
    p.add_argument("--text", choices=TEXTS, default="gcide")
    p.add_argument("--words", action="store_true", help="small letters and single spaces only, as Text8 has them")
    p.add_argument("--release", default="bookworm")
    p.add_argument("--mirror", help="a mirror of the Debian archive (default: the one in /etc/apt, or deb.debian.org)")
    p.add_argument("--cache", type=Path, help="where the package is kept (default: .indices beside FILE)")
    p.add_argument("--self-test", action="store_true", help="test this script on a made-up package; no network")
    args = p.parse_args()
    if args.self_test:
        return self_test()
    if args.file is None:
        p.error("which file?")
    cache = args.cache or args.file.resolve().parent / ".indices"
    cache.mkdir(parents=True, exist_ok=True)
    name, inside, licence = TEXTS[args.text]
    deb = package_file(args.mirror or mirror_of_this_machine(), args.release, name, cache)
    try:
        text = plain(gzip.decompress(member(deb, inside)).decode("utf-8", "replace"))
    except (tarfile.TarError, EOFError) as error:
        raise Stop(f"{deb}: {error}; delete it and run this again")
    count = collections.Counter(WORD.findall(text.lower()))
    args.file.write_text(only_words(text) if args.words else text, encoding="utf-8")
    print(f"{args.file}: {sum(count.values())} words, {len(count)} distinct, {sum(n > 1 for n in count.values())} seen twice; "
          f"{deb.name}, SHA-256 {sha256(deb)}; licence of the text: {licence}")


if __name__ == "__main__":
    try:
        main()
    except (Stop, OSError) as error:
        say(f"get_text: {error}")
        sys.exit(1)
