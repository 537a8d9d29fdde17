"""Load for the serving benchmark: as much as is answered, by wrk, or so many requests a second, each when due."""

import asyncio
import json
import re
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

_UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}
_PATIENCE = 30.0  # seconds after which an answer counts as missing
_CONNECTIONS = 800  # at once: a caller's pool, and less than HAProxy accepts; what is due meanwhile waits for one


@dataclass
class Load:
    """What came back; of wrk only statuses and quantiles."""

    seconds: float
    statuses: Counter[int] = field(default_factory=Counter)  # status → answers; 0: those that did not come
    times: list[float] = field(default_factory=list)  # milliseconds to each answer of status 200
    bodies: list[tuple[int, bytes]] = field(default_factory=list)  # number of the body sent, answer of status 200
    quantiles: dict[float, float] = field(default_factory=dict)

    @property
    def per_second(self) -> float:
        """Answers of status 200 a second."""
        return self.statuses[200] / self.seconds

    @property
    def failed(self) -> int:
        """Answers of another status than 200, and those that did not come."""
        return self.statuses.total() - self.statuses[200]

    def quantile(self, share: float) -> float:
        """Milliseconds within which a share of the answers came; NaN without any."""
        if self.quantiles:
            return self.quantiles[share]
        ordered = sorted(self.times)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else float("nan")


def closed(url: str, bodies: Sequence[bytes], *, connections: int, seconds: float) -> Load:
    """Sends bodies as JSON over so many kept-alive connections, each connection one at a time, by wrk."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "load.lua"
        listed = ",\n".join(json.dumps(body.decode()) for body in bodies)
        script.write_text(
            f'local bodies = {{\n{listed}\n}}\nlocal place = 0\nwrk.method = "POST"\n'
            'wrk.headers["Content-Type"] = "application/json"\n'
            "request = function()\n  place = place % #bodies + 1\n"
            "  return wrk.format(nil, nil, nil, bodies[place])\nend\n"
        )
        words = f"wrk -t1 -c{connections} -d{max(1, round(seconds))}s --timeout 30s --latency -s".split()
        done = subprocess.run([*words, str(script), url], capture_output=True, text=True, check=True)
    text = done.stdout
    answers = int(re.search(r"(\d+) requests in", text).group(1))  # type: ignore[union-attr]
    errors = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    refused = int(errors.group(1)) if errors else 0
    socket = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    lost = sum(map(int, socket.groups())) if socket else 0
    found = Load(max(1, round(seconds)), Counter({200: answers - refused, 500: refused, 0: lost}))
    found.quantiles = {0.5: _quantile(text, "50%"), 0.99: _quantile(text, "99%")}
    return found


def _quantile(text: str, name: str) -> float:
    found = re.search(rf"{name}\s+([\d.]+)(us|ms|s|m)\b", text)
    return float(found.group(1)) * _UNITS[found.group(2)] if found else float("nan")


def opened(url: str, bodies: Sequence[bytes], *, rate: float, seconds: float, keep: bool = False) -> Load:
    """Sends bodies in turn as JSON, so many a second, each when it is due; `keep` keeps the answers."""
    return asyncio.run(_opened(url, bodies, rate=rate, seconds=seconds, keep=keep))


async def _opened(url: str, bodies: Sequence[bytes], *, rate: float, seconds: float, keep: bool) -> Load:
    parts = urlsplit(url)
    head = f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\nContent-Length: "
    requests = [f"{head}{len(body)}\r\n\r\n".encode() + body for body in bodies]
    found, idle = Load(seconds), list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]()
    pool = asyncio.Semaphore(_CONNECTIONS)

    async def ask(place: int, due: float) -> None:
        try:
            async with asyncio.timeout(_PATIENCE), pool:
                fresh = not idle
                reader, writer = await asyncio.open_connection(parts.hostname, parts.port) if fresh else idle.pop()
                writer.write(requests[place])
                answer = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"content-length: (\d+)", answer, re.IGNORECASE)
                body = await reader.readexactly(int(length.group(1)) if length else 0)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            found.statuses[0] += 1
            return
        status = int(answer.split(b" ", 2)[1])
        found.statuses[status] += 1
        if status == 200:
            found.times.append(1000 * (time.perf_counter() - due))
            if keep:
                found.bodies.append((place, body))
        if b"connection: close" in answer.lower():
            writer.close()
        else:
            idle.append((reader, writer))

    begun, waiting = time.perf_counter(), set[asyncio.Task[None]]()
    for number in range(round(rate * seconds)):
        due = begun + number / rate
        if (early := due - time.perf_counter()) > 0:
            await asyncio.sleep(early)
        task = asyncio.create_task(ask(number % len(requests), due))
        waiting.add(task)
        task.add_done_callback(waiting.discard)
    await asyncio.gather(*waiting)
    for _, writer in idle:
        writer.close()
    return found
