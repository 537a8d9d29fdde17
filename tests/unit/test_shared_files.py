"""Documents that tasks share: nobody's write is lost, files follow them, and stay while the database is away."""

import datetime as dt
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from pricing.decision.assignment import Holdout, holdout_file, read_held, read_holdout, write_holdout
from pricing.runtime.shared_files import SharedFiles, job_files
from serving.shared_files_watch import SharedFilesWatch

from pipelines.price_log import read_assignment
from pricing.config_models import StrategyTestConfig
from pricing.decision import strategy_tests
from pricing.errors import RegistryError
from pricing.registry.documents import Document, DocumentChangedError, SharedDocuments
from pricing.runtime.shared_state import given_database_url
from serving.absence import REMIND_SECONDS
from serving.follower import verify_version
from tests.kit.serving import settings_in
from tests.kit.versions import loaded_version, shared_version

STRATEGY_TEST = StrategyTestConfig(name="spring", share=0.5, strategies=["margin", "clearance"])
NOW = dt.datetime(2026, 3, 2, 3, tzinfo=dt.UTC)


@pytest.fixture
def documents(tmp_path: Path) -> SharedDocuments:
    return SharedDocuments(f"sqlite:///{tmp_path / 'db' / 'pricing.db'}", model="shop")


class Away(SharedDocuments):
    """A database that can be switched off."""

    def __init__(self, url: str, *, model: str) -> None:
        super().__init__(url, model=model)
        self.away = False

    def stamps(self) -> dict[str, str]:
        self._check()
        return super().stamps()

    def read(self, name: str) -> Document | None:
        self._check()
        return super().read(name)

    def _check(self) -> None:
        if self.away:
            raise RegistryError("shared documents: connection refused")


def files_in(folder: Path, documents: SharedDocuments | None) -> SharedFiles:
    return SharedFiles(folder, documents, who="ann")


def held(*products: str) -> Callable[[Path], None]:
    """An edit that adds products to the holdout."""

    def change(file: Path) -> None:
        before = read_held(file)
        write_holdout(file, Holdout(before | set(products), frozenset()))

    return change


def test_a_document_is_written_over_what_was_read_only(documents: SharedDocuments) -> None:
    first = documents.replace("plan", "a", expected=0, who="ann")
    second = documents.replace("plan", "b", expected=first.version, who="bob")

    with pytest.raises(DocumentChangedError, match="plan was changed by another process"):
        documents.replace("plan", "c", expected=first.version, who="ann")
    with pytest.raises(DocumentChangedError):
        documents.replace("plan", "c", expected=0, who="ann")

    assert (first.version, second.version) == (1, 2)
    assert documents.read("plan") == Document(2, "b")
    assert list(documents.stamps()) == ["plan"]


def test_before_anybody_wrote_there_is_nothing_and_reading_makes_nothing(
    documents: SharedDocuments, tmp_path: Path
) -> None:
    assert (documents.read("plan"), documents.stamps()) == (None, {})
    assert not (tmp_path / "db").exists()


def test_shops_that_share_a_database_share_no_document(documents: SharedDocuments, tmp_path: Path) -> None:
    other = SharedDocuments(f"sqlite:///{tmp_path / 'db' / 'pricing.db'}", model="other")

    documents.replace("plan", "a", expected=0, who="ann")
    other.replace("plan", "b", expected=0, who="ann")

    assert documents.read("plan") == Document(1, "a")
    assert other.read("plan") == Document(1, "b")


def test_a_database_that_is_away_is_one_clear_error_without_the_password() -> None:
    documents = SharedDocuments("postgresql://ann:hush@127.0.0.1:1/pricing", model="shop")

    with pytest.raises(RegistryError, match="PRICING_DATABASE_URL") as found:
        documents.stamps()

    assert "hush" not in str(found.value)
    assert len(str(found.value).splitlines()) == 1


def test_an_edit_of_one_task_reaches_the_files_of_another(documents: SharedDocuments, tmp_path: Path) -> None:
    one, other = files_in(tmp_path / "one", documents), files_in(tmp_path / "other", documents)
    path = holdout_file(tmp_path / "other")
    watch = SharedFilesWatch(other, [path])
    watch.look()
    before = path.exists()

    one.edit(holdout_file(tmp_path / "one"), held("tea"))
    watch.look()
    mark = path.stat().st_mtime_ns
    watch.look()

    assert not before
    assert read_held(path) == read_held(holdout_file(tmp_path / "one")) == {"tea"}
    assert path.stat().st_mtime_ns == mark  # what has not changed is not written again


def test_an_edit_after_the_database_was_restored_reaches_a_task_that_saw_the_lost_one(
    documents: SharedDocuments, tmp_path: Path
) -> None:
    one, other = files_in(tmp_path / "one", documents), files_in(tmp_path / "other", documents)
    path, database = holdout_file(tmp_path / "other"), tmp_path / "db" / "pricing.db"
    one.edit(holdout_file(tmp_path / "one"), held("tea"))
    copy = database.read_bytes()
    one.edit(holdout_file(tmp_path / "one"), held("jam"))
    other.mirror(path)
    before = read_held(path)

    database.write_bytes(copy)
    one.edit(holdout_file(tmp_path / "one"), held("rye"))
    other.mirror(path)

    assert before == {"tea", "jam"}
    assert read_held(path) == {"tea", "rye"}  # the document's second version, as the lost one was


def test_a_change_that_another_task_overtakes_is_made_anew_and_loses_nothing(
    documents: SharedDocuments, tmp_path: Path
) -> None:
    one, other = files_in(tmp_path / "one", documents), files_in(tmp_path / "other", documents)
    overtaken: list[int] = []

    def slowly(file: Path) -> None:
        held("tea")(file)
        if not overtaken:
            overtaken.append(1)
            other.edit(holdout_file(tmp_path / "other"), held("jam"))

    one.edit(holdout_file(tmp_path / "one"), slowly)

    assert read_held(holdout_file(tmp_path / "one")) == {"tea", "jam"}
    assert (found := documents.read("monitoring/holdout.json")) is not None
    assert found.version == 2


def test_a_document_that_never_stands_still_is_given_up(documents: SharedDocuments, tmp_path: Path) -> None:
    one, other = files_in(tmp_path / "one", documents), files_in(tmp_path / "other", documents)
    turns = iter(range(100))

    def overtaken(file: Path) -> None:
        held("tea")(file)
        other.edit(holdout_file(tmp_path / "other"), held(f"jam {next(turns)}"))

    with pytest.raises(DocumentChangedError, match="run it again"):
        one.edit(holdout_file(tmp_path / "one"), overtaken)

    assert not holdout_file(tmp_path / "one").exists()


def test_an_edit_without_the_database_changes_nothing(tmp_path: Path) -> None:
    path = holdout_file(tmp_path)
    write_holdout(path, Holdout(frozenset({"jam"}), frozenset()))
    files = files_in(tmp_path, SharedDocuments("postgresql://ann:hush@127.0.0.1:1/pricing", model="shop"))

    with pytest.raises(RegistryError):
        files.edit(path, held("tea"))

    assert read_held(path) == {"jam"}


def test_what_was_known_last_stays_while_the_database_is_away_and_is_made_good_after(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    away = Away(f"sqlite:///{tmp_path / 'pricing.db'}", model="shop")
    there = files_in(tmp_path / "one", SharedDocuments(f"sqlite:///{tmp_path / 'pricing.db'}", model="shop"))
    path, clock = holdout_file(tmp_path / "other"), [NOW.timestamp()]
    watch = SharedFilesWatch(files_in(tmp_path / "other", away), [path], now=lambda: clock[0])
    there.edit(holdout_file(tmp_path / "one"), held("tea"))
    watch.look()

    away.away = True
    there.edit(holdout_file(tmp_path / "one"), held("jam"))
    with caplog.at_level(logging.WARNING, "serving"):
        for seconds in (0, 2, REMIND_SECONDS):
            clock[0] = NOW.timestamp() + seconds
            watch.look()
        meanwhile = read_held(path)
        away.away = False
        watch.look()

    assert meanwhile == {"tea"}
    assert read_held(path) == {"tea", "jam"}
    said = [record.getMessage() for record in caplog.records]
    assert [line.rpartition("; ")[2] for line in said if "refused" in line] == ["the files stay as they are"] * 2
    assert sum("answers again" in line for line in said) == 1


def test_a_file_that_cannot_be_written_is_said_and_written_later(
    documents: SharedDocuments, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files_in(tmp_path / "one", documents).edit(holdout_file(tmp_path / "one"), held("tea"))
    path = holdout_file(tmp_path / "other")
    watch = SharedFilesWatch(files_in(tmp_path / "other", documents), [path])
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "monitoring").write_text("in the way")

    watch.look()
    (tmp_path / "other" / "monitoring").unlink()
    watch.look()

    assert "the files stay as they are" in caplog.text
    assert read_held(path) == {"tea"}


def test_a_job_reads_what_is_shared_and_shares_what_it_has_from_before(
    documents: SharedDocuments, tmp_path: Path
) -> None:
    old, fresh = (holdout_file(tmp_path / name) for name in ("old", "fresh"))
    write_holdout(old, Holdout(frozenset({"tea"}), frozenset({"jam"})))

    files_in(tmp_path / "old", documents).refresh(old)
    write_holdout(fresh, Holdout(frozenset({"rye"}), frozenset()))  # of another machine, and later
    files_in(tmp_path / "fresh", documents).refresh(fresh)

    assert read_holdout(fresh) == Holdout(frozenset({"tea"}), frozenset({"jam"}))
    assert (found := documents.read("monitoring/holdout.json")) is not None
    assert found.version == 1


def test_a_damaged_file_is_shared_with_nobody(documents: SharedDocuments, tmp_path: Path) -> None:
    path = holdout_file(tmp_path)
    path.parent.mkdir()
    path.write_bytes(b"{half \xff\x00")

    files_in(tmp_path, documents).refresh(path)

    assert documents.stamps() == {}


def test_a_job_whose_database_is_away_goes_on_with_what_lies_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = holdout_file(tmp_path)
    write_holdout(path, Holdout(frozenset({"tea"}), frozenset()))

    files_in(tmp_path, SharedDocuments("postgresql://127.0.0.1:1/pricing", model="shop")).refresh(path)

    assert read_held(path) == {"tea"}
    assert "is taken to be in force" in caplog.text


def test_without_a_database_files_are_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PRICING_DATABASE_URL", raising=False)
    monkeypatch.setenv("PRICING_HOME", str(tmp_path))
    files, path = job_files("shop"), holdout_file(tmp_path)

    files.edit(path, held("tea"))
    files.refresh(path)

    assert given_database_url() is None
    assert (files.shared, files.mirror(path), read_held(path)) == (False, [], {"tea"})
    assert [each.name for each in tmp_path.rglob("*") if each.is_file()] == ["holdout.json"]


def test_a_job_shares_by_its_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRICING_DATABASE_URL", f"sqlite:///{tmp_path / 'pricing.db'}")
    for name in ("one", "other"):
        monkeypatch.setenv("PRICING_HOME", str(tmp_path / name))
        job_files("shop").edit(holdout_file(tmp_path / name), held(name))

    assert read_held(holdout_file(tmp_path / "other")) == {"one", "other"}


def trial(folder: Path, url: str) -> dict[str, str]:
    folder.mkdir(parents=True, exist_ok=True)
    config = {"serving": {"strategy_test": STRATEGY_TEST.model_dump(mode="json")}}
    (folder / "shop.yaml").write_text(json.dumps(config))
    return {"PRICING_CONFIG": str(folder / "shop.yaml"), "PRICING_DATABASE_URL": url}


def test_the_next_task_assigns_as_the_first_one_did(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'pricing.db'}"
    arms = []
    for name in ("one", "other"):
        settings = settings_in(tmp_path / name, **trial(tmp_path / name, url))
        path = settings.strategy_test_file
        if name == "one":  # whose products were dealt long ago, otherwise than they would be now
            other_arm = {"P00001": "clearance", "P00002": "clearance", "gone": "margin"}
            path.parent.mkdir(parents=True)
            path.write_text(json.dumps({"strategy_test": STRATEGY_TEST.model_dump(mode="json"), "products": other_arm}))
        assert settings.shared_url == url
        files = SharedFiles(settings.home, SharedDocuments(url, model="pricing"), who="task")
        verify_version(shared_version(), settings=settings, shared=lambda files=files: files)
        arms.append(strategy_tests.read(path, STRATEGY_TEST))

    assert arms[0] == arms[1]
    assert len(arms[1]) == 13
    assert arms[1]["P00001"] == arms[1]["P00002"] == "clearance"


def test_whom_a_task_dealt_while_the_database_was_away_keeps_its_place_and_is_shared_later(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'pricing.db'}"
    settings = settings_in(tmp_path / "one", **trial(tmp_path / "one", url))
    away = Away(url, model="pricing")
    files, path = SharedFiles(settings.home, away, who="task"), settings.strategy_test_file
    facts = loaded_version().facts
    few = {"P00001": "clearance"}
    text = json.dumps({"strategy_test": STRATEGY_TEST.model_dump(mode="json"), "products": few})
    SharedDocuments(url, model="pricing").replace("trials/spring.json", text, expected=0, who="another")
    files.mirror(path)

    away.away = True
    assert verify_version(shared_version(), settings=settings, shared=lambda files=files: files) > 0
    alone = strategy_tests.read(path, STRATEGY_TEST)
    away.away = False
    files.mirror(path)
    kept = strategy_tests.read(path, STRATEGY_TEST)
    verify_version(shared_version(), settings=settings, shared=lambda files=files: files)
    shared = away.read("trials/spring.json")

    assert alone["P00001"] == "clearance"
    assert len(alone) == len(facts.product_ids)
    assert alone == kept
    assert shared is not None
    assert json.loads(shared.content)["products"] == alone


def test_a_job_that_prices_files_needs_the_database_only_for_products_that_are_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRICING_HOME", str(tmp_path))
    away, version = Away(f"sqlite:///{tmp_path / 'pricing.db'}", model="pricing"), loaded_version()
    columns = ("product_ids", "categories", "typical_units")
    few = replace(version.facts, **{name: getattr(version.facts, name)[:-1] for name in columns})
    read = partial(
        read_assignment, STRATEGY_TEST, pricer=version.pricer(version="1"), keep=True, files=files_in(tmp_path, away)
    )
    dealt = read(facts=few).arms

    away.away = True
    again = read(facts=few).arms
    with pytest.raises(RegistryError, match="refused"):
        read(facts=version.facts)

    assert again == dealt
    assert len(dealt) == len(few.product_ids)


def test_products_of_a_draft_count_before_those_of_a_task(tmp_path: Path) -> None:
    facts = loaded_version().facts
    draft, local = tmp_path / "draft.json", tmp_path / "local.json"
    for path, products in ((draft, {"P00001": "margin"}), (local, {"P00001": "clearance", "P00002": "clearance"})):
        path.write_text(json.dumps({"strategy_test": STRATEGY_TEST.model_dump(mode="json"), "products": products}))

    dealt = partial(strategy_tests.extend, local=local)(draft, facts, STRATEGY_TEST)

    assert (dealt["P00001"], dealt["P00002"]) == ("margin", "clearance")
