"""Print a version's section of the changelog: `python -m deploy.release_notes v0.3.0`; refuses what is not ready."""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHANGELOG = ROOT / "CHANGELOG.md"
PACKAGE = ROOT / "pricing" / "__init__.py"  # read, not imported: the infrastructure imports nothing of the platform


class ReleaseError(ValueError):
    """A version that cannot be released; says what is missing."""


def section(changelog: str, version: str) -> str:
    """The text under the heading of a version.

    Raises:
        ReleaseError: There is no such heading, or nothing under it.
    """
    parts = re.split(r"^## +", changelog, flags=re.MULTILINE)
    for part in parts[1:]:
        heading, _, text = part.partition("\n")
        if heading.strip().strip("[]").split()[0].strip("[]") == version:
            if not text.strip():
                raise ReleaseError(f"CHANGELOG.md: nothing stands under {version}")
            return text.strip() + "\n"
    raise ReleaseError(f"CHANGELOG.md has no section {version}: rename Unreleased when you release")


def version_of(package: str) -> str:
    """The version that the package's source names.

    Raises:
        ReleaseError: It names none.
    """
    found = re.search(r'^__version__ = "([^"]+)"', package, flags=re.MULTILINE)
    if found is None:
        raise ReleaseError(f"{PACKAGE.name}: expected __version__")
    return found.group(1)


def notes(tag: str, *, changelog: str, package: str) -> str:
    """The notes of a release.

    Args:
        tag: Such as v0.3.0.
        changelog: Text of CHANGELOG.md.
        package: Source that names the version.

    Raises:
        ReleaseError: The tag is none of a version, or not the one of the sources, or the changelog lacks it.
    """
    if not re.fullmatch(r"v\d+\.\d+\.\d+((a|b|rc)\d+)?", tag):
        raise ReleaseError(f"{tag}: expected a tag such as v0.3.0")
    version = tag.removeprefix("v")
    if version != version_of(package):
        raise ReleaseError(f"{tag}: the sources are version {version_of(package)}")
    return section(changelog, version)


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the notes; returns 0, or 1 where the version is not ready."""
    parser = argparse.ArgumentParser(prog="python -m deploy.release_notes", description=__doc__)
    parser.add_argument("tag", help="such as v0.3.0")
    options = parser.parse_args(argv)
    try:
        text = notes(
            options.tag,
            changelog=CHANGELOG.read_text(encoding="utf-8"),
            package=PACKAGE.read_text(encoding="utf-8"),
        )
    except ReleaseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
