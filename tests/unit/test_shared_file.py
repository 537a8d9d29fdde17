"""Experiments that tasks share: nobody's change is lost, files follow, and stay while the database is away."""

import datetime as dt
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from pricing.decision.experiments import (
    NO_EXPERIMENTS,
    Arm,
    Experiment,
    Experiments,
    experiments_file,
    read_experiments,
    write_experiments,
)
from pricing.errors import RegistryError
from pricing.registry.documents import Document, DocumentChangedError, SharedDocuments
from pricing.runtime.shared_file import SharedFile, shared_experiments
from serving.absence import REMIND_SECONDS
from serving.database_watch import ExperimentWatch

NOW = dt.datetime(2026, 3, 2, 3, tzinfo=dt.UTC)
AWAY = "postgresql://ann:hush@127.0.0.1:1/pricing"


@pytest.fixture
def documents(tmp_path: Path) -> SharedDocuments:
    return SharedDocuments(f"sqlite:///{tmp_path / 'db' / 'pricing.db'}", model="shop")


class Away(SharedDocuments):
    """A database that can be switched off."""

    away = False

    def stamps(self) -> dict[str, str]:
        if self.away:
            raise RegistryError("shared documents: connection refused")
        return super().stamps()


def file_in(folder: Path, documents: SharedDocuments | None) -> SharedFile:
    return SharedFile(experiments_file(folder), documents, who="ann")


def keeps(product: str) -> Callable[[Experiments], Experiments]:
    """An edit that adds an experiment of one product, which it is named after."""
    one = Experiment(product, dt.date(2026, 3, 2), None, (Arm("keep", share=0.1),), {product: "keep"})
    return lambda known: known.plus(one)


def kept(folder: Path) -> list[str]:
    return [one.name for one in read_experiments(experiments_file(folder)).every]


def test_a_document_is_written_over_what_was_read_only(documents: SharedDocuments) -> None:
    first = documents.replace("plan", "a", expected=0, who="ann")
    second = documents.replace("plan", "b", expected=first.version, who="bob")

    for expected in (first.version, 0):
        with pytest.raises(DocumentChangedError, match="plan was changed by another process"):
            documents.replace("plan", "c", expected=expected, who="ann")

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

    assert (documents.read("plan"), other.read("plan")) == (Document(1, "a"), Document(1, "b"))


def test_a_database_that_is_away_is_one_clear_error_without_the_password() -> None:
    with pytest.raises(RegistryError, match="PRICING_DATABASE_URL") as found:
        SharedDocuments(AWAY, model="shop").stamps()

    assert "hush" not in str(found.value)
    assert len(str(found.value).splitlines()) == 1


def test_an_edit_of_one_task_reaches_the_file_of_another(documents: SharedDocuments, tmp_path: Path) -> None:
    one, path = file_in(tmp_path / "one", documents), experiments_file(tmp_path / "other")
    watch = ExperimentWatch(file_in(tmp_path / "other", documents))
    watch.look()
    before = path.exists()

    one.edit(keeps("tea"))
    watch.look()
    mark = path.stat().st_mtime_ns
    watch.look()

    assert not before
    assert kept(tmp_path / "other") == kept(tmp_path / "one") == ["tea"]
    assert path.stat().st_mtime_ns == mark  # what has not changed is not written again


def test_an_edit_after_the_database_was_restored_reaches_a_task_that_saw_the_lost_one(
    documents: SharedDocuments, tmp_path: Path
) -> None:
    one, other = file_in(tmp_path / "one", documents), file_in(tmp_path / "other", documents)
    database = tmp_path / "db" / "pricing.db"
    one.edit(keeps("tea"))
    copy = database.read_bytes()
    one.edit(keeps("jam"))
    other.mirror()
    before = kept(tmp_path / "other")

    database.write_bytes(copy)
    one.edit(keeps("rye"))
    other.mirror()

    assert before == ["tea", "jam"]
    assert kept(tmp_path / "other") == ["tea", "rye"]  # the document's second version, as the lost one was


def test_a_change_that_another_task_overtakes_is_made_anew_and_loses_nothing(
    documents: SharedDocuments, tmp_path: Path
) -> None:
    one, other = file_in(tmp_path / "one", documents), file_in(tmp_path / "other", documents)
    overtaken: list[int] = []

    def slowly(known: Experiments) -> Experiments:
        if not overtaken:
            overtaken.append(1)
            other.edit(keeps("jam"))
        return keeps("tea")(known)

    one.edit(slowly)

    assert kept(tmp_path / "one") == ["jam", "tea"]
    assert documents.read("experiments.json").version == 2  # type: ignore[union-attr]


def test_a_document_that_never_stands_still_is_given_up(documents: SharedDocuments, tmp_path: Path) -> None:
    one, other = file_in(tmp_path / "one", documents), file_in(tmp_path / "other", documents)
    turns = iter(range(100))

    def overtaken(known: Experiments) -> Experiments:
        other.edit(keeps(f"jam-{next(turns)}"))
        return keeps("tea")(known)

    with pytest.raises(DocumentChangedError, match="run it again"):
        one.edit(overtaken)

    assert kept(tmp_path / "one") == []


def test_without_the_database_an_edit_changes_nothing_and_a_job_reads_what_lies_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_experiments(experiments_file(tmp_path), keeps("jam")(NO_EXPERIMENTS))
    file = file_in(tmp_path, SharedDocuments(AWAY, model="shop"))

    with pytest.raises(RegistryError):
        file.edit(keeps("tea"))

    assert not file.refresh()
    assert kept(tmp_path) == ["jam"]
    assert "is taken to be in force" in caplog.text


def test_what_was_known_last_stays_while_the_database_is_away_and_is_made_good_after(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"sqlite:///{tmp_path / 'pricing.db'}"
    away, there = Away(url, model="shop"), file_in(tmp_path / "one", SharedDocuments(url, model="shop"))
    clock = [NOW.timestamp()]
    watch = ExperimentWatch(file_in(tmp_path / "other", away), now=lambda: clock[0])
    there.edit(keeps("tea"))
    watch.look()

    away.away = True
    there.edit(keeps("jam"))
    with caplog.at_level(logging.WARNING, "serving"):
        for seconds in (0, 2, REMIND_SECONDS):
            clock[0] = NOW.timestamp() + seconds
            watch.look()
        meanwhile = kept(tmp_path / "other")
        away.away = False
        watch.look()

    assert (meanwhile, kept(tmp_path / "other")) == (["tea"], ["tea", "jam"])
    said = [record.getMessage() for record in caplog.records]
    assert sum("refused" in line and "stay in force" in line for line in said) == 2
    assert sum("answers again" in line for line in said) == 1


def test_a_file_that_cannot_be_written_is_said_and_written_later(
    documents: SharedDocuments, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file_in(tmp_path / "one", documents).edit(keeps("tea"))
    watch = ExperimentWatch(file_in(tmp_path / "other", documents))
    (tmp_path / "other").write_text("in the way")

    watch.look()
    (tmp_path / "other").unlink()
    watch.look()

    assert "stay in force" in caplog.text
    assert kept(tmp_path / "other") == ["tea"]


@pytest.mark.parametrize("shared", [False, True])
def test_jobs_share_by_their_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: bool) -> None:
    monkeypatch.setenv("PRICING_DATABASE_URL", f"sqlite:///{tmp_path / 'pricing.db'}" if shared else "")
    for name in ("one", "other"):
        monkeypatch.setenv("PRICING_HOME", str(tmp_path / name))
        shared_experiments("shop").edit(keeps(name))

    assert kept(tmp_path / "other") == (["one", "other"] if shared else ["other"])
