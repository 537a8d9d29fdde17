"""Load for the serving benchmark: wrk where it is installed, else a small asyncio client. Both cycle through bodies."""

import asyncio
import json
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

_UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


@dataclass(frozen=True)
class Load:
    """What came back.

    Attributes:
        per_second: Answers a second.
        p50_ms: Median time to an answer.
        p99_ms: Time within which 99 of 100 answers came.
        answers: How many came.
        failed: How many of them were no 200, or did not come.
    """

    per_second: float
    p50_ms: float
    p99_ms: float
    answers: int
    failed: int


def measure(url: str, bodies: Sequence[bytes], *, connections: int, seconds: float) -> Load:
    """Sends bodies as JSON over so many kept-alive connections for so long, each connection one at a time."""
    if shutil.which("wrk"):
        return _wrk(url, bodies, connections=connections, seconds=seconds)
    return asyncio.run(_asyncio(url, bodies, connections=connections, seconds=seconds))


def _wrk(url: str, bodies: Sequence[bytes], *, connections: int, seconds: float) -> Load:
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "load.lua"
        listed = ",\n".join(json.dumps(body.decode()) for body in bodies)
        script.write_text(
            f'local bodies = {{\n{listed}\n}}\nlocal place = 0\nwrk.method = "POST"\n'
            'wrk.headers["Content-Type"] = "application/json"\n'
            "request = function()\n  place = place % #bodies + 1\n"
            "  return wrk.format(nil, nil, nil, bodies[place])\nend\n"
        )
        done = subprocess.run(
            [
                *f"wrk -t1 -c{connections} -d{max(1, round(seconds))}s --timeout 30s --latency -s".split(),
                str(script),
                url,
            ],
            capture_output=True,
            text=True,
            check=True,
        )
    text = done.stdout
    answers = int(re.search(r"(\d+) requests in", text).group(1))  # type: ignore[union-attr]
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", text).group(1))  # type: ignore[union-attr]
    errors = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    socket = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    failed = int(errors.group(1)) if errors else 0
    failed += sum(map(int, socket.groups())) if socket else 0
    return Load(rate, _quantile(text, "50%"), _quantile(text, "99%"), answers, failed)


def _quantile(text: str, name: str) -> float:
    found = re.search(rf"{name}\s+([\d.]+)(us|ms|s|m)\b", text)
    return float(found.group(1)) * _UNITS[found.group(2)] if found else float("nan")


async def _asyncio(url: str, bodies: Sequence[bytes], *, connections: int, seconds: float) -> Load:
    parts = urlsplit(url)
    head = f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\nContent-Length: "
    requests = [f"{head}{len(body)}\r\n\r\n".encode() + body for body in bodies]
    times: list[float] = []
    failed = 0
    end = time.perf_counter() + seconds

    async def talk(place: int) -> None:
        nonlocal failed
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        while (begun := time.perf_counter()) < end:
            writer.write(requests[place % len(requests)])
            place += 1
            answer = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", answer, re.IGNORECASE)
            await reader.readexactly(int(length.group(1)) if length else 0)
            failed += not answer.startswith(b"HTTP/1.1 200")
            times.append(time.perf_counter() - begun)
        writer.close()

    await asyncio.gather(*(talk(place * 31) for place in range(connections)))
    times.sort()
    count = len(times)
    at = [times[min(count - 1, int(count * share))] * 1000 if count else float("nan") for share in (0.5, 0.99)]
    return Load(count / seconds, at[0], at[1], count, failed)
