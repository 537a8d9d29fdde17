"""The doctor names what is wrong, says what to do, and shows no password."""

from pathlib import Path

import pytest

from pricing.runtime import doctor

PASSWORD = "hunter22"


@pytest.fixture(autouse=True)
def _healthy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRICING_HOME", str(tmp_path / "new" / "home"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    for name in ("PRICING_DATABASE_URL", "PRICING_CONFIG"):
        monkeypatch.delenv(name, raising=False)


def test_a_machine_with_all_that_is_needed_is_well_and_stays_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert doctor.main([]) == 0
    assert "problem" not in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("variable", "value", "named"),
    [
        ("PRICING_HOME", "{folder}/taken/home", "PRICING_HOME"),
        ("PRICING_CONFIG", "{folder}/absent.yaml", "configuration"),
        ("MLFLOW_TRACKING_URI", f"http://me:{PASSWORD}@127.0.0.1:9", "tracking store"),
        ("MLFLOW_TRACKING_URI", "sqlite:///{folder}/nowhere/mlflow.db", "tracking store"),
        ("PRICING_DATABASE_URL", f"postgresql://me:{PASSWORD}@127.0.0.1:9/shop", "PRICING_DATABASE_URL"),
        ("PRICING_DATABASE_URL", f"me:{PASSWORD}@host", "PRICING_DATABASE_URL"),
    ],
)
def test_what_is_wrong_is_named_without_its_password(
    variable: str,
    value: str,
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "taken").touch()
    monkeypatch.setenv(variable, value.format(folder=tmp_path))

    assert doctor.main([]) == 2

    said = capsys.readouterr().out
    assert f"problem  {named}" in said
    assert f"to mend: {named}" in said
    assert PASSWORD not in said
