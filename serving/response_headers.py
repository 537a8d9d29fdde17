"""What surrounds every answer, whichever way it takes: headers, request ids, counts, and problems as bytes."""

import json
import re
import secrets
import time

from serving.metrics import Metrics
from serving.problems import ProblemError

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_HARMLESS = re.compile(r"[\w.:-]{1,100}", re.ASCII)


def request_id(sent: str | None) -> str:
    """The caller's own name for its request, where it is harmless, else a new one."""
    return sent if sent and _HARMLESS.fullmatch(sent) else secrets.token_hex(8)


def problem_bytes(problem: ProblemError, name: str) -> bytes:
    """The body of an error about the request called `name`."""
    return json.dumps(problem.body(name), ensure_ascii=False).encode()


def count(metrics: Metrics, *, route: str, status: int, started: float) -> None:
    """Counts one answered request, which arrived at `started` by time.perf_counter."""
    metrics.count("pricing_requests", route, str(status))
    metrics.observe("pricing_request_seconds", time.perf_counter() - started, route)
