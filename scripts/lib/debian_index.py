"""Debian's public indices: fetched from a mirror with a check and a resume, and read line by line."""
import gzip
import hashlib
import http.client
import lzma
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

PUBLIC_MIRROR = "http://deb.debian.org/debian"
TRIES = 4
TIMEOUT = 60  # seconds without a byte
LINE = re.compile(r"^ ([0-9a-f]{64}) +(\d+) (\S+)$", re.M)


class Stop(Exception):
    """A message for the user: what failed, and the next step."""


def say(text):
    print(text, file=sys.stderr, flush=True)


def mirror_of_this_machine():
    """The mirror in /etc/apt, where there is one; the public one elsewhere."""
    files = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    for file in files:
        try:
            text = file.read_text(errors="replace")
        except OSError:
            continue
        for found in re.findall(r"^(?:URIs:|deb(?: \[[^\]]*\])?)\s+(https?://\S+?/debian)/?\s", text + "\n", re.M):
            return found
    return PUBLIC_MIRROR


def open_url(url, start=0):
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    return urllib.request.urlopen(request, timeout=TIMEOUT)


def reason(error):
    return getattr(error, "reason", None) or error


def get(url):
    """The body of a small file; None where the mirror has none."""
    for attempt in range(TRIES):
        try:
            with open_url(url) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            last = error
        except (OSError, http.client.HTTPException) as error:
            last = error
        time.sleep(attempt)
    raise Stop(f"cannot fetch {path_of(url)}: {reason(last)}; is there a network? another mirror: --mirror URL")


def path_of(url):
    """An address without its host: messages and read-mes do not name the mirror."""
    return urllib.parse.urlsplit(url).path.lstrip("/")


def download(url, target):
    """Into `target`; a broken-off download goes on from `target`.part. False where the mirror has no such file."""
    part = target.with_name(target.name + ".part")
    for attempt in range(TRIES):
        start = part.stat().st_size if part.exists() else 0
        try:
            with open_url(url, start) as answer:
                whole = answer.status != 206  # the server began again
                with open(part, "wb" if whole else "ab") as out:
                    while block := answer.read(1 << 20):
                        out.write(block)
                length = answer.headers.get("Content-Length")
            if length is None or part.stat().st_size == int(length) + (0 if whole else start):
                part.replace(target)
                return True
            last = "the answer was cut off"
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return False
            if error.code == 416:  # nothing behind `start`: the part is whole, or stale; the caller's check decides
                part.replace(target)
                return True
            last = error
        except (OSError, http.client.HTTPException) as error:
            last = error
        say(f"  attempt {attempt + 1}: {reason(last)}")
        time.sleep(2 * attempt)
    raise Stop(f"cannot fetch {path_of(url)}: {reason(last)}; run this again to go on, or name another mirror: --mirror URL")


def sha256(file):
    digest = hashlib.sha256()
    with open(file, "rb") as source:
        while block := source.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


class Release:
    """One suite of a mirror: its signed list of files (the signature is not checked, only sizes and hashes)."""

    def __init__(self, mirror, suite, cache):
        self.base = f"{mirror.rstrip('/')}/dists/{suite}"
        self.suite, self.cache = suite, cache
        body = get(f"{self.base}/InRelease")
        if body is None:
            raise Stop(f"the mirror has no suite '{suite}'; others are named by --releases, for example bookworm,trixie")
        text = body.decode(errors="replace")
        self.date = (re.search(r"^Date: (.*)$", text, re.M) or [None, "unknown"])[1].strip()
        self.hashes = {path: digest for digest, _, path in LINE.findall(text)}

    def fetch(self, path):
        """The file from the cache or the mirror, first by its hash, then by its name; with what a read-me says of it."""
        digest = self.hashes.get(path)
        if digest is None:
            raise Stop(f"suite '{self.suite}' lists no {path}; it may be too old or too new for this script")
        target = self.cache / f"{self.suite.replace('/', '_')}_{path.replace('/', '_')}"
        source = (f"dists/{self.suite}/{path}", f"release of {self.date}", digest)
        if target.exists() and sha256(target) == digest:
            return target, source
        say(f"fetching {self.suite} {path}")
        folder, _, _ = path.rpartition("/")
        for url in (f"{self.base}/{folder}/by-hash/SHA256/{digest}", f"{self.base}/{path}"):
            if not download(url, target):
                continue
            found = sha256(target)
            if found == digest:
                return target, source
        if not target.exists():
            raise Stop(f"the mirror has no {path}; try again later, or another mirror: --mirror URL")
        for _ in lines(target):  # raises where the file is damaged
            pass
        say("  whole, but not the listed version: a mirror in the middle of an update, or a cache. It is used; the read-me has its hash")
        return target, (source[0], f"not the version of the {source[1]}", found)


def lines(file):
    """Lines without their ends. Names are bytes in the index; those that are not UTF-8 come through unchanged."""
    opener = {".gz": gzip.open, ".xz": lzma.open}.get(Path(file).suffix, open)
    try:
        with opener(file, "rt", encoding="utf-8", errors="surrogateescape", newline="\n") as source:
            for line in source:
                yield line.rstrip("\n")
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise Stop(f"{file}: {error}; delete it and run this again")


def paragraphs(file):
    """A package index: one dictionary a package; lines that go on are joined by a space."""
    now, key = {}, None
    for line in lines(file):
        if not line:
            if now:
                yield now
            now, key = {}, None
        elif line[0] in " \t":
            if key:
                now[key] += " " + line.strip()
        else:
            key, _, value = line.partition(":")
            now[key] = value.strip()
    if now:
        yield now
