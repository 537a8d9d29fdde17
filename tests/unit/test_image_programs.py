"""What slims an image's packages."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


def program(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "requirements" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_slimming_leaves_modules_and_the_services_that_are_called(tmp_path: Path) -> None:
    slim = program("slim")
    kept = [*(f"botocore/data/{name}/service.json" for name in slim.SERVICES), "botocore/data/endpoints.json"]
    kept += ["botocore/client.py", "numpy/linalg.py", "flask/tests/helpers.py"]
    gone = ["botocore/data/ec2/service.json", "numpy/_core/tests/test_one.py"]
    for name in (*kept, *gone):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("12")

    removed = slim.slim(tmp_path)

    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()) == sorted(kept)
    assert removed == 2 * len(gone)


def test_slimming_fails_where_a_service_that_is_called_is_not_found(tmp_path: Path) -> None:
    (tmp_path / "botocore" / "data" / "sts").mkdir(parents=True)

    with pytest.raises(FileNotFoundError, match="'s3'"):
        program("slim").slim(tmp_path)
