"""Say which code every page of results was measured with, and whether that code has changed since.

python -m benchmarks.provenance            checks the pages and names what changed; exit code 1 where a line is wrong
python -m benchmarks.provenance --write    writes the lines that the check asks for
python -m benchmarks.provenance --record serving.md                    the page was measured with the code as it is now
python -m benchmarks.provenance --record serving.md --commit da5a80a   the same, with the code as it was at that commit

A page depends on the benchmark of its own name, on every module of the project that this imports, directly or not, and
on the settings. `provenance.json` keeps a hash of each: of a module's syntax tree without docstrings, of a settings
file as parsed. So comments, docstrings and formatting change nothing, and the check needs neither git nor its history.
A benchmark that writes its page calls `take` before it measures and `stamp` after it writes.
"""

import argparse
import ast
import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
ROOT = HERE.parent
RECORDS = "provenance.json"
SETTINGS = "config/default.yaml"
# What a page depends on besides its benchmark, what that imports, and the default settings.
ALSO = {
    "autoscaling.md": ("deploy/environments.yaml", "benchmarks/burst.json"),
    "burst.md": ("serving.__main__", "serving.follower", "pipelines.promote", "pipelines.rollback"),  # as programs
    "etl.md": ("pipelines.etl",),  # started as a program
    "forecast.md": ("benchmarks.forecast_ets",),  # run by another interpreter
    "monitoring.md": ("config/small.yaml",),  # the simulated market's trainings
    "log_upload.md": ("serving.__main__", "serving.follower"),  # started as programs
    "serving.md": ("serving.__main__", "serving.follower"),  # started as programs
}
APART = "benchmarks.provenance"  # decides no result
LINES = re.compile(r"^\*(?:Measured at|Stale since) .*\n", re.MULTILINE)
COMMAND = "python -m benchmarks.provenance"


@dataclass(frozen=True)
class Provenance:
    """The code and settings that a page's figures come from.

    Attributes:
        commit: Short hash of the commit, with a note where files had changes that were not committed.
        sources: Hash of each module, by dotted name, and of each settings file, by path; sorted by name.
    """

    commit: str
    sources: dict[str, str]

    @property
    def digest(self) -> str:
        """One hash of all sources, to be kept beside each part of a page that is measured in several runs."""
        return _hash(json.dumps(self.sources, sort_keys=True))

    def changed(self, now: dict[str, str]) -> list[str]:
        """Names of sources that differ from `now`, are gone, or have come in addition."""
        names = sorted(self.sources.keys() | now.keys())
        return [name for name in names if self.sources.get(name) != now.get(name)]


def sources(page: str, *, root: Path = ROOT) -> dict[str, str]:
    """Hashes what a page depends on.

    Args:
        page: Path of the page below `benchmarks`, such as `ablation/demand.md`.
        root: The checkout to read.

    Returns:
        Hash by dotted name of each module and by path of each settings file; what does not exist is left out.
    """
    named = (f"benchmarks.{Path(page).stem}", SETTINGS, *ALSO.get(page, ()))
    found = {}
    for path in (name for name in named if name.endswith(".yaml")):
        if (root / path).is_file():
            found[path] = _settings((root / path).read_text(encoding="utf-8"))
    pending = [name for name in named if not name.endswith(".yaml")]
    while pending:
        name = pending.pop()
        source = _file(root, name)
        if source is None or name in found or name == APART:
            continue
        found[name], imported = _module(source.read_text(encoding="utf-8"))
        pending += [part for each in (name, *imported) for part in _with_packages(each)]
    return dict(sorted(found.items()))


def take(page: str, *, root: Path = ROOT) -> Provenance:
    """Returns the code and settings as they are now; called before measuring, since a run can outlast an edit.

    Raises:
        ValueError: No benchmark has the page's name, so that nothing says what the page depends on.
    """
    return _read(_commit(root), page, root=root)


def stamp(path: Path, made: Provenance, *, parts: Iterable[str | None] = (), root: Path = ROOT) -> None:
    """Writes into a page which code it was measured with, and records that if the page lies in `benchmarks`.

    Args:
        path: The page, just made; its first line is the title. Changed in place.
        made: What `take` returned before the measuring.
        parts: The digest kept beside each part of the page, None where there is none. Where one differs from that of
            `made`, older figures are left on the page: then its former record stays, and it stays stale.
        root: The checkout that the page belongs to.
    """
    folder = root / "benchmarks"
    page = path.name
    if path.resolve().is_relative_to(folder.resolve()):
        page = path.resolve().relative_to(folder.resolve()).as_posix()
        records = _records(folder)
        if page not in records or all(part == made.digest for part in parts):
            records[page] = made
            _save(folder, records)
        made = records[page]
    stale = bool(made.changed(sources(page, root=root)))
    path.write_text(_with_lines(path.read_text(encoding="utf-8"), page, made, stale=stale), encoding="utf-8")


def reminder(page: str) -> str:
    """What to do once printed tables are copied into a page."""
    return f"Once these tables stand in benchmarks/{page}: {COMMAND} --record {page}"


def problems(root: Path = ROOT) -> list[str]:
    """Finds pages whose lines do not say what is so: one sentence each, with the command that mends it."""
    folder = root / "benchmarks"
    records = _records(folder)
    found = [
        f"benchmarks/{page} is recorded and does not exist: {COMMAND} --write"
        for page in sorted(records.keys() - {name for name, _ in _pages(folder)})
    ]
    for page, path in _pages(folder):
        if page not in records:
            found.append(f"benchmarks/{page} names no code: {COMMAND} --record {page} [--commit …]")
            continue
        changed = records[page].changed(sources(page, root=root))
        text = path.read_text(encoding="utf-8")
        if text != _with_lines(text, page, records[page], stale=bool(changed)):
            what = _few(changed) if changed else "nothing"
            found.append(f"benchmarks/{page} does not say that {what} changed since it was measured: {COMMAND} --write")
    return found


def write(root: Path = ROOT) -> None:
    """Puts the lines of every recorded page right and forgets pages that are gone."""
    folder = root / "benchmarks"
    records = _records(folder)
    pages = dict(_pages(folder))
    _save(folder, {page: made for page, made in records.items() if page in pages})
    for page in records.keys() & pages.keys():
        text = pages[page].read_text(encoding="utf-8")
        stale = bool(records[page].changed(sources(page, root=root)))
        pages[page].write_text(_with_lines(text, page, records[page], stale=stale), encoding="utf-8")


def record(page: str, *, commit: str | None, root: Path = ROOT) -> None:
    """Records that a page was measured with the code of a commit, by default with the code as it is now.

    Raises:
        ValueError: There is no such page, no benchmark of its name, or no such commit.
    """
    folder = root / "benchmarks"
    if not (folder / page).is_file():
        raise ValueError(f"benchmarks/{page} does not exist; pages are {', '.join(name for name, _ in _pages(folder))}")
    made = take(page, root=root) if commit is None else _at(commit, page, root=root)
    _save(folder, _records(folder) | {page: made})


def _with_lines(text: str, page: str, made: Provenance, *, stale: bool) -> str:
    """The page's text with its two lines, or one, below the title, instead of those it had."""
    settings = ", ".join(f"`{name}`" for name in made.sources if name.endswith(".yaml"))
    packages = ", ".join(f"`{name}`" for name in sorted({_package(n) for n in made.sources if not n.endswith(".yaml")}))
    lines = [
        f"*Measured at {_shown(made.commit)}, settings {settings}, by `benchmarks.{Path(page).stem}` and what it "
        f"imports of {packages} (each module: `provenance.json`).*"
    ]
    if stale:
        lines.append(
            f"*Stale since {_shown(made.commit)}: code or settings that these figures depend on have changed; "
            f"`{COMMAND}` names them.*"
        )
    title, _, rest = LINES.sub("", text).partition("\n")
    return "\n".join([title, "", *lines, "", rest.lstrip("\n")])


def _shown(commit: str) -> str:
    name, _, note = commit.partition(" ")
    return f"`{name}` {note}".rstrip()


def _package(name: str) -> str:
    """The package named on the page: the library's folders one by one, the programs whole."""
    parts = name.split(".")
    return ".".join(parts[:2]) if parts[0] == "pricing" and len(parts) > 2 else parts[0]


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _pages(folder: Path) -> list[tuple[str, Path]]:
    return sorted((path.relative_to(folder).as_posix(), path) for path in folder.rglob("*.md"))


def _records(folder: Path) -> dict[str, Provenance]:
    path = folder / RECORDS
    if not path.is_file():
        return {}
    document: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return {page: Provenance(**fields) for page, fields in document.items()}


def _save(folder: Path, records: dict[str, Provenance]) -> None:
    document = {page: {"commit": made.commit, "sources": made.sources} for page, made in sorted(records.items())}
    (folder / RECORDS).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _file(root: Path, name: str) -> Path | None:
    """The file of a module of the project; None for a library's and for a name inside a module."""
    base = root.joinpath(*name.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


def _with_packages(name: str) -> Iterator[str]:
    parts = name.split(".")
    for length in range(1, len(parts) + 1):
        yield ".".join(parts[:length])


@cache
def _settings(text: str) -> str:
    return _hash(json.dumps(yaml.safe_load(text), sort_keys=True))


@cache
def _module(text: str) -> tuple[str, tuple[str, ...]]:
    """The hash of a module's code, and every name that it imports, a name inside a module included."""
    tree = ast.parse(text)
    imported = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported += [f"{node.module}.{alias.name}" for alias in node.names]
    return _hash(repr(_plain(tree))), tuple(imported)


def _plain(node: object) -> object:
    """A syntax tree without docstrings and positions, the same in every Python: `ast.dump` differs between versions."""
    if isinstance(node, list):
        return [_plain(each) for each in node]
    if not isinstance(node, ast.AST):
        return node
    fields = [(name, value) for name, value in ast.iter_fields(node) if name != "ctx" and value not in (None, [])]
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and _opens_with_text(node):
        fields = [(name, value[1:] if name == "body" else value) for name, value in fields]
    return (type(node).__name__, *((name, _plain(value)) for name, value in fields))


def _opens_with_text(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    first = node.body[0] if node.body else None
    return isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _commit(root: Path) -> str:
    """The checkout's commit, with a note where tracked Python or settings files have changes."""
    name = _git(root, "rev-parse", "--short=7", "HEAD")
    if name is None:
        return "unknown"
    changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", "*.py", "config")
    return f"{name.decode().strip()} (not all committed)" if changed else name.decode().strip()


def _read(commit: str, page: str, *, root: Path) -> Provenance:
    found, wanted = sources(page, root=root), f"benchmarks.{Path(page).stem}"
    if wanted not in found:
        raise ValueError(f"benchmarks/{page} needs the benchmark that makes it, {wanted}, and there is none")
    return Provenance(commit, found)


def _at(commit: str, page: str, *, root: Path) -> Provenance:
    name, files = _git(root, "rev-parse", "--short=7", f"{commit}^{{commit}}"), _git(root, "archive", commit)
    if name is None or files is None:
        raise ValueError(f"git knows no commit {commit} here; a shallow clone has few: git fetch --unshallow")
    with tempfile.TemporaryDirectory() as place, tarfile.open(fileobj=io.BytesIO(files)) as archive:
        archive.extractall(place, filter="data")
        return _read(name.decode().strip(), page, root=Path(place))


def _git(root: Path, *words: str) -> bytes | None:
    try:
        return subprocess.run(["git", "-C", str(root), *words], capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None


def main(argv: Sequence[str] | None = None) -> int:
    """Checks the pages, or writes their lines; returns the exit code."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--write", action="store_true", help="write the lines that the check asks for")
    parser.add_argument("--record", metavar="PAGE", help="the page was measured with the code as it is now")
    parser.add_argument("--commit", metavar="SHA", help="with --record: with the code as it was then")
    options = parser.parse_args(argv)
    if options.commit and not options.record:
        parser.error("--commit goes with --record")
    if options.record:
        try:
            record(options.record, commit=options.commit)
        except ValueError as error:
            parser.error(str(error))
    if options.record or options.write:
        write()
    for page, made in _records(HERE).items():
        if changed := made.changed(sources(page)):
            print(f"benchmarks/{page} is stale since {made.commit}; {len(changed)} changed: {', '.join(changed)}")
    found = problems()
    for sentence in found:
        print(sentence, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
