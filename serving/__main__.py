"""Starts the web server and the follower, keeps both alive, and ends both together."""

import argparse
import fcntl
import importlib.util
import logging
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pricing.objects import check_address
from pricing.errors import PricingError
from pricing.fileio import redact_url
from serving.keys import SCOPES
from serving.logs import configure_logging
from serving.notices import at_start
from serving.settings import Settings, bind_address, read_settings, shared_memory

_GRACE_SECONDS = 20
_EXIT_SECONDS = 5  # that the follower may take beside its last upload
_SERVED_SECONDS = 10  # a web server that lived longer did start, and is started again when it dies

_PREFIX = "pricing-"
_FORM = re.compile(rf"{_PREFIX}[a-z0-9_]{{8}}")  # as tempfile.mkdtemp names them
_OWNER = "owner.lock"

_log = logging.getLogger("serving")


def main(argv: Sequence[str] | None = None) -> int:
    """Serves until a signal arrives and returns the exit code."""
    options = _options(argv)
    configure_logging()
    _remove_abandoned(Path(shared_memory()))
    run_folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=shared_memory()))
    held = _hold(run_folder)
    # One BLAS thread per worker: the matrices are small, and there are many workers already.
    environment = {
        **os.environ,
        **{name: value for name, value in options.items() if value},
        **dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
        "PRICING_RUN_ID": secrets.token_hex(8),
        "PRICING_RUN_FOLDER": str(run_folder),
    }
    try:
        settings = read_settings(environment)
        _check(settings)
        with _reserved(settings):
            return _supervise(settings, environment)
    except PricingError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    finally:
        shutil.rmtree(run_folder, ignore_errors=True)
        os.close(held)


def _hold(run_folder: Path) -> int:
    """Locks a run's folder for as long as this process lives, however it ends; returns the lock's descriptor."""
    held = os.open(run_folder / _OWNER, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return held


def _remove_abandoned(folder: Path) -> None:
    """Removes the run folders that services of this user left in shared memory when they were killed.

    Only a folder of our form goes, that is this user's, no link, and whose lock nobody holds any more.
    """
    for path in folder.glob(f"{_PREFIX}*"):
        if not _FORM.fullmatch(path.name) or path.is_symlink():
            continue
        try:
            if path.stat().st_uid != os.getuid():
                continue
            lock = os.open(path / _OWNER, os.O_RDWR | os.O_NOFOLLOW)
        except OSError:  # no run folder of ours, or it is gone
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(lock)


def web_command() -> list[str]:
    """The command line of the web server."""
    return [sys.executable, "-m", "serving.web_server"]


def _options(argv: Sequence[str] | None) -> dict[str, str | None]:
    parser = argparse.ArgumentParser("pricing serve", description=__doc__, allow_abbrev=False)
    parser.add_argument("--host", help="address to bind (HOST; 127.0.0.1 by default)")
    parser.add_argument("--port", help="port to bind (PORT; 8080 by default)")
    parser.add_argument("--config", metavar="FILE", help="YAML laid over config/default.yaml (PRICING_CONFIG)")
    given = parser.parse_args(argv)
    return {"HOST": given.host, "PORT": given.port, "PRICING_CONFIG": given.config}


def _check(settings: Settings) -> None:
    """Checks at the start that API keys are given where needed and that the port is free.

    Raises:
        PricingError: The web server is not installed, keys are needed and none are given, or the port is taken.
    """
    if importlib.util.find_spec("granian") is None:
        raise PricingError("granian is not installed: install pricing[serving]")
    if settings.decisions_url is not None:
        check_address(settings.decisions_url)
    if settings.keys_needed and not settings.keys:
        raise PricingError(
            f"{settings.host} can be reached from other machines, so API keys are needed; give PRICING_API_KEYS or "
            f"PRICING_API_KEYS_FILE as `name key scope,scope` (scopes: {', '.join(SCOPES)}), bind to 127.0.0.1, "
            "or set PRICING_KEYS=none to do without"
        )
    address = bind_address(settings.host)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, settings.port))
        except OSError as error:
            raise PricingError(
                f"cannot bind {settings.host}:{settings.port} ({error.strerror}); choose another port with PORT=…"
            ) from error


def _reserved(settings: Settings) -> socket.socket:
    """Binds the port without listening, so that nobody takes it while workers are replaced."""
    address = bind_address(settings.host)
    held = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    held.bind((address, settings.port))
    return held


def _supervise(settings: Settings, environment: Mapping[str, str]) -> int:
    signals: list[int] = []

    def stop(number: int, _: object) -> None:
        signals.append(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    for line in at_start(settings):
        _log.info("%s", line)
    web, follower = (_Child(command, environment) for command in (web_command(), follower_command()))
    uploads = "" if settings.decisions_url is None else f" and from there to {redact_url(settings.decisions_url)}"
    print(  # noqa: T201
        f"serving on http://{settings.host}:{settings.port} (documents: /docs); decisions go to "
        f"{settings.decisions_folder}{uploads}; Ctrl-C ends it",
        file=sys.stderr,
    )
    try:
        while not signals:
            if web.ended and web.age < _SERVED_SECONDS:  # it cannot start: nothing to wait for
                break
            for child, least in ((web, _SERVED_SECONDS), (follower, settings.config.serving.poll_seconds)):
                if child.ended and child.age > least:
                    child.restart()
            time.sleep(0.1)
        if signals == [signal.SIGTERM] and not web.ended:
            _be_lame_duck(settings, hurry=lambda: web.ended or len(signals) > 1)
    finally:
        if settings.decisions_url is None:
            follower.terminate()
        web.terminate()
        web.wait()
        follower.terminate()  # only now has every worker written its last decisions, which the follower uploads
        follower.wait(max(_GRACE_SECONDS, settings.config.serving.upload_stop_seconds + _EXIT_SECONDS))
    return 0 if signals else web.code


def _be_lame_duck(settings: Settings, *, hurry: Callable[[], bool]) -> None:
    """Goes on answering while readiness says 503 and every answer closes its connection, so that callers move away.

    A load balancer needs this time to see it. Ctrl-C, or a second signal, ends the service without.
    """
    seconds = settings.config.serving.lame_duck_seconds
    _log.info(
        "stopping: readiness says 503 for %g s, then open requests are answered (serving.lame_duck_seconds)", seconds
    )
    settings.stopping_file.touch()
    end = time.monotonic() + seconds
    while time.monotonic() < end and not hurry():
        time.sleep(0.05)


class _Child:
    """A process that is started again when it dies."""

    def __init__(self, command: list[str], environment: Mapping[str, str]) -> None:
        self._command, self._environment = command, environment
        self._start()

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    @property
    def code(self) -> int:
        return self._process.returncode or 0

    @property
    def age(self) -> float:
        """Seconds since its last start."""
        return time.monotonic() - self._born

    def restart(self) -> None:
        _log.error("%s ended with %s; starting it again", self._command[-1], self._process.returncode)
        self._start()

    def terminate(self) -> None:
        if not self.ended:
            self._process.terminate()

    def wait(self, seconds: float = _GRACE_SECONDS) -> None:
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _start(self) -> None:
        # A process group of its own: Ctrl-C in a terminal reaches only the supervisor, which then ends both in order.
        self._process = subprocess.Popen(self._command, env=dict(self._environment), process_group=0)
        self._born = time.monotonic()


def follower_command() -> list[str]:
    """The command line of the follower."""
    return [sys.executable, "-m", "serving.follower"]


if __name__ == "__main__":
    sys.exit(main())
