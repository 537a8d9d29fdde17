"""Say what a change does to the templates: `python -m deploy.changes --since COMMIT`.

CDK's own diff compares with what is deployed, and so needs an account; this compares two synthesised states, which a
pull request of anybody can.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SUFFIX = ".template.json"
MARK = "<!-- changes of templates -->"  # by which a pipeline finds its comment again
REPLACED = ("AWS::RDS::DBInstance", "AWS::EFS::FileSystem", "AWS::S3::Bucket", "AWS::KMS::Key", "AWS::ECR::Repository")
MOST = 60_000  # characters; GitHub takes 65,536 in a comment


class ChangeError(RuntimeError):
    """A state that cannot be compared; says which, and why."""


def templates(folder: Path) -> dict[str, dict[str, Any]]:
    """The templates in a folder, by the names of their stacks."""
    return {
        path.name.removesuffix(SUFFIX): json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob(f"*{SUFFIX}"))
    }


def changed_paths(before: Any, after: Any, *, path: str = "") -> list[str]:
    """Where two values differ, as dotted paths; list items by their place."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        both = sorted({*before, *after})
        return [
            found
            for key in both
            for found in changed_paths(before.get(key), after.get(key), path=f"{path}.{key}" if path else str(key))
        ]
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        pairs = enumerate(zip(before, after, strict=True))
        return [found for place, (one, other) in pairs for found in changed_paths(one, other, path=f"{path}[{place}]")]
    return [] if before == after else [path]


def stack_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Rows (sign, type, logical id, what changed) of the resources that differ; + new, − gone, ~ changed."""
    old, new = before.get("Resources", {}), after.get("Resources", {})
    rows = []
    for logical in sorted({*old, *new}):
        if logical not in old:
            rows.append(("+", str(new[logical]["Type"]), logical, ""))
        elif logical not in new:
            kind = str(old[logical]["Type"])
            rows.append(("−", kind, logical, "**holds data**" if kind in REPLACED else ""))
        elif old[logical] != new[logical]:
            paths = changed_paths(old[logical], new[logical])
            shown = ", ".join(f"`{path.removeprefix('Properties.')}`" for path in paths[:5])
            rows.append(("~", str(new[logical]["Type"]), logical, shown + (", …" if len(paths) > 5 else "")))
    return rows


def markdown(before: Mapping[str, Mapping[str, Any]], after: Mapping[str, Mapping[str, Any]]) -> str:
    """A comment on what changes, stack by stack."""
    parts = []
    for stack in sorted({*before, *after}):
        rows = stack_changes(before.get(stack, {}), after.get(stack, {}))
        if rows:
            table = "".join(f"| {sign} | `{kind}` | `{logical}` | {what} |\n" for sign, kind, logical, what in rows)
            parts.append(
                f"<details><summary><b>{stack}</b>: {len(rows)} resources</summary>\n\n"
                f"| | type | resource | changed |\n|---|---|---|---|\n{table}\n</details>\n"
            )
    text = "\n".join(parts) or "No template changes.\n"
    if len(text) > MOST:
        text = f"{text[:MOST].rpartition(chr(10))[0]}\n\n… cut here; the summary of the run has all of it.\n"
    return f"{MARK}\n### What this changes on AWS\n\n{text}"


def synthesised(checkout: Path, into: Path) -> dict[str, dict[str, Any]]:
    """The templates of a checkout, made by its own code with this Python; none where it describes nothing on AWS.

    Raises:
        ChangeError: Its code fails.
    """
    if not (checkout / "deploy" / "app.py").is_file():
        return {}
    variables = {name: value for name, value in os.environ.items() if name not in ("ENV", "IMAGES")}
    command = [sys.executable, "-m", "deploy.app"]
    done = subprocess.run(
        command, cwd=checkout, env={**variables, "CDK_OUTDIR": str(into)}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ChangeError(f"{checkout}: its templates cannot be made: {done.stderr.strip()[-1000:]}")
    return templates(into)


@contextmanager
def checked_out(commit: str, folder: Path) -> Iterator[Path]:
    """A work tree of a commit, for the time of the block.

    Raises:
        ChangeError: There is no such commit.
    """
    git = ["git", "-C", str(ROOT), "worktree"]
    where = folder / "checkout"
    done = subprocess.run([*git, "add", "--detach", where, commit], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ChangeError(f"{commit}: cannot be checked out: {done.stderr.strip()}")
    try:
        yield where
    finally:
        subprocess.run([*git, "remove", "--force", where], capture_output=True, check=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the comment; returns 0, or 2 where one of the two states cannot be synthesised."""
    parser = argparse.ArgumentParser(prog="python -m deploy.changes", description=__doc__)
    parser.add_argument("--since", required=True, metavar="COMMIT", help="what to compare with")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write it here instead")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="pricing-") as name:
        folder = Path(name)
        try:
            with checked_out(options.since, folder) as checkout:
                before = synthesised(checkout, folder / "before")
            after = synthesised(ROOT, folder / "after")
        except ChangeError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    text = markdown(before, after)
    if options.out is None:
        print(text, end="")
    else:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
