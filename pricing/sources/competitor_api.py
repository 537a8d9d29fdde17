"""Fetch competitors' offers from the configured APIs: page by page, answers kept as they came, failures told apart."""

import dataclasses
import datetime as dt
import hashlib
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from pricing.config_competitors import CompetitorApiConfig, CompetitorsConfig
from pricing.errors import PricingError, first_line
from pricing.sources.competitor_http import SYSTEM_CLOCK, ApiClient, CallError, Clock
from pricing.sources.competitor_offers import (
    Adapter,
    AnswerPage,
    OfferBatch,
    count_reasons,
    find_adapter,
    join_batches,
    read_offers,
)
from pricing.sources.competitor_raw import Kept, KeptAnswers, RawAnswers

_log = logging.getLogger(__name__)
_LOST_IN_A_ROW = 2  # numbered pages that fail one after another end the reading
_PAGE_FAULTS = ("server_error", "timeout", "cut_off", "invalid_json", "wrong_schema", "too_large")

State = Literal["fresh", "partial", "stale", "failed"]
CODES: Mapping[str, str] = {
    "unreachable": "no connection: the name is unknown, or nobody listens",
    "timeout": "no connection, silence, or no whole answer in time",
    "cut_off": "the connection broke off, or a body ended in its middle",
    "server_error": "500, 502, 503, 504, 408 or 425",
    "rate_limited": "429",
    "circuit_open": "not asked: too many failures in a row, or a long Retry-After, in this run or an earlier one",
    "run_too_long": "the time for all pages was over",
    "client_error": "another status than 200: the question is not one that it answers",
    "credentials_refused": "401 or 403, by the API or the token service",
    "token": "the token service answered without a usable token",
    "not_configured": "a secret is not in the environment, or a file of certificates cannot be read",
    "redirect": "a redirect to another host, to http, or in a circle",
    "other_host": "the next page lies on another host",
    "bad_link": "the next page has no usable address",
    "too_large": "the body, unpacked, is larger than allowed",
    "encoding": "the body is packed in a way that was not asked for",
    "invalid_json": "the body is no JSON",
    "wrong_schema": "the JSON is not of the adapter's format, or too many of its offers are not",
    "page_loop": "pages lead back, or repeat each other",
    "too_many_pages": "more pages than allowed",
    "more_pages": "there is a next page, and paging is off",
    "competitor_missing": "everything was read, and an expected competitor has no offer",
    "stale": "everything was read, and its newest observation is old",
    "empty": "everything was read, and there is no usable offer",
}
"""Code of a status → what it means."""


@dataclass(frozen=True)
class SourceStatus:
    """How one API answered.

    Attributes:
        source: Name of the API.
        state: fresh: all was read; stale: all was read, and its newest offer is older than `stale_hours`; partial: some
            pages or competitors are missing; failed: nothing was read.
        code: Why, for programs: a key of `CODES`; empty where it is fresh.
        why: The same in words.
        pages: Pages read, those that had not changed included.
        not_modified: Pages that had not changed since the last run.
        repeated_pages: Pages that said the same as an earlier one.
        calls: Requests sent.
        offers: Offers that can be used.
        set_aside: Reason → number of offers that cannot.
        competitors: Competitor → number of offers.
        newest: Time of the newest observation, UTC.
    """

    source: str
    state: State
    code: str = ""
    why: str = ""
    pages: int = 0
    not_modified: int = 0
    repeated_pages: int = 0
    calls: int = 0
    offers: int = 0
    set_aside: Mapping[str, int] = field(default_factory=dict)
    competitors: Mapping[str, int] = field(default_factory=dict)
    newest: dt.datetime | None = None

    def as_json(self) -> dict[str, Any]:
        """For a report: times as ISO texts."""
        return {**dataclasses.asdict(self), "newest": self.newest.isoformat() if self.newest else None}


@dataclass(frozen=True)
class FetchResult:
    """What all APIs gave.

    Attributes:
        batch: Offers, and those set aside with their reasons.
        statuses: One for each API, in the configuration's order.
        backfill: APIs whose first answer counts as known when it was observed; for `append_offers`.
    """

    batch: OfferBatch
    statuses: tuple[SourceStatus, ...]
    backfill: frozenset[str]


def fetch_offers(
    config: CompetitorsConfig,
    *,
    state_dir: Path,
    run_id: str,
    environment: Mapping[str, str] = os.environ,
    clock: Clock = SYSTEM_CLOCK,
) -> FetchResult:
    """Asks every API; the failure of one is its status, and the others go on.

    Args:
        config: The APIs.
        state_dir: A folder for what outlives the run: answers as they came, those kept for conditional requests, and
            the state of the circuit breakers. No secret is ever written there.
        run_id: Of the job.
        environment: Holds the secrets that the configuration names.
        clock: Time.

    Raises:
        ConfigError: An adapter does not exist.
    """
    adapters = {name: find_adapter(api.adapter) for name, api in config.apis.items()}
    batches, statuses = [], []
    for name, api in config.apis.items():
        folder = state_dir / name
        reading = _Reading(name, api=api, adapter=adapters[name], state_dir=folder, run_id=run_id, clock=clock)
        try:
            with ApiClient(api, source=name, state_dir=folder, environment=environment, clock=clock) as client:
                reading.read(client, raw_days=config.raw_days)
        except PricingError as error:
            reading.fail("not_configured", f"competitor API {name}: {first_line(error)}")
        batch, status = reading.outcome()
        batches.append(batch)
        statuses.append(status)
        level = logging.INFO if status.state == "fresh" else logging.WARNING
        _log.log(level, "competitor API %s: %s, %d offers. %s", name, status.state, status.offers, status.why)
    backfill = frozenset(name for name, api in config.apis.items() if api.backfill)
    return FetchResult(join_batches(batches), tuple(statuses), backfill)


@dataclass(frozen=True)
class _Place:
    """Where a page is asked for."""

    url: str
    params: Mapping[str, Any]

    @property
    def key(self) -> str:
        return json.dumps([self.url, sorted((name, str(value)) for name, value in self.params.items())])


class _Reading:
    """The reading of one API, page by page."""

    def __init__(
        self,
        source: str,
        *,
        api: CompetitorApiConfig,
        adapter: Adapter,
        state_dir: Path,
        run_id: str,
        clock: Clock,
    ) -> None:
        self._source, self._api, self._adapter = source, api, adapter
        self._run_id, self._clock = run_id, clock
        self._raw = RawAnswers(state_dir / "raw", run_id=run_id, started_at=clock.now())
        self._kept = KeptAnswers(state_dir / "kept")
        self._batches: list[OfferBatch] = []
        self._digests: set[str] = set()
        self._asked: dict[str, None] = {}
        self._pages = self._not_modified = self._repeated = self._calls = 0
        self._code = self._why = ""

    def read(self, client: ApiClient, *, raw_days: int) -> None:
        """Reads page after page until the last one, or one that cannot be read."""
        self._raw.delete_older(raw_days)
        following: _Place | None = self._first()
        lost = 0
        while following is not None:
            place = following
            self._asked[place.key] = None
            try:
                page, repeated = self._page(client, place)
                following, lost = self._next(place, page, repeated=repeated), 0
            except CallError as error:
                self.fail(error.code, str(error))
                lost += 1
                # Numbered pages do not need the one before; after two in a row the rest would be lost as well.
                on = self._api.paging.kind == "page" and error.code in _PAGE_FAULTS and lost < _LOST_IN_A_ROW
                on = on and len(self._asked) < self._api.paging.most_pages
                following = self._numbered(place) if on else None
        self._calls = client.calls
        if not self._code:
            self._kept.keep_only(self._asked)
        elif self._code == "client_error" and self._not_modified:
            self._kept.keep_only(())  # a kept page may have named a cursor that has ended since

    def fail(self, code: str, why: str) -> None:
        """Notes a fault; the first one names the status."""
        self._code, self._why = self._code or code, self._why or why

    def outcome(self) -> tuple[OfferBatch, SourceStatus]:
        """What was read, and how it went."""
        batch = join_batches(self._batches)
        newest = batch.offers["observed_at"].max() if len(batch.offers) else None
        counts = {str(name): int(count) for name, count in batch.offers["competitor"].value_counts().items()}
        self._judge(counts, newest)
        state: State = "partial"
        if not self._pages:
            state = "failed"
        elif self._code in ("", "stale", "empty"):
            state = "stale" if self._code else "fresh"
        status = SourceStatus(
            source=self._source,
            state=state,
            code=self._code,
            why=self._why,
            pages=self._pages,
            not_modified=self._not_modified,
            repeated_pages=self._repeated,
            calls=self._calls,
            offers=len(batch.offers),
            set_aside=count_reasons(batch.set_aside),
            competitors=counts,
            newest=newest.to_pydatetime() if newest is not None else None,
        )
        return batch, status

    def _judge(self, counts: Mapping[str, int], newest: "pd.Timestamp | None") -> None:
        """Notes what is wrong although everything was read."""
        words = f"competitor API {self._source}: "
        missing = [name for name in self._api.expected if name not in counts]
        if missing and self._pages:
            self.fail("competitor_missing", f"{words}no usable offer of {', '.join(missing)} came")
        if newest is None:
            self.fail("empty", f"{words}its answer holds no usable offer")
        elif (self._clock.now() - newest).total_seconds() > self._api.stale_hours * 3600:
            limit = f"{self._api.stale_hours:g} h (stale_hours)"
            self.fail("stale", f"{words}its newest price was observed {newest:%Y-%m-%d %H:%M} UTC, over {limit} ago")

    def _page(self, client: ApiClient, place: _Place) -> tuple[AnswerPage, bool]:
        """One page, and whether it only repeats an earlier one; its offers are noted."""
        address = client.hide(f"{place.url} {dict(place.params)}" if place.params else place.url)
        kept = self._kept.get(place.key)
        try:
            answer = client.get(
                place.url,
                params=place.params,
                etag=kept.etag if kept else "",
                last_modified=kept.last_modified if kept else "",
            )
            fetched_at = self._clock.now()
            unchanged = kept if answer.not_modified else None
            body = unchanged.body if unchanged else answer.body
            payload = json.loads(body) if unchanged else answer.payload
            page = self._adapted(payload, body)
            batch = self._offers(page, fetched_at=fetched_at, body=body)
        except CallError as error:
            self._raw.add(error.body, address=address, fetched_at=self._clock.now(), outcome=error.code)
            raise
        if not unchanged:
            self._kept.put(place.key, Kept(answer.etag, answer.last_modified, body))
        outcome = "not_modified" if unchanged else "read"
        self._raw.add(body, address=address, fetched_at=fetched_at, outcome=outcome)
        self._pages += 1
        self._not_modified += bool(unchanged)
        repeated = self._repeats(page)
        if not repeated:
            self._batches.append(batch)
        return page, repeated

    def _adapted(self, payload: Any, body: bytes) -> AnswerPage:
        """The page that the adapter makes of an answer."""
        try:
            page = self._adapter(payload)
            fits = isinstance(page, AnswerPage) and isinstance(page.next_page, str | None)
            fits = fits and isinstance(page.offers, list | tuple)
            fault = "" if fits else f"it returned {type(page).__name__}, not an AnswerPage of a list and a text or None"
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
            fault = f"{type(error).__name__}: {first_line(error)}"
        if fault:
            words = f"its answer is not what adapter {self._api.adapter} reads ({fault}); has the API changed?"
            raise self._fault("wrong_schema", words, body=body)
        return page

    def _offers(self, page: AnswerPage, *, fetched_at: dt.datetime, body: bytes) -> OfferBatch:
        batch = read_offers(
            page,
            source=self._source,
            fetched_at=fetched_at,
            run_id=self._run_id,
            competitor=self._api.competitor,
            dated=self._api.observed_at == "offer",
        )
        unreadable = batch.set_aside[batch.set_aside["reason"] == "schema"]
        if len(unreadable) > self._api.most_bad * len(page.offers):
            words = (
                f"{len(unreadable)} of {len(page.offers)} offers of a page cannot be read, more than "
                f"{self._api.most_bad:.0%} (most_bad), so none is taken; first: {unreadable['found'].iloc[0]}"
            )
            raise self._fault("wrong_schema", words, body=body)
        return batch

    def _repeats(self, page: AnswerPage) -> bool:
        """Whether an earlier page of this run said exactly the same."""
        if not page.offers:
            return False
        text = json.dumps(page.offers, sort_keys=True, default=str)
        digest = hashlib.sha256(text.encode()).hexdigest()
        known = digest in self._digests
        self._digests.add(digest)
        self._repeated += known
        return known

    def _first(self) -> _Place:
        paging = self._api.paging
        params: dict[str, Any] = dict(self._api.params)
        if paging.size_parameter and paging.kind != "none":
            params[paging.size_parameter] = paging.size
        if paging.kind == "page":
            params[paging.parameter] = paging.first
        return _Place(self._api.url, params)

    def _numbered(self, place: _Place) -> _Place:
        number = self._api.paging.parameter
        return self._checked(_Place(place.url, {**place.params, number: int(place.params[number]) + 1}))

    def _next(self, place: _Place, page: AnswerPage, *, repeated: bool) -> _Place | None:
        """Where the page after this one is asked for; None after the last one.

        Raises:
            CallError: The pages go in a circle, or are more than may be.
        """
        paging, following = self._api.paging, page.next_page
        if paging.kind == "page":
            return None if repeated or not page.offers else self._numbered(place)
        if following is None:
            return None
        if paging.kind == "none":
            raise self._fault(
                "more_pages", "its answer names a next page, but paging.kind is none: give cursor or link"
            )
        if self._repeated > 1:
            raise self._fault("page_loop", "several pages say what earlier ones said; it is not asked further")
        if paging.kind == "cursor":
            return self._checked(_Place(self._api.url, {**self._first().params, paging.parameter: following}))
        return self._checked(_Place(following, {}))

    def _checked(self, place: _Place) -> _Place:
        if place.key in self._asked:
            raise self._fault("page_loop", "a page leads back to one that was read; it is not asked further")
        if len(self._asked) >= self._api.paging.most_pages:
            limit = f"{self._api.paging.most_pages:,} (paging.most_pages)"
            raise self._fault("too_many_pages", f"there are more pages than {limit}; what follows was not read")
        return place

    def _fault(self, code: str, words: str, *, body: bytes = b"") -> CallError:
        return CallError(code, f"competitor API {self._source}: {words}", transient=False, body=body)
