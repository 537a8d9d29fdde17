"""The only place that holds an API's secrets: from environment variables, in memory, and out of every text."""

import base64
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote_plus

from pricing.config_competitors import AnyAuthentication, KeyConfig, OauthConfig
from pricing.errors import SourceError
from pricing.fileio import HIDDEN

EARLY = 30.0
"""Seconds before its end at which a token is fetched anew, so that none ends on its way."""
TOKEN_SECONDS = 300.0
"""Life of a token whose service does not say."""
SHORTEST = 6
"""Characters from which on a secret is looked for in texts: shorter ones would be found in any."""
FetchToken = Callable[[str, Mapping[str, str], Mapping[str, str]], tuple[str, float]]


class Credentials:
    """Makes the headers that authorise a call; a token is kept until it ends, in memory only.

    Attributes:
        variables: Names of the environment variables, for messages.
    """

    def __init__(
        self,
        authentication: AnyAuthentication | None,
        *,
        environment: Mapping[str, str],
        monotonic: Callable[[], float],
    ) -> None:
        """Reads the secrets.

        Raises:
            SourceError: A variable is not set, or holds what no header may.
        """
        self._config, self._monotonic = authentication, monotonic
        names = _variables_of(authentication)
        self._values = {name: _secret(environment, name) for name in names}
        self._token, self._ends = "", 0.0
        self._issued: list[str] = []
        self.variables = " and ".join(names) or "its access rights: the configuration gives no authentication"

    def headers(self, fetch_token: FetchToken) -> dict[str, str]:
        """Headers of a call, with a token that is fetched where none is kept."""
        if isinstance(self._config, KeyConfig):
            return {self._config.header: self._config.prefix + self._values[self._config.variable]}
        if isinstance(self._config, OauthConfig):
            if not self._token or self._monotonic() >= self._ends:
                self._token, life = fetch_token(self._config.token_url, *self._token_call(self._config))
                self._ends = self._monotonic() + max(life - EARLY, life / 2)
                self._issued.append(self._token)
            return {"Authorization": f"Bearer {self._token}"}
        return {}

    def forget_token(self) -> bool:
        """Forgets a token that was refused; False where there is none, so that asking again would not help."""
        had, self._token = bool(self._token), ""
        return had

    def hide(self, text: str) -> str:
        """The text without secrets and tokens."""
        for secret in self._secrets():
            text = text.replace(secret, HIDDEN)
        return text

    def hide_bytes(self, body: bytes) -> bytes:
        """The same for bytes."""
        for secret in self._secrets():
            body = body.replace(secret.encode(), HIDDEN.encode())
        return body

    def _secrets(self) -> list[str]:
        own = [value for name, value in self._values.items() if name != getattr(self._config, "client_id_variable", "")]
        return [value for value in (*own, *self._issued) if len(value) >= SHORTEST]

    def _token_call(self, config: OauthConfig) -> tuple[dict[str, str], dict[str, str]]:
        """Form and headers of the call for a token (RFC 6749, 2.3.1 and 4.4.2)."""
        form = {"grant_type": "client_credentials", **({"scope": config.scope} if config.scope else {})}
        user, secret = self._values[config.client_id_variable], self._values[config.client_secret_variable]
        if config.send == "body":
            return {**form, "client_id": user, "client_secret": secret}, {}
        login = base64.b64encode(f"{quote_plus(user)}:{quote_plus(secret)}".encode()).decode()
        self._issued.append(login)
        return form, {"Authorization": f"Basic {login}"}


def token_answer(payload: Any) -> tuple[str, float]:
    """Token and life in seconds of a token service's answer.

    Raises:
        ValueError: It has another form; the message does not repeat it.
    """
    token = payload.get("access_token") if isinstance(payload, Mapping) else None
    if not isinstance(token, str) or not _fits_header(token):
        raise ValueError("without a usable access_token")
    if str(payload.get("token_type", "Bearer")).lower() != "bearer":
        raise ValueError("with a token that is not of the type Bearer")
    life = payload.get("expires_in", TOKEN_SECONDS)
    return token, float(life) if isinstance(life, int | float) and life > 0 else TOKEN_SECONDS


def _variables_of(authentication: AnyAuthentication | None) -> tuple[str, ...]:
    if isinstance(authentication, KeyConfig):
        return (authentication.variable,)
    if isinstance(authentication, OauthConfig):
        return authentication.client_id_variable, authentication.client_secret_variable
    return ()


def _secret(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name, "").strip()
    if not value:
        raise SourceError(f"the environment variable {name} is not set; the configuration takes a secret from it")
    if not _fits_header(value):
        raise SourceError(f"the environment variable {name} holds blanks or characters that no header may; set it anew")
    return value


def _fits_header(value: str) -> bool:
    return bool(value) and value.isascii() and value.isprintable() and " " not in value
