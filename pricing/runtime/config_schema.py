"""Prints the JSON schema of configuration files, by which editors complete keys and mark what is wrong."""

import argparse
import json
import sys
from collections.abc import Sequence

from pricing.config import schema_for_editors
from pricing.runtime.cli import Options, run_main


def main(argv: Sequence[str] | None = None) -> int:
    """Prints it; returns the exit code."""
    return run_main(_print_schema, argv)


def _print_schema(argv: Sequence[str] | None) -> int:
    _options(argv)
    sys.stdout.write(schema_text())
    return 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    words = "Prints the JSON schema of configuration files, for editors; docs/configuration.md says how they find it."
    return Options("pricing config_schema", words).parse(argv)


def schema_text() -> str:
    """The schema as config/schema.json holds it."""
    return json.dumps(schema_for_editors(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.exit(main())
