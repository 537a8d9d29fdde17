"""Post JSON to an address that may hold a secret, again where that may help."""

from collections.abc import Mapping
from typing import Any

import httpx2
import stamina

from pricing.errors import DeliveryError

ATTEMPTS, SECONDS = 3, 10  # of all, and for one answer
FIRST_WAIT = 0.5  # seconds before the second attempt


def post(url: str, document: Mapping[str, Any], *, what: str) -> None:
    """Posts a document, which errors call `what`; the other side may see it twice.

    Raises:
        DeliveryError: It was not taken. Its words do not tell the address.
    """
    try:
        for attempt in stamina.retry_context(on=_may_pass, attempts=ATTEMPTS, wait_initial=FIRST_WAIT, wait_max=5):
            with attempt:
                httpx2.post(url, json=document, timeout=SECONDS).raise_for_status()
    except httpx2.HTTPStatusError as error:
        raise DeliveryError(f"{what} was not taken: HTTP {error.response.status_code}") from error
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise DeliveryError(f"{what} was not taken: {type(error).__name__}") from error


def _may_pass(error: Exception) -> bool:
    if isinstance(error, httpx2.HTTPStatusError):
        return error.response.status_code in (408, 429) or error.response.status_code >= 500
    return isinstance(error, httpx2.TransportError) and not isinstance(error, httpx2.UnsupportedProtocol)
