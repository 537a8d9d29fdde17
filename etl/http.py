"""Ask one HTTP API for JSON, bounded in time, size and repetition; its credentials go to its own host only."""

import base64
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from urllib.parse import quote, quote_plus

import httpx2
import stamina
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from pricing.errors import PricingError, first_line
from pricing.fileio import HIDDEN

# http:// is for this machine and for a container's bare name: elsewhere credentials would travel in the clear.
_ADDRESS = re.compile(r"(https://[a-z0-9.-]+|http://(127\.0\.0\.1|[a-z0-9-]+))(:[0-9]{1,5})?(/[!-?A-~]*)?")
_KEY_IN_QUERY = re.compile(r"\?.*(auth|secret|passw|token|key|signature)[^&]*=", re.IGNORECASE)


class Settings(BaseModel):
    """Base of settings: frozen, refuses keys it does not know, and repeats no value, which may be a secret."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def _safe(url: str) -> str:
    if not _ADDRESS.fullmatch(url) or _KEY_IN_QUERY.search(url):
        raise ValueError(
            "an address is such as https://prices.example.com/v1/offers (http:// is for this machine), and holds no "
            "login or key: give authentication, which names environment variables"
        )
    return url


Address = Annotated[str, AfterValidator(_safe)]
Variable = Annotated[str, Field(pattern="^[A-Z_][A-Z0-9_]*$", description="Name of an environment variable.")]


class KeySettings(Settings):
    """A key in a header, or in a parameter of the address."""

    kind: Literal["key"]
    variable: Variable
    header: Annotated[str, Field(pattern="^[A-Za-z0-9-]+$")] = "X-Api-Key"
    prefix: Annotated[str, Field(pattern="^[ -~]*$", description='Stands before the key, such as "Bearer ".')] = ""
    query: Annotated[str | None, Field(description="Parameter of the address, in place of the header.")] = None


class OauthSettings(Settings):
    """A token by OAuth 2.0 client credentials (RFC 6749, 4.4), asked for with HTTP basic authentication."""

    kind: Literal["oauth"]
    token_url: Address
    client_id_variable: Variable
    client_secret_variable: Variable
    scope: str | None = None


Authentication = Annotated[KeySettings | OauthSettings, Field(discriminator="kind")]


@dataclass(frozen=True)
class Limits:
    """Bounds of what one API may cost."""

    seconds: float = 1_800  # of all its pages, waits included
    silence: float = 20  # seconds without a byte
    attempts: int = 5  # of one page
    first_wait: float = 1  # seconds before the second attempt; doubles with each, to a minute
    answer_bytes: int = 20_000_000  # of one page, unpacked
    all_bytes: int = 200_000_000
    pages: int = 10_000


class ApiError(PricingError):
    """No usable answer; the message holds no secret.

    Attributes:
        again: True where the same question may be answered later, seconds where the server says when.
    """

    def __init__(self, message: str, *, again: bool | float = False) -> None:
        super().__init__(message)
        self.again = again


class Api:
    """Asks one API for its pages, each once. Raises ApiError where a secret is not in the environment."""

    def __init__(self, url: str, login: Authentication | None, *, environ: Mapping[str, str], limits: Limits) -> None:
        self._url = httpx2.URL(url)
        self._login = login
        self._limits = limits
        self._ends = time.monotonic() + limits.seconds
        self._bytes_left = limits.all_bytes
        self._asked: set[httpx2.URL] = set()
        self._hidden: list[str] = []
        self._key = ""
        self._token = ""
        if isinstance(login, KeySettings):
            self._key = self._note(_secret(environ, login.variable))
        elif isinstance(login, OauthSettings):
            client = quote_plus(_secret(environ, login.client_id_variable))
            secret = quote_plus(self._note(_secret(environ, login.client_secret_variable)))
            self._key = self._note(base64.b64encode(f"{client}:{secret}".encode()).decode())
        self._retrying = stamina.AsyncRetryingCaller(
            limits.attempts, timeout=None, wait_initial=limits.first_wait, wait_max=60, wait_jitter=limits.first_wait
        )
        # No proxy of the environment comes between this machine and itself.
        self._client = httpx2.AsyncClient(timeout=limits.silence, trust_env=self._url.scheme == "https")
        self.aclose = self._client.aclose

    def hide(self, text: str) -> str:
        """The text without our secrets, which a server may repeat."""
        for secret in self._hidden:
            text = text.replace(secret, HIDDEN)
        return text

    async def get(self, link: str, params: Mapping[str, str]) -> tuple[Any, str | None]:
        """The JSON of the page at a link, relative to the API's address, and the next one's by the Link header.

        Raises:
            ApiError: No usable answer came, or the page was read before or lies on another host.
        """
        try:
            address = self._url.join(link)
            address = address.copy_merge_params(params) if params else address
        except (httpx2.InvalidURL, ValueError) as error:
            raise ApiError("its next page has no usable address") from error
        if (address.scheme, address.netloc) != (self._url.scheme, self._url.netloc):
            raise ApiError(self.hide(f"its next page lies on another host, {address.host}, which is not asked"))
        if address in self._asked or len(self._asked) == self._limits.pages:
            raise ApiError(f"its pages go in a circle, or are more than {self._limits.pages:,}")
        self._asked.add(address)
        return await self._retrying(_again, self._attempt, address)

    async def _attempt(self, address: httpx2.URL) -> tuple[Any, str | None]:
        headers = {"Accept": "application/json"}
        login = self._login
        if isinstance(login, OauthSettings):
            self._token = self._token or await self._new_token(login)
            headers["Authorization"] = f"Bearer {self._token}"
        elif login is not None and login.query:
            address = address.copy_set_param(login.query, self._key)
        elif login is not None:
            headers[login.header] = login.prefix + self._key
        return await self._send("GET", address, headers)

    async def _new_token(self, login: OauthSettings) -> str:
        form = {"grant_type": "client_credentials"}
        if login.scope:
            form["scope"] = login.scope
        headers = {"Authorization": f"Basic {self._key}"}
        document, _ = await self._send("POST", httpx2.URL(login.token_url), headers, form)
        token = document.get("access_token") if isinstance(document, dict) else None
        if not isinstance(token, str) or not _fits_header(token):
            raise ApiError("its token service answered without a usable access_token")
        return self._note(token)

    async def _send(
        self, method: str, address: httpx2.URL, headers: dict[str, str], form: dict[str, str] | None = None
    ) -> tuple[Any, str | None]:
        body = bytearray()
        limits = self._limits
        try:
            async with self._client.stream(method, address, headers=headers, data=form) as response:
                self._check(response)
                async for chunk in response.aiter_bytes():
                    body += chunk
                    self._bytes_left -= len(chunk)
                    if len(body) > limits.answer_bytes or self._bytes_left < 0:
                        raise ApiError(
                            f"it sends over {limits.answer_bytes:,} bytes a page or {limits.all_bytes:,} in all"
                        )
            document = json.loads(body, parse_int=lambda digits: int(digits) if len(digits) < 20 else digits)
            return document, response.links.get("next", {}).get("url")
        except (httpx2.HTTPError, ValueError, OverflowError, RecursionError) as error:
            words = f"no JSON came ({type(error).__name__}: {first_line(error)})"
            raise ApiError(self.hide(words), again=isinstance(error, httpx2.TransportError)) from error

    def _check(self, response: httpx2.Response) -> None:
        who = "it" if response.request.method == "GET" else "its token service"
        words = f"{who} answered {response.status_code}"
        if response.status_code == 429 or response.is_server_error:
            wait = retry_after(response.headers.get("Retry-After", ""))
            if wait is not None and wait > self._ends - time.monotonic():
                raise ApiError(f"{words} and asks to wait {wait:,.0f} s, longer than there is time for")
            raise ApiError(words, again=True if wait is None else wait)
        if response.status_code == 401:
            had_token = bool(self._token)
            self._token = ""  # it may have ended: the next attempt asks for another one
            raise ApiError(words, again=had_token)
        if response.status_code != 200:
            raise ApiError(words)

    def _note(self, secret: str) -> str:
        """Hides the secret from now on; one of under six characters would be found in any text."""
        if len(secret) >= 6:
            self._hidden += [secret, quote(secret, safe="")]
        return secret


def retry_after(value: str) -> float | None:
    """Seconds that a Retry-After header asks for; None where it gives none, such as an HTTP date."""
    return float(value[:12]) if value.isascii() and value.isdecimal() else None


def _again(error: Exception) -> bool | float:
    return error.again if isinstance(error, ApiError) else False


def _secret(environ: Mapping[str, str], name: str) -> str:
    value = environ.get(name, "").strip()
    if not _fits_header(value):
        raise ApiError(f"the environment variable {name} is not set, or holds what no header may")
    return value


def _fits_header(value: str) -> bool:
    return value.isascii() and value.isprintable() and " " not in value and bool(value)
