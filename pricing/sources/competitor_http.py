"""Calls to an API that may fail: bounded in time, size, rate and repetition; credentials go to its own host only."""

import datetime as dt
import json
import logging
import socket
import ssl
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Self

import httpx
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    wait_random,
    wait_random_exponential,
)

from pricing.config_competitors import CallsConfig, CompetitorApiConfig
from pricing.errors import SourceError, first_line
from pricing.sources.competitor_breaker import Breaker
from pricing.sources.competitor_credentials import Credentials, token_answer

_log = logging.getLogger(__name__)

MOST_REDIRECTS = 3
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
_CHUNK = 65_536
_SOCKETS = 8  # of the newest connections, more than one client holds


@dataclass(frozen=True)
class Clock:
    """Time, as a parameter: tests need not wait."""

    now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC)
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


SYSTEM_CLOCK = Clock()


class CallError(SourceError):
    """A call without an answer that can be used.

    Attributes:
        code: What happened, for programs, such as "timeout".
        transient: Whether the same call may succeed later.
        retry_after: Seconds that the server asks to wait; None where it does not say.
        body: What came, where something did.
    """

    def __init__(
        self, code: str, message: str, *, transient: bool, retry_after: float | None = None, body: bytes = b""
    ) -> None:
        super().__init__(message)
        self.code, self.transient, self.retry_after, self.body = code, transient, retry_after, body


@dataclass(frozen=True)
class Answer:
    """An answer that is whole and JSON, or says that nothing has changed.

    Attributes:
        not_modified: Whether it is a 304, which has no body.
        body: Bytes, unpacked.
        payload: The same, read.
        etag: Of the answer; empty where it has none.
        last_modified: Likewise.
    """

    not_modified: bool
    body: bytes
    payload: Any
    etag: str
    last_modified: str


class ApiClient:
    """Asks one API. Not for several threads.

    Attributes:
        calls: Requests sent so far, those for tokens included.
    """

    def __init__(
        self,
        api: CompetitorApiConfig,
        *,
        source: str,
        state_dir: Path,
        environment: Mapping[str, str],
        clock: Clock,
    ) -> None:
        """Opens nothing yet.

        Raises:
            SourceError: A secret is not in the environment, or the certificates' file cannot be read.
        """
        self._api, self._source, self._clock = api, source, clock
        self._credentials = Credentials(api.authentication, environment=environment, monotonic=clock.monotonic)
        self._breaker = Breaker(state_dir / "breaker.json", api.calls, now=clock.now)
        self._started, self._next_call = clock.monotonic(), clock.monotonic()
        self._sockets: deque[socket.socket] = deque(maxlen=_SOCKETS)
        self._origin = _origin(httpx.URL(api.url))
        self._client = _client(api.calls)
        self.calls = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def hide(self, text: str) -> str:
        """The text without our secrets, should a server repeat them."""
        return self._credentials.hide(text)

    def get(self, url: str, *, params: Mapping[str, Any], etag: str = "", last_modified: str = "") -> Answer:
        """Asks until an answer comes, patience ends, or the circuit breaker opens.

        Args:
            url: Of the API's own host; may be relative to its address.
            params: Of the query; empty leaves the address as it is.
            etag: Of the answer that is kept, for a conditional request.
            last_modified: Likewise.

        Raises:
            CallError: No usable answer came.
        """
        address = self._address(url, params)
        conditions = {"If-None-Match": etag, "If-Modified-Since": last_modified}
        headers = {**self._api.headers, **{name: value for name, value in conditions.items() if value}}
        retrying = Retrying(
            sleep=self._clock.sleep,
            stop=stop_after_attempt(self._api.calls.attempts),
            wait=self._wait,
            retry=retry_if_exception(self._worth_another),
            before_sleep=self._say,
            reraise=True,
        )
        return retrying(self._attempt, address, headers)

    def _address(self, url: str, params: Mapping[str, Any]) -> httpx.URL:
        try:
            address = httpx.URL(self._api.url).join(url)
        except (httpx.InvalidURL, ValueError) as error:
            raise self._error(
                "bad_link", f"its next page is no address ({first_line(error)})", transient=False
            ) from error
        if _origin(address) != self._origin:
            raise self._error(
                "other_host",
                f"its next page lies on another host, {address.host}; prices are only asked for where the "
                f"configuration says, {self._origin[1]}",
                transient=False,
            )
        return address.copy_merge_params(dict(params)) if params else address

    def _worth_another(self, error: BaseException) -> bool:
        return isinstance(error, CallError) and error.transient and not self._breaker.is_open()

    def _wait(self, state: RetryCallState) -> float:
        """Seconds before the next attempt: the server's wish, else exponential with full jitter."""
        calls, error = self._api.calls, state.outcome.exception() if state.outcome else None
        if isinstance(error, CallError) and error.retry_after is not None:
            return error.retry_after + wait_random(0, calls.first_wait)(state)
        return wait_random_exponential(multiplier=calls.first_wait, max=calls.longest_wait)(state)

    def _say(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        waited = state.next_action.sleep if state.next_action else 0.0
        _log.warning("%s; asked again in %.1f s", error, waited)

    def _attempt(self, address: httpx.URL, headers: Mapping[str, str]) -> Answer:
        self._may_call()
        try:
            answer = self._answer(address, headers)
        except CallError as error:
            if error.transient:
                self._breaker.failed(str(error))
            raise
        self._breaker.succeeded()
        return answer

    def _may_call(self) -> None:
        open_until, why = self._breaker.is_open(), self._breaker.last_error
        if open_until is not None:
            raise self._error(
                "circuit_open",
                f"not asked before {open_until:%Y-%m-%d %H:%M} UTC, after failures: {why}",
                transient=False,
            )
        if self._clock.monotonic() - self._started > self._api.calls.run_seconds:
            limit = f"{self._api.calls.run_seconds:g} s (calls.run_seconds) are over"
            raise self._error("run_too_long", f"not asked further: {limit}", transient=False)

    def _keep_rate(self) -> None:
        now = self._clock.monotonic()
        if now < self._next_call:
            self._clock.sleep(self._next_call - now)
        self._next_call = max(now, self._next_call) + 1 / self._api.calls.rate
        self.calls += 1

    def _answer(self, address: httpx.URL, headers: Mapping[str, str]) -> Answer:
        response, body = self._authorised(address, headers)
        body = self._credentials.hide_bytes(body)  # before anything reads it: a server may repeat what it was sent
        if response.status_code == 304 and {"If-None-Match", "If-Modified-Since"} & set(headers):
            return Answer(True, b"", None, "", "")
        if response.status_code != 200:
            raise self._refusal(response, body)
        try:
            payload = json.loads(body, parse_constant=_no_number)
        except (ValueError, RecursionError) as error:
            # Also where a proxy's page comes as 200, so that another attempt may help.
            raise self._error(
                "invalid_json", f"its answer is no JSON ({first_line(error)})", transient=True, body=body
            ) from error
        return Answer(False, body, payload, response.headers.get("ETag", ""), response.headers.get("Last-Modified", ""))

    def _authorised(self, address: httpx.URL, headers: Mapping[str, str]) -> tuple[httpx.Response, bytes]:
        """Sends with credentials; a token that is refused is fetched anew once."""
        response, body = self._follow(address, {**headers, **self._credentials.headers(self._fetch_token)})
        if response.status_code == 401 and self._credentials.forget_token():
            response, body = self._follow(address, {**headers, **self._credentials.headers(self._fetch_token)})
        return response, body

    def _follow(self, address: httpx.URL, headers: Mapping[str, str]) -> tuple[httpx.Response, bytes]:
        """Sends, and follows redirects within the same origin."""
        for _ in range(MOST_REDIRECTS + 1):
            response, body = self._send("GET", address, headers=headers)
            if not response.has_redirect_location:
                return response, body
            target = response.headers["Location"]
            try:
                address = address.join(target)
            except (httpx.InvalidURL, ValueError) as error:
                raise self._error("redirect", "it redirects to what is no address", transient=False) from error
            if _origin(address) != self._origin:
                where = f"{address.scheme}://{address.host}"
                raise self._error(
                    "redirect",
                    f"it redirects to {where}; credentials and questions go to {self._origin[1]} only. If the API has "
                    "moved, change its url",
                    transient=False,
                )
        raise self._error("redirect", f"it redirects more than {MOST_REDIRECTS} times", transient=False)

    def _fetch_token(self, url: str, form: Mapping[str, str], headers: Mapping[str, str]) -> tuple[str, float]:
        """Access token and its life in seconds."""
        response, body = self._send("POST", httpx.URL(url), headers=headers, data=form)
        if response.status_code in _TRANSIENT:
            raise self._refusal(response, body)
        if response.status_code != 200:
            raise self._error(
                "credentials_refused",
                f"its token service answered {response.status_code}; check {self._credentials.variables}",
                transient=False,
            )
        try:
            return token_answer(json.loads(body))
        except ValueError as error:
            raise self._error("token", f"its token service answered {error}", transient=False) from error

    def _send(
        self, method: str, address: httpx.URL, *, headers: Mapping[str, str], data: Mapping[str, str] | None = None
    ) -> tuple[httpx.Response, bytes]:
        """One request and its whole body, within `answer_seconds`."""
        self._keep_rate()
        seconds = self._api.calls.answer_seconds
        with self._hang_up_after(seconds) as passed:
            try:
                with self._client.stream(
                    method, address, headers=dict(headers), data=data, extensions={"trace": self._note_socket}
                ) as response:
                    return response, self._body(response)
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise self._failure(error, passed=passed.is_set()) from error

    @contextmanager
    def _hang_up_after(self, seconds: float) -> Iterator[threading.Event]:
        """Shuts the connection after some seconds: a limit of silence alone would let a body drip for ever."""
        passed = threading.Event()

        def hang_up() -> None:
            passed.set()
            for each in tuple(self._sockets):
                try:
                    socket.socket.shutdown(each, socket.SHUT_RDWR)
                except OSError:
                    continue  # closed already

        timer = threading.Timer(seconds, hang_up)
        timer.daemon = True
        timer.start()
        try:
            yield passed
        finally:
            timer.cancel()

    def _note_socket(self, event: str, info: Mapping[str, Any]) -> None:
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            self._sockets.append(info["return_value"].get_extra_info("socket"))

    def _body(self, response: httpx.Response) -> bytes:
        """The body, unpacked here a little at a time: a few kilobytes of gzip can hold gigabytes."""
        most = int(self._api.calls.largest_mb * 1_000_000)
        coding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if coding not in ("identity", "gzip", ""):
            raise self._error("encoding", f"its answer is packed as {coding}, which was not asked for", transient=False)
        unpack = zlib.decompressobj(16 + zlib.MAX_WBITS) if coding == "gzip" else None
        declared = response.headers.get("Content-Length", "")
        if declared.isdecimal() and int(declared) > most:
            raise self._too_large()
        body = bytearray()
        for chunk in response.iter_raw(_CHUNK):
            try:
                body += unpack.decompress(chunk, most + 1 - len(body)) if unpack else chunk
            except zlib.error as error:
                raise self._error("cut_off", f"its gzip is damaged ({error})", transient=True) from error
            if len(body) > most:
                raise self._too_large()
        if unpack is not None and not unpack.eof and body:
            raise self._error("cut_off", "its answer ends in the middle of its gzip", transient=True, body=bytes(body))
        return bytes(body)

    def _too_large(self) -> CallError:
        limit = f"{self._api.calls.largest_mb:g} MB (calls.largest_mb)"
        return self._error("too_large", f"its answer is larger than {limit}; ask for smaller pages", transient=False)

    def _failure(self, error: Exception, *, passed: bool) -> CallError:
        """What an error of the HTTP library means."""
        if passed:
            limit = f"{self._api.calls.answer_seconds:g} s (calls.answer_seconds)"
            return self._error("timeout", f"no whole answer came within {limit}", transient=True)
        if isinstance(error, httpx.TimeoutException):
            kind = "could not be reached" if isinstance(error, httpx.ConnectTimeout) else "was silent for too long"
            return self._error("timeout", f"it {kind}", transient=True)
        if isinstance(error, httpx.ConnectError):
            return self._error("unreachable", f"it cannot be reached ({first_line(error)})", transient=True)
        if isinstance(error, httpx.TransportError):
            return self._error("cut_off", f"the connection broke off ({first_line(error)})", transient=True)
        return self._error("bad_link", f"it cannot be asked ({type(error).__name__})", transient=False)

    def _refusal(self, response: httpx.Response, body: bytes) -> CallError:
        """What an answer other than 200 means."""
        status, calls = response.status_code, self._api.calls
        if status in (401, 403):
            return self._error(
                "credentials_refused", f"it answered {status}; check {self._credentials.variables}", transient=False
            )
        if status not in _TRANSIENT:
            return self._error("client_error", f"it answered {status}", transient=False, body=body)
        code = "rate_limited" if status == 429 else "server_error"
        after = retry_after(response.headers.get("Retry-After", ""), now=self._clock.now())
        if after is not None and after > calls.longest_retry_after:
            self._breaker.open_for(after, f"it answered {status}")
            return self._error(
                code,
                f"it answered {status} and asks to wait {after:,.0f} s, longer than {calls.longest_retry_after:g} s "
                "(calls.longest_retry_after); it is left alone until then",
                transient=False,
            )
        return self._error(code, f"it answered {status}", transient=True, retry_after=after, body=body)

    def _error(
        self, code: str, words: str, *, transient: bool, retry_after: float | None = None, body: bytes = b""
    ) -> CallError:
        message = self.hide(f"competitor API {self._source}: {words}")
        shown = self._credentials.hide_bytes(body)
        return CallError(code, message, transient=transient, retry_after=retry_after, body=shown)


def retry_after(value: str, *, now: dt.datetime) -> float | None:
    """Seconds that a Retry-After header asks for, as a number or an HTTP date; None where it says nothing readable."""
    value = value.strip()
    if value.isascii() and value.isdecimal():
        return float(value[:12])
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return None
    when = when if when.tzinfo else when.replace(tzinfo=dt.UTC)
    return max(0.0, (when - now).total_seconds())


def _origin(address: httpx.URL) -> tuple[str, str, int]:
    port = address.port or (443 if address.scheme == "https" else 80)
    return address.scheme, address.host, port


def _client(calls: CallsConfig) -> httpx.Client:
    timeout = httpx.Timeout(calls.read_seconds, connect=calls.connect_seconds)
    try:
        verify = ssl.create_default_context(cafile=calls.ca_file) if calls.ca_file else True
    except OSError as error:
        raise SourceError(f"calls.ca_file {calls.ca_file} cannot be read ({first_line(error)})") from error
    headers = {"Accept": "application/json", "Accept-Encoding": "gzip", "User-Agent": "pricing-etl"}
    return httpx.Client(
        timeout=timeout, verify=verify, trust_env=calls.environment_proxy, follow_redirects=False, headers=headers
    )


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")
