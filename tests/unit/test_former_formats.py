"""Versions that former code packed, kept in tests/data/versions: they load, and their readers alone know how.

Each was packed by the code of a commit, with its own tests' small model: `format-2-without-grades` by fba9a3f, the last
before grades and anchors; `format-2-without-anchors` by b45dced, the last before anchors; `format-2` by 154e23d, with
events, promotions, prices by weight, all grades and combined forecasters; `format-3` by 9718148, with current prices so
far from list that guardrails gave way in two of its golden requests; `format-4` by 7b3115f, from the same parts;
`format-5` by b6250a6, from those of the one before.
"""

import datetime as dt
import json
import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pricing.decision.reasons import REASONS
from pricing.decision.request import PriceRequest
from pricing.demand.model import DemandModel
from pricing.errors import VersionError
from pricing.registry import files, golden
from pricing.registry.files import Files
from pricing.registry.former_formats import (
    FORMAT,
    READERS,
    readable,
    upgrade,
    upgrade_from_2,
    upgrade_from_3,
    upgrade_from_5,
)
from pricing.registry.golden import FIELDS
from pricing.registry.version import LoadedVersion, Origin, load, pack, read_anchors, read_backtest
from serving.follower import verify_version
from tests.kit.serving import REQUEST, open_app

VERSIONS = Path(__file__).parents[1] / "data" / "versions"
FORMER = sorted(path.name for path in VERSIONS.iterdir())
LAST, UNGRADED, UNANCHORED = "format-2", "format-2-without-grades", "format-2-without-anchors"
GIVING_WAY, UNBOUND, UNTAXED = "format-3", "format-4", "format-5"


def write_header(folder: Path, header: dict[str, Any]) -> None:
    """Writes a header with its checksum, as whoever packs otherwise would."""
    header = {key: value for key, value in header.items() if key != "checksum"}
    (folder / files.HEADER).write_text(json.dumps({**header, "checksum": files.digest(header)}))


def header_of(folder: Path) -> dict[str, Any]:
    header: dict[str, Any] = json.loads((folder / files.HEADER).read_text())
    return header


def copied(name: str, to: Path) -> Path:
    return Path(shutil.copytree(VERSIONS / name, to / name))


def lacking(*gone: str) -> Files:
    """What its reader makes of a version of format 2 without the arrays whose paths begin so."""
    content = files.read(VERSIONS / LAST)
    kept = {name: values for name, values in content.arrays.items() if not name.startswith(gone)}
    return upgrade_from_2(replace(content, arrays=kept))


def repacked(version: LoadedVersion, folder: Path) -> LoadedVersion:
    return pack(
        folder,
        demand=version.demand,
        facts=version.facts,
        config=version.config,
        backtest=version.backtest,
        origin=Origin(kind="refresh", data=version.meta["data"], parent="1"),
        holds_only=version.holds_only,
        anchors=version.anchors,
    )


def test_every_format_from_the_oldest_on_has_a_reader_and_an_example() -> None:
    kept = {header_of(VERSIONS / name)["format"] for name in FORMER}

    assert sorted(READERS) == list(range(min(READERS), FORMAT))
    assert kept == set(READERS)
    assert [number for number in range(FORMAT + 2) if readable(number)] == [*READERS, FORMAT]


def test_readers_are_applied_in_turn_from_the_format_that_is_there() -> None:
    def reader(name: str) -> Any:
        return lambda content: replace(content, documents={**content.documents, name: len(content.documents)})

    readers = {number: reader(f"from {number}") for number in (4, 5, 6)}

    whole = upgrade(Files({"format": 4}, {}, {}), readers=readers, until=7)
    part = upgrade(Files({"format": 6}, {}, {}), readers=readers, until=7)
    none = upgrade(Files({"format": 7}, {}, {}), readers=readers, until=7)

    assert (whole.header, whole.documents) == ({"format": 7}, {"from 4": 0, "from 5": 1, "from 6": 2})
    assert (part.header, part.documents) == ({"format": 7}, {"from 6": 0})
    assert (none.header, none.documents) == ({"format": 7}, {})


@pytest.mark.parametrize("name", FORMER)
def test_a_reader_changes_nothing_that_it_is_given(name: str) -> None:
    content = files.read(VERSIONS / name)
    before = json.dumps([content.header, content.documents]), set(content.arrays)

    upgrade(content)

    assert (json.dumps([content.header, content.documents]), set(content.arrays)) == before


@pytest.mark.parametrize("name", FORMER)
def test_a_version_of_former_code_is_carried_on_in_the_present_format(name: str, tmp_path: Path) -> None:
    former = load(VERSIONS / name)
    refreshed = replace(former, demand=former.demand.refresh(former.demand.encoded.tail))

    again = repacked(refreshed, tmp_path / "again")

    assert again.meta["format"] == FORMAT
    assert not {"compared", "given_otherwise"} & again.meta["golden"].keys()
    assert again.verify().requests == len(former.meta["golden"]["cases"])
    assert (again.weights_hash, again.holds_only) == (header_of(VERSIONS / name)["weights"], former.holds_only)


def test_the_last_version_of_format_2_answers_golden_requests_of_the_products_it_knows_as_recorded() -> None:
    version = load(VERSIONS / LAST)
    recorded = header_of(VERSIONS / LAST)["golden"]

    compared = version.verify()

    assert compared.requests == len(recorded["cases"]) == 7
    assert version.meta["golden"] == {**recorded, "given_otherwise": version.meta["golden"]["given_otherwise"]}
    with pytest.raises(VersionError, match="golden-stranger-2 answers"):
        golden.compare(version.pricer(version="x"), recorded, where=LAST)
    assert not version.holds_only
    assert [int(grade) for grade in version.demand.grade] == [0, 1, 2, 3]


def test_a_version_without_anchors_answers_golden_requests_with_the_recorded_prices() -> None:
    version = load(VERSIONS / UNANCHORED)
    recorded = header_of(VERSIONS / UNANCHORED)["golden"]

    assert version.verify().requests == len(recorded["cases"]) == 7
    with pytest.raises(VersionError, match="golden-stranger-2 answers"):
        golden.compare(version.pricer(version="x"), recorded, where=UNANCHORED)
    assert not version.holds_only
    assert np.isnan(version.facts.anchor_price).all()


def test_a_version_without_anchors_that_prices_otherwise_is_refused(tmp_path: Path) -> None:
    folder = copied(UNANCHORED, tmp_path)
    header = header_of(folder)
    header["golden"]["cases"][-2]["decision"]["recommended_price"] += 0.01
    write_header(folder, header)

    with pytest.raises(VersionError, match="golden-stranger-1 answers recommended_price"):
        load(folder).verify()


@pytest.mark.parametrize(
    ("place", "refused"), [(0, False), (1, True), (2, False), (3, True), (4, True), (5, True), (6, False)]
)
def test_of_a_version_of_format_3_only_answers_that_other_rules_gave_are_not_compared(
    place: int, refused: bool, tmp_path: Path
) -> None:
    folder = copied(GIVING_WAY, tmp_path)
    header = header_of(folder)
    header["golden"]["cases"][place]["decision"]["recommended_price"] += 0.01
    write_header(folder, header)

    with pytest.raises(VersionError, match="answers recommended_price") if refused else nullcontext():
        load(folder).verify()


def test_golden_requests_of_format_3_were_priced_otherwise_where_a_guardrail_gave_way() -> None:
    recorded = header_of(VERSIONS / GIVING_WAY)["golden"]
    cases = [case["request"] for case in recorded["cases"]]
    today = dt.date.fromisoformat(recorded["today"])

    decisions = (
        load(VERSIONS / GIVING_WAY)
        .pricer(version="x")
        .price([PriceRequest.model_validate(case) for case in cases], today=today)
    )

    otherwise = set(upgrade_from_3(files.read(VERSIONS / GIVING_WAY)).header["golden"]["given_otherwise"])
    assert otherwise <= set(REASONS)
    assert [bool(otherwise & set(decision.reasons)) for decision in decisions] == [
        True, False, True, False, False, False, True,
    ]  # fmt: skip


def test_the_last_prices_charged_of_a_version_of_format_4_are_unknown_and_bound_nothing() -> None:
    version = load(VERSIONS / UNBOUND)
    recorded = header_of(VERSIONS / UNBOUND)["golden"]

    bound = golden.compare(version.pricer(version="x", largest_jump=0.01), recorded, where=UNBOUND)

    assert np.isnan(version.facts.last_price).all()
    assert bound.requests == version.verify().requests == len(recorded["cases"])


def test_a_version_of_format_5_knows_no_tax_and_uses_no_competitor_that_it_cannot_date() -> None:
    version = load(VERSIONS / UNTAXED)
    today = version.demand.state_date
    request = PriceRequest(product_id=str(version.facts.product_ids[0]), current_stock=9, day_of_week="Monday")

    left_out, none = version.pricer(version="x").price(
        [request, request.model_copy(update={"comp_price": None})], today=today
    )

    assert not version.facts.tax_rate.any()
    assert np.isnat(version.facts.comp_price_date).all()
    assert np.isfinite(version.facts.comp_price).any()
    assert left_out.comp_price_used is left_out.comp_price_age is None
    assert left_out.recommended_price == none.recommended_price
    assert version.verify().requests == len(header_of(VERSIONS / UNTAXED)["golden"]["cases"])


def test_a_version_without_grades_holds_every_price() -> None:
    version = load(VERSIONS / UNGRADED)
    facts = version.facts
    requests = [
        PriceRequest(product_id=str(product), current_stock=1e6, day_of_week="Monday", current_price=float(price))
        for product, price in zip(facts.product_ids, facts.price, strict=True)
    ]

    decisions = version.pricer(version="x").price(requests, today=dt.date.fromisoformat(version.meta["state_date"]))

    assert version.holds_only
    held = np.minimum(facts.price, facts.list_price)  # a price above the regular one goes back to it
    assert [decision.recommended_price for decision in decisions] == pytest.approx(held.tolist())
    assert all("elasticity_unidentified" in decision.reasons for decision in decisions)
    assert version.verify().requests == 7


@pytest.mark.parametrize("name", [UNGRADED, UNANCHORED])
def test_anchors_of_a_version_without_any_are_its_list_prices(name: str) -> None:
    version = load(VERSIONS / name)

    anchors = read_anchors(VERSIONS / name)

    assert anchors.same(version.anchors)
    np.testing.assert_array_equal(anchors.product_ids, version.facts.product_ids)
    np.testing.assert_allclose(anchors.list_price, version.facts.list_price, rtol=1e-6)
    assert np.isnan(anchors.seen_low).all()


@pytest.mark.parametrize("name", FORMER)
def test_the_backtest_of_a_version_of_former_code_is_read_alone(name: str) -> None:
    assert read_backtest(VERSIONS / name) == {"figures": {"wape": 0.4, "wape_naive": 0.5}}


def test_a_backtest_that_is_not_there_is_missed(tmp_path: Path) -> None:
    folder = copied(LAST, tmp_path)
    header = header_of(folder)
    del header["files"]["backtest.json"]
    write_header(folder, header)

    with pytest.raises(VersionError, match="holds no backtest that this library can read: 'backtest'"):
        read_backtest(folder)


@pytest.mark.parametrize("name", FORMER)
def test_serving_admits_a_version_of_former_code_and_answers_by_it(name: str, tmp_path: Path) -> None:
    assert verify_version(VERSIONS / name) == 7

    with open_app(tmp_path, version=VERSIONS / name) as shop:
        answer = shop.client.post("/get_price", json=REQUEST).get_json()
        model = shop.client.get("/model").get_json()
        grades = [product["grade"] for product in shop.client.get("/products").get_json()["products"]]

    assert answer["model_version"] == "7"
    assert model["holds_only"] is (name == UNGRADED)
    assert grades == {
        UNGRADED: ["prior_only"] * 4,
        UNANCHORED: ["own_history"] * 4,
        GIVING_WAY: ["own_history"] * 4,
        UNBOUND: ["own_history"] * 4,
        UNTAXED: ["own_history"] * 4,
        LAST: ["prior_only", "category", "own_history", "tested"],
    }.get(name)


@pytest.mark.parametrize("name", FORMER)
@pytest.mark.parametrize("at", ["version.json", "demand.json", "arrays/demand/priors/level.npy"])
def test_a_damaged_file_of_a_former_format_is_found(name: str, at: str, tmp_path: Path) -> None:
    folder = copied(name, tmp_path)
    content = bytearray((folder / at).read_bytes())
    place = content.rindex(b"2") if at.endswith("json") else len(content) - 3
    content[place] ^= 0x03
    (folder / at).write_bytes(bytes(content))

    with pytest.raises(VersionError, match=rf"{at.rsplit('.', 1)[0]}\.\w+: is damaged|{at} is damaged"):
        load(folder)


def test_an_array_that_all_versions_of_a_format_have_is_missed_by_name(tmp_path: Path) -> None:
    folder = copied(UNGRADED, tmp_path)
    header = header_of(folder)
    del header["files"]["arrays/demand/priors/level.npy"]
    write_header(folder, header)

    with pytest.raises(VersionError, match="cannot be read by this library: 'demand/priors/level'; pack the model"):
        load(folder)


@pytest.mark.parametrize("number", [min(READERS) - 1, FORMAT + 1, None, "3"])
def test_a_format_without_a_reader_is_refused_with_what_to_do(number: Any, tmp_path: Path) -> None:
    folder = copied(LAST, tmp_path)
    write_header(folder, {**header_of(folder), "format": number, "library": "9.9.0"})

    with pytest.raises(
        VersionError,
        match=rf"{LAST}: has format {number} and was packed by pricing 9\.9\.0; this is pricing .*, which reads "
        rf"formats {min(READERS)} to {FORMAT}; install pricing 9\.9\.0, or train again",
    ):
        load(folder)
    assert read_anchors(folder).same(load(VERSIONS / LAST).anchors), "anchors outlive the library"


@pytest.mark.parametrize(
    ("gone", "value"),
    [
        ("demand/norms/unit", 1),
        ("demand/norms/promotion", 0),
        ("demand/counted", True),
        ("demand/priors/unit", 1),
        ("demand/priors/counted", True),
        ("demand/priors/grade", 0),
        ("demand/evidence/moves", 0),
        ("demand/evidence/left_own", 1),
        ("facts/deliveries", 0),
        ("facts/seen_low", np.nan),
        ("facts/delivery_gaps", np.nan),
    ],
)
def test_what_a_version_of_format_2_does_not_say_is_what_its_time_assumed(gone: str, value: float) -> None:
    there = lacking().arrays[gone]

    filled = lacking(gone).arrays[gone]

    assert filled.shape == there.shape
    np.testing.assert_array_equal(filled, np.full(there.shape, value))


def test_a_version_of_format_2_without_a_combination_forecasts_by_the_network_alone() -> None:
    content = upgrade_from_5(lacking("demand/combination/"))

    demand = DemandModel.from_arrays(
        {name.removeprefix("demand/"): values for name, values in content.arrays.items()}, content.documents["demand"]
    )

    np.testing.assert_array_equal(demand.combination.weights, np.tile([1.0, 0.0, 0.0], (4, 1)))
    assert not demand.combination.factor.any()
    assert demand.with_levels() is demand


def test_what_trees_of_format_2_read_and_none_reads_now_is_left_out() -> None:
    content = files.read(VERSIONS / LAST)
    more = {**content.arrays, "demand/combination/lift": np.zeros(4)}

    assert upgrade_from_2(replace(content, arrays=more)).arrays.keys() == content.arrays.keys()


def test_a_version_of_format_2_that_names_no_limits_keeps_those_of_its_time() -> None:
    content = files.read(VERSIONS / LAST)
    plain = {name: value for name, value in content.documents["demand"].items() if name != "elasticity_limits"}
    named = {**plain, "elasticity_limits": [-30.0, -0.1]}

    limits = [
        upgrade_from_2(replace(content, documents={**content.documents, "demand": demand})).documents["demand"]
        for demand in (plain, named)
    ]

    assert [demand["elasticity_limits"] for demand in limits] == [[-20.0, -0.2], [-30.0, -0.1]]


@pytest.mark.parametrize(("unsold", "holds"), [((), False), ((1, 2, 3), True), ((0, 1, 2, 3), False)])
def test_a_version_that_does_not_say_holds_where_nothing_sold_is_graded_above_prior(
    unsold: tuple[int, ...], holds: bool
) -> None:
    content = files.read(VERSIONS / LAST)
    units = np.ones(4)
    units[list(unsold)] = np.nan
    header = {key: value for key, value in content.header.items() if key != "holds_only"}

    upgraded = upgrade_from_2(replace(content, header=header, arrays={**content.arrays, "facts/typical_units": units}))

    assert upgraded.header["holds_only"] is holds


def test_the_answers_that_are_compared_are_those_whose_method_is_the_present_one() -> None:
    compared = [
        lacking(*gone).header["golden"].get("compared", list(FIELDS))
        for gone in ((), ("demand/priors/counted",), ("demand/priors/counted", "demand/grade"))
    ]

    assert compared == [list(FIELDS), ["recommended_price", "source", "strategy"], []]
