"""What pipelines tell people on GitHub, by its command line `gh`: one issue for a run that keeps failing, one request.

Each finds again what it opened before, by its label or its branch, so that a week of failures is one issue.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

Run = Callable[[Sequence[str]], str]
AUTHOR = ("-c", "user.name=pipeline", "-c", "user.email=pipeline@users.noreply.github.com")


class GithubError(RuntimeError):
    """A command of gh or git that failed; it has said why on stderr."""


def run(command: Sequence[str]) -> str:
    """Runs a command; returns what it wrote to stdout.

    Raises:
        GithubError: It failed.
    """
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise GithubError(f"{' '.join(command[:3])} ended with {done.returncode}")
    return done.stdout


def report(title: str, body: str, *, label: str, run: Run = run) -> str:
    """Opens an issue, or comments on the one that is open; returns its number or address.

    Args:
        title: Of a new issue.
        body: Of the issue or the comment, Markdown.
        label: Which such issues have; made where it is missing.
        run: Runs a command.
    """
    number = run(["gh", "issue", "list", "--label", label, "--json", "number", "--jq", ".[0].number // empty"]).strip()
    if number:
        run(["gh", "issue", "comment", number, "--body", body])
        return number
    run(["gh", "label", "create", label, "--force", "--description", "opened by a scheduled run"])
    return run(["gh", "issue", "create", "--title", title, "--body", body, "--label", label]).strip()


def propose(title: str, body: str, *, branch: str, paths: Sequence[str], run: Run = run) -> bool:
    """Opens a pull request with what changed under paths, or brings the open one up to date.

    A pull request that a workflow's own token opens starts no workflow, so that CI is started on the branch by name.

    Args:
        title: Of the commit and of the pull request.
        body: Of the pull request, Markdown.
        branch: Which it comes from, and which nobody else writes to.
        paths: Files and folders to commit.
        run: Runs a command.

    Returns:
        False where nothing changed.
    """
    if not run(["git", "status", "--porcelain", "--", *paths]).strip():
        return False
    run(["git", "switch", "--force-create", branch])
    run(["git", "add", "--", *paths])
    run(["git", *AUTHOR, "commit", "--quiet", "--message", title])
    run(["gh", "auth", "setup-git"])
    run(["git", "push", "--force", "origin", branch])
    if not run(["gh", "pr", "list", "--head", branch, "--json", "number", "--jq", ".[0].number // empty"]).strip():
        run(["gh", "pr", "create", "--head", branch, "--title", title, "--body", body])
    run(["gh", "workflow", "run", "ci.yml", "--ref", branch])
    return True


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a verb; returns 0, or 1 where GitHub refused."""
    parser = argparse.ArgumentParser(prog="python -m deploy.github", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb, about in (("report", "opens or continues an issue"), ("propose", "opens or renews a pull request")):
        one = verbs.add_parser(verb, help=about, description=about)
        one.add_argument("--title", required=True)
        one.add_argument("--body", required=True, help="Markdown")
        if verb == "report":
            one.add_argument("--label", required=True)
        else:
            one.add_argument("--branch", required=True)
            one.add_argument("paths", nargs="+", type=Path, help="what to commit")
    options = parser.parse_args(argv)
    try:
        if options.verb == "report":
            print(report(options.title, options.body, label=options.label))
        else:
            changed = propose(options.title, options.body, branch=options.branch, paths=list(map(str, options.paths)))
            print("proposed" if changed else "nothing changed")
    except GithubError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
