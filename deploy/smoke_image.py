"""Start an image of the service as a container without a model, and run the smoke test on it; needs Docker alone."""

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from deploy import smoke

PORT = 8080  # of the service in its container


@contextmanager
def running(image: str, *, key: str) -> Iterator[str]:
    """Runs a container as ECS runs the task: no root, no writable root, no capabilities; yields its URL.

    Raises:
        subprocess.CalledProcessError: Docker cannot start it.
    """
    given = ["--env", f"PRICING_API_KEYS=smoke {key} price,explain"]
    safe = ["--read-only", "--tmpfs", "/tmp", "--tmpfs", "/var/lib/pricing:uid=10001", "--cap-drop", "ALL"]
    started = _docker("run", "--detach", "--publish", f"127.0.0.1::{PORT}", *safe, *given, image)
    container = started.strip()
    try:
        yield "http://" + _docker("port", container, str(PORT)).split()[0]
    finally:
        _docker("rm", "--force", container)


def _docker(*words: str) -> str:
    return subprocess.run(["docker", *words], stdout=subprocess.PIPE, text=True, check=True).stdout


def main(argv: Sequence[str] | None = None) -> int:
    """Runs it; returns 0 where all checks passed, 1 where one failed, 2 where the image does not start."""
    image, *options = sys.argv[1:] if argv is None else argv
    key = secrets.token_hex(16)
    os.environ[smoke.KEY_VARIABLE] = key
    try:
        with running(image, key=key) as url:
            # What an image answers counts here, not how fast a shared machine lets it.
            generous = ["--wait", "120", "--latency_ms", "2000", "--p99_ms", "5000"]
            return smoke.main([url, "--by_rule", "--load_seconds", "10", *generous, *options])
    except subprocess.CalledProcessError as error:
        print(f"error: {image}: {' '.join(error.cmd[:2])} ended with {error.returncode}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
