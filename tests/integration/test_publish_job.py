"""Jobs that move the champion publish it at their end, say so where they cannot, and `pricing publish` mends it."""

import datetime as dt
from pathlib import Path

import pytest

from pipelines import history, promote, publish, rollback
from pricing.config import load_config
from pricing.decision.experiments import Arm, Experiment
from pricing.decision.switches import Switch
from pricing.errors import EXIT_NOT_PUBLISHED, PricingError
from pricing.objects import FolderStore
from pricing.registry.published import Pointer, control_key, parse_pointer, pointer_key
from tests.integration.test_promote import Shop, shop, whole
from tests.kit.control import put_control

__all__ = ["shop", "whole"]
NOW = dt.datetime(2024, 5, 1, tzinfo=dt.UTC)
FORCE = ["--force", "true", "--reason", "whatever the gates find"]
FREEZE = Switch(action="freeze", scope="product", name="tea", reason="wrong costs", by="ann", at=NOW)


def pointer(where: Path) -> Pointer:
    return parse_pointer(FolderStore(where).get(pointer_key("pricing")) or b"", model="pricing")


def test_a_promotion_that_cannot_be_published_exits_4_until_publish_mends_it(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    where = tmp_path / "published"
    monkeypatch.setenv("PRICING_PUBLISHED", str(where))
    where.write_text("a file in the way")
    first = shop.add()

    code = promote.main(FORCE)
    history.main([])
    said = capsys.readouterr()
    where.unlink()
    mended = publish.main([])

    assert (code, mended) == (EXIT_NOT_PUBLISHED, 0)
    assert shop.registry.aliases()["champion"] == first
    assert "not published" in said.out
    before = pointer(where)
    assert before.champion.number == first
    shop.add(seed=2)
    assert promote.main(FORCE) == rollback.main(FORCE) == 0
    after = pointer(where)
    assert after.champion == before.champion
    assert after.sequence > before.sequence


def test_publish_serves_what_was_moved_by_hand_the_versions_that_are_tried_and_the_control_table(
    shop: Shop, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    assert publish.main([]) == 0  # nothing to publish yet
    numbers = [shop.add(seed=seed, alias=None) for seed in (1, 2)]
    arms = (Arm("challenger", share=0.5, of=numbers[1]), Arm("rule", share=0.5))
    put_control(home, FREEZE, Experiment("spring", dt.date(2024, 4, 29), None, arms, {"tea": "rule"}))
    shop.registry.set_alias("champion", numbers[0])

    assert publish.main([]) == 0

    found = pointer(home / "published")
    assert [one.number for one in found.served] == numbers
    assert shop.entries()[-1].action == "by_hand"
    assert FolderStore(home / "published").get(control_key("pricing")) is not None


def test_a_control_table_that_is_away_keeps_no_champion_from_being_published(shop: Shop, tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "home" / "published")
    put_control(tmp_path / "home", FREEZE)
    assert publish.main([]) == 0
    mirror = store.get(control_key("pricing"))
    (tmp_path / "home" / "pricing.db").unlink()
    shop.registry.set_alias("champion", shop.add(alias=None))

    with pytest.raises(PricingError):
        publish.look(load_config())

    assert pointer(tmp_path / "home" / "published").champion.number == "1"
    assert store.get(control_key("pricing")) == mirror is not None
