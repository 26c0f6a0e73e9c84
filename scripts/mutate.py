#!/usr/bin/env python3
"""Plants known bugs in a copy of the project, one at a time, and tells which tests notice them.

Usage: python3 scripts/mutate.py [--only PATTERN] [--list] [--folder FOLDER] [--features LIST]

  --only PATTERN    bugs whose name or file holds this text (any case); may be given several times
  --list            names the bugs and the tests that must notice them, and does nothing else
  --folder FOLDER   where the copy and what is built from it live (target/mutations); what was built is used again
  --features LIST   cargo features of the tests (train,hash; for the hash wing alone: --only hash --features hash)
  -h, --help        this text

The bugs are in tests/mutations.txt. Tests run as they are on this machine's device; first without a bug, which all must
pass. Programs hold the text of kernels as it is, so on Linux a kernel's bug is written into a copy of the built program,
which saves a build; elsewhere, and for bugs in Rust, the copy of the project is built again. A bug counts as noticed if a
test fails by an assertion; what does not compile, a kernel that the device refuses, errors, crashes and tests that take ten
times as long are named as such and do not count. Tests of the suite that plant bugs themselves (their names say `broken`)
are left out. Your own files are only read.

exit codes: 0 every bug was noticed; 1 some were not; 2 wrong usage; 3 the tests fail without a bug, or do not build
"""
import json, os, re, subprocess, sys, time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TABLE = "tests/mutations.txt"


class Trouble(Exception):
    """What ends the run, said in a sentence, with an exit code."""

    def __init__(self, code, text):
        super().__init__(text)
        self.code = code


# ---- The table


class Bug:
    def __init__(self, name):
        self.name, self.file, self.tests, self.old, self.new = name, "", [], [], []

    def planted(self, tree):
        """The text of the file as it is, and with the bug."""
        text, old = (tree / self.file).read_text(), "\n".join(self.old)
        if text.count(old) != 1:
            raise Trouble(3, f"'{self.name}': the old text occurs {text.count(old)} times in {self.file}")
        return text, text.replace(old, "\n".join(self.new))

    def of_kernel(self):
        return self.file.endswith(".wgsl")


def read_table(path):
    bugs = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        word, _, rest = line.partition(" ")
        if not line or word.startswith("#"):
            continue
        if word == "bug":
            bugs.append(Bug(rest))
        elif not bugs or word not in ("file", "test", "-", "+"):
            raise Trouble(2, f"{path}:{number}: '{word}' is none of bug, file, test, - and +")
        elif word == "file":
            bugs[-1].file = rest
        elif word == "test":
            target, _, part = rest.partition(" ")
            bugs[-1].tests.append((target, part))
        else:
            (bugs[-1].old if word == "-" else bugs[-1].new).append(rest)
    for bug in bugs:
        if not (bug.file and bug.tests and bug.old and bug.new):
            raise Trouble(2, f"{path}: '{bug.name}' lacks a file, a test, an old or a new text")
    return bugs


# ---- The copy


def copy_project(tree):
    """All files that git knows or would add. Only what differs is written, so that little is built again; a bug that an
    interrupted run left there differs, too."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True)
    if listed.returncode:
        raise Trouble(2, "git does not know the files of the project: run this in a checkout")
    names = {name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()}
    for name in names:
        data, copy = (ROOT / name).read_bytes(), tree / name
        if not copy.is_file() or copy.read_bytes() != data:
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(data)
    for path in [path for path in tree.rglob("*") if path.is_file()]:
        if path.relative_to(tree).as_posix() not in names:
            path.unlink()


class Suite:
    def __init__(self, folder, features):
        self.tree, self.features = folder / "tree", features
        self.environment = os.environ | {"CARGO_TARGET_DIR": str(folder / "build")}
        self.environment.setdefault("CARGO_PROFILE_DEV_DEBUG", "0")
        # A test that skips itself would notice nothing.
        self.environment.setdefault("WAVEHULL_REQUIRE_GPU", "1")
        self.seconds, self.clean, self.patched = {}, {}, folder / "patched"

    def build(self, targets):
        """Builds tests; their programs by target, or None and what the compiler said."""
        command = ["cargo", "test", "--no-run", "--message-format=json-render-diagnostics"]
        command += ["--no-default-features", "--features", self.features]
        for target in sorted(targets):
            command += ["--lib"] if target == "lib" else ["--test", target]
        run = subprocess.run(command, cwd=self.tree, env=self.environment, capture_output=True, text=True)
        if run.returncode:
            return None, run.stderr
        programs = {}
        for line in run.stdout.splitlines():
            message = json.loads(line)
            if message.get("executable") and message["profile"]["test"]:
                kind, name = message["target"]["kind"][0], message["target"]["name"]
                programs[name if kind == "test" else "lib"] = message["executable"]
        return programs, run.stderr

    def patch(self, target, text, broken):
        """A copy of a test's program in which a kernel's text is another: None where that cannot be had, "" where the
        program does not hold the kernel."""
        if sys.platform != "linux" or target not in self.clean:
            return None
        program, old, new = Path(self.clean[target]), text.encode(), broken.encode()
        # The length must stay: blanks behind a shorter text, and lines of the header make room for a longer one.
        while len(new) > len(old) and new.startswith(b"//"):
            new = new.partition(b"\n")[2]
        if len(new) > len(old):
            return None
        data = program.read_bytes()
        if old not in data:
            return ""
        copy = self.patched / program.name
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(data.replace(old, new.ljust(len(old))))
        copy.chmod(0o755)
        return str(copy)

    @staticmethod
    def command(program, test):
        return [program, *filter(None, [test[1]]), "--skip", "broken"]

    def names(self, program, test):
        command = self.command(program, test) + ["--list"]
        listed = subprocess.run(command, cwd=self.tree, env=self.environment, capture_output=True, text=True)
        return re.findall(r"^(.*): test$", listed.stdout, re.M)

    def run(self, program, test):
        """The verdict of some tests (passed, noticed, or why it does not count), and the first that failed."""
        command = self.command(program, test)
        limit = 60 + 10 * self.seconds.get(test, 60)
        began = time.monotonic()
        try:
            run = subprocess.run(
                command, cwd=self.tree, env=self.environment, capture_output=True, text=True, timeout=limit, errors="replace"
            )
        except subprocess.TimeoutExpired:
            return f"it ran longer than {limit:.0f} s", ""
        self.seconds.setdefault(test, time.monotonic() - began)
        if run.returncode == 0:
            return "passed", ""
        if run.returncode != 101:
            return f"the tests crashed (exit code {run.returncode})", ""
        return judge(run.stdout)


def judge(output):
    """Of the failed tests the first that failed by an assertion; else what the first one died of."""
    reasons = []
    for name, text in re.findall(r"^---- (\S+) stdout ----\n(.*?)(?=^---- |^failures:$|\Z)", output, re.S | re.M):
        panic = re.search(r"panicked at [^\n]*\n(.*)", text, re.S)
        message = panic[1] if panic else ""
        # Errors of the library have a kind in their `Debug` form and a code in the other.
        error = re.search(r"\bkind: (\w+), message: (.{0,90})|error\[(E\d+)\]: ?(.{0,90})|\b(E\d{4}): ?(.{0,90})", message)
        own = re.match(r"index out of bounds|attempt to |called `Option::unwrap\(\)`|range ", message)
        if panic and not error and not own:
            return "noticed", name
        kind = "".join(error[1] or error[3] or error[5] or "") if error else ""
        what = "a kernel does not compile" if kind in ("Shader", "E0106") else "it fails by an error"
        reasons.append((f"{what}: {(error[0] if error else message.strip())[:140]!r}", name))
    return reasons[0] if reasons else ("the tests fail without a message", "")


# ---- The run


def say(text):
    print(text, flush=True)


def check_green(suite, bugs):
    tests = sorted({test for bug in bugs for test in bug.tests})
    say(f"{len(bugs)} bugs; building {len({t for t, _ in tests})} test programs without a bug")
    programs, talk = suite.build({target for target, _ in tests})
    if programs is None:
        raise Trouble(3, f"the tests do not build:\n{talk}")
    for test in tests:
        if not suite.names(programs[test[0]], test):
            raise Trouble(2, f"{TABLE}: {place(test)} has no test with '{test[1]}' in its name")
    for test in tests:
        verdict, name = suite.run(programs[test[0]], test)
        if verdict != "passed":
            raise Trouble(3, f"without a bug, {place(test)} {test[1]}: {verdict} {name}")
    suite.clean = programs
    say(f"without a bug all is green: {len(tests)} sets of tests in {sum(suite.seconds.values()):.0f} s")


def place(test):
    return "the library's own tests" if test[0] == "lib" else f"tests/{test[0]}"


def try_bug(suite, bug):
    """Whether it is noticed, and a line about it."""
    (text, broken), why = bug.planted(suite.tree), []
    try:
        for test in bug.tests:
            program = suite.patch(test[0], text, broken) if bug.of_kernel() else None
            if program == "":
                why.append(f"{place(test)} does not hold the kernel")
                continue
            if program is None:
                suite.clean = {}
                (suite.tree / bug.file).write_text(broken)
                programs, talk = suite.build({test[0]})
                if programs is None:
                    error = re.search(r"^error.*(?:\n.*){0,3}", talk, re.M)
                    return False, f"DOES NOT BUILD: {error[0] if error else talk}"
                program = programs[test[0]]
            verdict, name = suite.run(program, test)
            if verdict == "noticed":
                return True, f"noticed by {place(test)}: {name}"
            if verdict != "passed":
                why.append(f"{verdict} ({place(test)} {name})")
    finally:
        if (suite.tree / bug.file).read_text() != text:
            (suite.tree / bug.file).write_text(text)
    return False, f"NOT NOTICED{''.join('; ' + w for w in why)}"


def run_all(suite, bugs):
    began, missed = time.monotonic(), []
    # Kernels first: their bugs need the programs without one, which every other bug overwrites.
    for number, bug in enumerate(sorted(bugs, key=lambda bug: not bug.of_kernel()), 1):
        start = time.monotonic()
        noticed, line = try_bug(suite, bug)
        say(f"[{number}/{len(bugs)}, {time.monotonic() - start:.0f} s] {bug.name}: {line}")
        missed += [] if noticed else [bug]
    for bug in missed:
        say(f"not noticed: {bug.name} ({bug.file})")
    minutes = (time.monotonic() - began) / 60
    say(f"{len(bugs) - len(missed)} of {len(bugs)} bugs noticed, in {minutes:.0f} min")
    return 1 if missed else 0


def options(arguments):
    chosen = {"only": [], "list": False, "folder": str(ROOT / "target" / "mutations"), "features": "train,hash"}
    rest = iter(arguments)
    for argument in rest:
        name, given, value = argument.removeprefix("--").partition("=")
        if argument in ("-h", "--help"):
            print(__doc__)
            raise SystemExit(0)
        if argument == "--list":
            chosen["list"] = True
        elif argument.startswith("--") and name in ("only", "folder", "features"):
            value = value if given else next(rest, None)
            if not value:
                raise Trouble(2, f"--{name} wants a value")
            chosen[name] = chosen[name] + [value] if name == "only" else value
        else:
            raise Trouble(2, f"unknown option '{argument}'\n\n{__doc__}")
    return chosen


def main(arguments):
    chosen = options(arguments)
    wanted = [pattern.lower() for pattern in chosen["only"]]
    bugs = read_table(ROOT / TABLE)
    bugs = [bug for bug in bugs if not wanted or any(w in f"{bug.name}\n{bug.file}".lower() for w in wanted)]
    if not bugs:
        raise Trouble(2, "no bug has such a name; --list names them")
    if chosen["list"]:
        for bug in bugs:
            print(f"{bug.name}  [{bug.file}; {', '.join(' '.join(test).strip() for test in bug.tests)}]")
        return 0
    folder = Path(chosen["folder"]).resolve()
    suite = Suite(folder, chosen["features"])
    copy_project(suite.tree)
    check_green(suite, bugs)
    return run_all(suite, bugs)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Trouble as trouble:
        print(trouble, file=sys.stderr)
        sys.exit(trouble.code)
    except KeyboardInterrupt:
        sys.exit(130)
