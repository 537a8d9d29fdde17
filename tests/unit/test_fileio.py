"""Files that are replaced whole or not at all, and addresses without their passwords."""

from pathlib import Path

import pytest

from pricing.fileio import holds_password, redact_text, redact_url, replace_atomically, replace_text, with_driver


def test_where_writing_fails_the_old_content_stays_and_no_draft(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    replace_text(path, "old")

    def fail() -> None:
        with replace_atomically(path) as draft:
            draft.write_text("half of it")
            assert list(tmp_path.glob("*.txt")) == [path]
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="disk is full"):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("where", "shown"),
    [
        ("postgresql://me:secret@host:5432/db#sales", "postgresql://***@host:5432/db#sales"),
        ("http://host:5000", "http://host:5000"),
        ("s3://bucket/a@b.csv", "s3://bucket/a@b.csv"),
        ("s3://key:secret@bucket/a.csv", "s3://***@bucket/a.csv"),
        ("sqlite:////tmp/ml@flow.db", "sqlite:////tmp/ml@flow.db"),
        ("postgresql://me:se/c#r?e@t x@host/db", "postgresql://***@host/db"),
        ("a/b.csv", "a/b.csv"),
        ("postgresql://host/db?user=me&password=secret#sales", "postgresql://host/db?user=me&password=***#sales"),
        ("me:secret@host/db", "***@host/db"),
        ("postgresql//me:secret@host/db", "postgresql//***@host/db"),
        ("postgresql//me:sec/ret@host/db", "postgresql//***@host/db"),
        ("postgresql:/me:secret@host/db", "***@host/db"),
        ("sales//2024:1.csv", "sales//2024:1.csv"),
    ],
)
def test_no_address_shows_its_password(where: str, shown: str) -> None:
    assert redact_url(where) == shown
    assert "cret" not in redact_url(where)


@pytest.mark.parametrize("where", ["postgresql://me:secret@host/db", "postgresql//me:secret@host/db"])
def test_no_text_or_configuration_shows_the_password_of_an_address(where: str) -> None:
    assert redact_text(f"{where}: does not exist").endswith("//***@host/db: does not exist")
    assert holds_password(where)


@pytest.mark.parametrize(
    ("url", "opened"),
    [
        ("postgresql://me:p:%2F@host/db", "postgresql://me:p:%2F@host/db"),
        ("postgres://me:p:%2F@host/db#table", "postgresql://me:p:%2F@host/db#table"),
        ("mysql://host/db", "mysql+pymysql://host/db"),
        ("postgresql://me@srv:pw@host/db?application_name=a@b", "postgresql://me@srv:pw@host/db?application_name=a@b"),
        ("sqlite:////tmp/postgres.db", "sqlite:////tmp/postgres.db"),
    ],
)
def test_an_address_is_opened_with_the_driver_that_is_installed(url: str, opened: str) -> None:
    assert with_driver(url) == opened


@pytest.mark.parametrize("login", ["me:se@cret", "me:se/x@cret", "me:@cret"])
def test_a_password_that_would_be_shown_as_a_host_is_refused(login: str) -> None:
    with pytest.raises(ValueError, match="@"):
        with_driver(f"postgresql://{login}@host/db")
