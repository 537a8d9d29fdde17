"""Read API keys with their scopes, and compare a sent key with them."""

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pricing.errors import ConfigError

SCOPES = ("price", "explain", "admin")
SHORTEST = 16


@dataclass(frozen=True)
class ApiKey:
    """One caller's API key, kept as a digest only, so that no log or error can show it.

    Attributes:
        name: The caller's name in logs.
        digest: The key's sha256.
        scopes: The scopes that it grants.
    """

    name: str
    digest: bytes
    scopes: frozenset[str]


def read_keys(environment: Mapping[str, str]) -> tuple[ApiKey, ...]:
    """Reads PRICING_API_KEYS_FILE, lines of `name key scope,scope`, or PRICING_API_KEYS, the same separated by `;`.

    Raises:
        ConfigError: An entry cannot be used; says which and why, without showing the key.
    """
    where, text = "PRICING_API_KEYS", environment.get("PRICING_API_KEYS", "")
    path = environment.get("PRICING_API_KEYS_FILE")
    if path:
        where = path
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"PRICING_API_KEYS_FILE: {path} cannot be read ({error})") from error
    keys: list[ApiKey] = []
    for place, line in enumerate(re.split(r"[;\n]", text), start=1):
        words = line.split()
        if words and not words[0].startswith("#"):
            keys.append(_parse(words, where=f"{where}, entry {place}"))
    for kind, values in (("name", [key.name for key in keys]), ("key", [key.digest for key in keys])):
        if len(set(values)) < len(values):
            raise ConfigError(f"{where}: two entries have the same {kind}")
    return tuple(keys)


def find(keys: Sequence[ApiKey], *, sent: str) -> ApiKey | None:
    """Finds the entry of a sent key, in constant time; None for a wrong key."""
    digest = hashlib.sha256(sent.encode()).digest()
    found = None
    for key in keys:
        if hmac.compare_digest(key.digest, digest):
            found = key
    return found


def _parse(words: list[str], *, where: str) -> ApiKey:
    if len(words) != 3:
        raise ConfigError(f"{where}: expected `name key scope,scope`, found {len(words)} word(s)")
    name, key, scopes = words[0], words[1], frozenset(words[2].split(","))
    if len(key) < SHORTEST:
        raise ConfigError(f"{where}: the key of {name!r} is shorter than {SHORTEST} characters")
    unknown = sorted(scopes - set(SCOPES))
    if unknown:
        raise ConfigError(f"{where}: unknown scope {unknown[0]!r}; the scopes are {', '.join(SCOPES)}")
    return ApiKey(name, hashlib.sha256(key.encode()).digest(), scopes)
