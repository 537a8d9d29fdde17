"""The doctor names what is missing or wrong, says what to do, and shows no password."""

import sys
from pathlib import Path

import pytest

from pricing.config import DEFAULT_PATH
from pricing.errors import RegistryError
from pricing.runtime import doctor
from pricing.runtime.doctor import CheckResult


def lines(found: list[CheckResult]) -> tuple[int, str]:
    """The exit code of a report, and its text."""
    shown: list[str] = []
    code = doctor.report(found, show=shown.append)
    return code, "\n".join(shown)


def test_the_openmp_library_that_lightgbm_lacks_is_named_with_its_package() -> None:
    def absent(_: str) -> object:
        raise OSError("cannot open shared object file")

    found = doctor.openmp_finding(absent)

    assert (found.status, found.needed) == ("missing", True)
    assert "LightGBM" in found.text
    assert "install lib" in found.advice
    assert doctor.openmp_finding(lambda name: name).status == "ok"


def test_a_valid_configuration_gives_the_name_of_the_model() -> None:
    name, found = doctor.config_finding("small")

    assert (name, found.status) == ("pricing", "ok")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("demand: {hrizon: 3}", "the nearest known one is horizon"),
        ("demand: {horizon: soon}", "demand.horizon"),
        ("[", "is not valid YAML"),
        (None, "cannot be read"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_a_problem(tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "mine.yaml"
    if text is not None:
        path.write_text(text)

    name, found = doctor.config_finding(str(path))

    assert (name, found.status, found.needed) == (None, "problem", True)
    assert words in found.text
    assert f"{DEFAULT_PATH} explains every key" in found.advice  # in a wheel it is no config/default.yaml


def test_a_home_that_can_be_written_is_ok_and_nothing_is_left_in_it(tmp_path: Path) -> None:
    assert doctor.home_finding(tmp_path) == CheckResult("ok", f"PRICING_HOME {tmp_path}")
    assert doctor.home_finding(tmp_path / "new" / "home").text.endswith("(will be made)")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("below", ["", "home"])
def test_a_file_where_the_home_should_be_is_a_problem(tmp_path: Path, below: str) -> None:
    (tmp_path / "taken").touch()

    found = doctor.home_finding(tmp_path / "taken" / below)

    assert (found.status, found.needed) == ("problem", True)
    assert "cannot be written" in found.text
    assert "PRICING_HOME" in found.advice


@pytest.mark.skipif(sys.platform != "linux", reason="a folder that even root cannot write in is needed")
def test_a_home_that_cannot_be_written_is_a_problem() -> None:
    assert doctor.home_finding(Path("/proc/pricing")).status == "problem"


def test_a_local_tracking_store_that_is_not_there_yet_is_fine_and_is_not_made(tmp_path: Path) -> None:
    store = tmp_path / "mlflow.db"

    found = list(doctor.tracking_findings(f"sqlite:///{store}", model_name="pricing"))

    assert [each.status for each in found] == ["ok", "missing"]
    assert lines(found)[0] == 0
    assert not store.exists()


def test_a_local_tracking_store_without_its_folder_is_a_problem(tmp_path: Path) -> None:
    (found,) = doctor.tracking_findings(f"sqlite:///{tmp_path / 'nowhere' / 'mlflow.db'}", model_name="pricing")

    assert (found.status, found.needed) == ("problem", True)
    assert f"there is no folder {tmp_path / 'nowhere'}" in found.text


def test_a_registry_without_a_champion_is_no_fault_and_says_what_to_do() -> None:
    found = doctor.champion_finding(lambda: None, model_name="shop")

    assert (found.status, found.text, found.needed) == ("missing", "champion of shop", False)
    assert "promote" in found.advice


def test_a_champion_is_named() -> None:
    assert doctor.champion_finding(lambda: "7", model_name="shop") == CheckResult("ok", "champion of shop: version 7")


def test_a_registry_that_refuses_is_a_problem_without_its_password() -> None:
    def refuse() -> str | None:
        raise RegistryError("registry http://me:secret@host: 401 Unauthorized")

    code, text = lines([doctor.champion_finding(refuse, model_name="shop")])

    assert code == 2
    assert "401 Unauthorized" in text
    assert "secret" not in text


def test_a_registry_that_the_installed_part_of_mlflow_cannot_read_is_a_problem() -> None:
    def lack() -> str | None:
        raise ModuleNotFoundError("No module named 'alembic'", name="alembic")

    found = doctor.champion_finding(lack, model_name="shop")

    assert (found.status, found.needed) == ("problem", True)
    assert "without alembic" in found.text
    assert "training" in found.advice


def test_a_database_that_is_not_named_is_not_looked_for() -> None:
    assert list(doctor.database_findings(None, connect=pytest.fail)) == []


def test_a_database_that_answers_is_ok_without_its_password() -> None:
    code, text = lines(list(doctor.database_findings("postgresql://me:secret@h/x", connect=lambda _: None)))

    assert code == 0
    assert "ok       PRICING_DATABASE_URL postgresql://***@h/x" in text


def test_a_database_that_does_not_answer_is_a_problem_without_its_password() -> None:
    def refuse(url: str) -> None:
        raise RegistryError(f"{url}: the record of promotions cannot be opened: connection refused")

    code, text = lines(list(doctor.database_findings("postgresql://me:secret@h/x", connect=refuse)))

    assert code == 2
    assert "connection refused" in text
    assert "secret" not in text


@pytest.mark.parametrize("name", doctor.OPTIONAL_PROGRAMS)
def test_a_program_that_only_some_want_is_no_fault(name: str) -> None:
    commands, use = doctor.OPTIONAL_PROGRAMS[name]

    absent = doctor.program_finding(name, commands, use=use, which=lambda _: None)
    present = doctor.program_finding(name, commands, use=use, which={commands[-1]: "/usr/bin/it"}.get)

    assert (absent.status, absent.needed) == ("missing", False)
    assert present == CheckResult("ok", f"{name} /usr/bin/it")
