"""API keys with their scopes, as the environment names them, and which addresses are of this machine."""

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path

from pricing.errors import ConfigError

# Of the service; and of the console: who decides may look, too.
SCOPES = ("price", "explain", "admin", "look", "decide")
# Headers of a WSGI environment that only a proxy sets, so that what came with one may come from another machine.
PROXIED = (
    "HTTP_FORWARDED",
    "HTTP_X_FORWARDED_FOR",
    "HTTP_X_FORWARDED_HOST",
    "HTTP_X_FORWARDED_PROTO",
    "HTTP_X_REAL_IP",
    "HTTP_VIA",
)
SHORTEST = 16  # characters of a key


@dataclass(frozen=True)
class ApiKey:
    """One caller's API key, kept as a sha256 digest only, so that no log or error can show it."""

    name: str
    digest: bytes
    scopes: frozenset[str]


def read_keys(environment: Mapping[str, str]) -> tuple[ApiKey, ...]:
    """Reads PRICING_API_KEYS_FILE, lines of `name key scope,scope`, or PRICING_API_KEYS, the same separated by `;`.

    Raises:
        ConfigError: An entry cannot be used; names it and why, without showing the key.
    """
    where = "PRICING_API_KEYS"
    text = environment.get("PRICING_API_KEYS", "")
    path = environment.get("PRICING_API_KEYS_FILE")
    if path:
        where = path
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"PRICING_API_KEYS_FILE: {path} cannot be read ({error})") from error
    lines = ((place, line.split()) for place, line in enumerate(re.split(r"[;\n]", text), start=1))
    keys = [_parse(words, where=f"{where}, entry {place}") for place, words in lines if words and words[0][0] != "#"]
    for kind, values in (("name", [key.name for key in keys]), ("key", [key.digest for key in keys])):
        if len(set(values)) < len(values):
            raise ConfigError(f"{where}: two entries have the same {kind}")
    return tuple(keys)


def _parse(words: list[str], *, where: str) -> ApiKey:
    if len(words) != 3:
        raise ConfigError(f"{where}: expected `name key scope,scope`, found {len(words)} word(s)")
    name, key, listed = words
    scopes = frozenset(listed.split(","))
    if len(key) < SHORTEST:
        raise ConfigError(f"{where}: the key of {name!r} is shorter than {SHORTEST} characters")
    for unknown in scopes - set(SCOPES):
        raise ConfigError(f"{where}: unknown scope {unknown!r}; the scopes are {', '.join(SCOPES)}")
    return ApiKey(name, hashlib.sha256(key.encode()).digest(), scopes)


def find_key(keys: Sequence[ApiKey], sent: str) -> ApiKey | None:
    """The entry of the key that was sent, compared in constant time."""
    digest = hashlib.sha256(sent.encode()).digest()
    return next((key for key in keys if hmac.compare_digest(key.digest, digest)), None)


@lru_cache(maxsize=64)
def is_local_name(host: str) -> bool:
    """Returns True where a Host header, with or without a port, names this machine."""
    name, colon, port = host.rpartition(":")
    return is_loopback((name if colon and port.isdigit() else host).lower())


def is_loopback(host: str) -> bool:
    """Returns True where an address, with or without brackets, can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
