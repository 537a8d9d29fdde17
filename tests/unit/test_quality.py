"""The findings of data quality as a file that other programs read."""

import json
from pathlib import Path

import pytest

from pricing.data.quality import (
    LEVELS,
    MEANINGS,
    Finding,
    Quality,
    advice,
    load_quality,
    ordered,
    quality_file,
    save_quality,
)
from pricing.errors import SourceError

NULL = Finding("stock_null", "quarantine", "stock is missing on 9 of 9 rows", advice("stock_null"), column="stock")
STOP = Finding("price_unit", "stop", "prices rose", first_day="2026-03-04", products=3, share=0.5, examples=("a", "b"))
NOTE = Finding("units_outlier", "note", "one row sells much")


def test_findings_come_back_from_their_file_as_they_were(tmp_path: Path) -> None:
    quality = Quality((STOP, NULL), until="2026-03-04", rows=18, set_aside=9, bad_rows="bad/bad_rows.csv")

    save_quality(quality, tmp_path / "deep" / "quality.json")

    assert load_quality(tmp_path / "deep" / "quality.json") == quality


def test_fields_of_a_later_release_are_left_out(tmp_path: Path) -> None:
    save_quality(Quality((NULL,)), tmp_path / "q.json")
    document = json.loads((tmp_path / "q.json").read_text())
    document["later"] = document["findings"][0]["later"] = 1
    (tmp_path / "q.json").write_text(json.dumps(document))

    assert load_quality(tmp_path / "q.json").findings == (NULL,)


@pytest.mark.parametrize(
    "text", ["", "[]", '{"format": 9, "findings": []}', '{"format": 1, "findings": [{"name": 1}]}']
)
def test_a_file_that_holds_no_findings_is_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "q.json").write_text(text)

    with pytest.raises(SourceError, match=r"q\.json"):
        load_quality(tmp_path / "q.json")


def test_the_gravest_finding_comes_first_and_counts() -> None:
    quality = Quality(ordered([NOTE, NULL, STOP, NULL]))

    assert quality.findings == (STOP, NULL, NOTE)
    assert quality.level == "stop"
    assert Quality().level is None
    assert quality.of("note", "quarantine") == (NULL, NOTE)
    assert quality.tags() == {
        "quality": "stop",
        "quality_findings": "price_unit stop, stock_null quarantine, units_outlier note",
    }
    assert Quality().tags() == {"quality": "fine", "quality_findings": "none"}


def test_the_file_lies_beside_the_panel_and_not_in_it(tmp_path: Path) -> None:
    assert quality_file(tmp_path / "panel") == tmp_path / "panel.quality.json"


def test_every_name_says_what_it_means_and_what_to_do() -> None:
    assert all(meaning and what for meaning, what in MEANINGS.values())
    assert LEVELS == ("note", "quarantine", "stop")


def test_a_finding_in_words_names_its_first_offenders_and_what_to_do() -> None:
    assert str(NULL) == "stock is missing on 9 of 9 rows. Look at where stock comes from"
    assert str(STOP) == "prices rose, first a; b."


def test_the_document_lists_every_finding_with_its_meaning_and_what_to_do() -> None:
    page = (Path(__file__).parents[2] / "docs" / "data_quality.md").read_text(encoding="utf-8")

    rows = {row.split("`")[1]: row for row in page.splitlines() if row.startswith("| `")}
    assert rows.keys() == MEANINGS.keys()
    assert [name for name, said in MEANINGS.items() if not all(words in rows[name] for words in said)] == []
