"""Make what docker-compose.yml needs and git does not keep: passwords and keys.

`make up` runs it with any Python 3.11 or later; it needs no package. Secrets that are there stay as they are. They are
readable by all inside a folder that only its owner can open: a container's user, whose id is not the owner's, gets each
file by itself.
"""

import configparser
import io
import json
import os
import re
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path

VARIABLE = "PRICING_COMPOSE"
ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".compose"
# Accounts of the object store: name, file of the secret, what it may do. What answers requests reads what is published
# and writes decisions; of SeaweedFS' rights, the one to write is also that to delete what one can name.
OBJECT_ACCOUNTS = (
    ("pricing", "objects", ("Admin", "Read", "Write", "List", "Tagging")),
    ("serving", "objects-serving", ("Read:pricing/published/*", "Write:pricing/decisions/*")),
)


def folder_of(environment: Mapping[str, str], *, settings: Path) -> Path:
    """Where the files lie: PRICING_COMPOSE of the environment, else of `.env`, as docker compose finds it, or .compose.

    Args:
        environment: The variables.
        settings: The file `.env`; it may be missing.
    """
    named = environment.get(VARIABLE)
    if named is None and settings.is_file():
        line = re.compile(rf"\s*(?:export\s+)?{VARIABLE}\s*=\s*(?:\"(.*)\"|'(.*)'|(.*?))\s*(?:\s#.*)?")
        found = [match for text in settings.read_text(encoding="utf-8").splitlines() if (match := line.fullmatch(text))]
        named = next((group for group in found[-1].groups() if group), None) if found else None
    return ROOT / named if named else FOLDER


def write_secrets(folder: Path) -> list[Path]:
    """Makes what is missing in `folder/secrets`, and returns it.

    Files that hold the same secret are made of one another, and so are never at odds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    folder = folder / "secrets"
    made: list[Path] = []

    def secret(name: str) -> str:
        path = folder / name
        if not path.exists():
            _write(path, secrets.token_hex(24))
            made.append(path)
        return path.read_text(encoding="utf-8").strip()

    for role in ("mlflow", "pricing"):
        _write(folder / f"postgres-{role}.conf", _ini(role, {"password": secret(f"postgres-{role}")}))
    secret("postgres")
    login = {"mlflow_tracking_username": "admin", "mlflow_tracking_password": secret("mlflow-admin")}
    _write(folder / "mlflow-admin.ini", _ini("mlflow", login))
    identities = []
    for name, file, actions in OBJECT_ACCOUNTS:
        key = {"accessKey": name, "secretKey": secret(file)}
        identities.append({"name": name, "credentials": [key], "actions": list(actions)})
        login = {"aws_access_key_id": key["accessKey"], "aws_secret_access_key": key["secretKey"]}
        _write(folder / f"{file}.ini", _ini("default", login))
    _write(folder / "objects.json", json.dumps({"identities": identities}, indent=1))
    keys = {"shop": "price,explain", "operator": "price,explain,admin", "prometheus": "admin"}
    lines = [f"{name} {secret(f'key-{name}')} {scopes}" for name, scopes in keys.items()]
    _write(folder / "api-keys", "\n".join(lines))
    secret("grafana")
    return made


def _ini(section: str, values: Mapping[str, str]) -> str:
    configuration = configparser.RawConfigParser()
    configuration[section] = values
    text = io.StringIO()
    configuration.write(text, space_around_delimiters=False)  # libpq reads no spaces there
    return text.getvalue()


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.rstrip("\n") + "\n", encoding="utf-8")
    path.chmod(0o644)


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else folder_of(os.environ, settings=ROOT / ".env")
    new = write_secrets(target)
    print(f"passwords and keys: {target / 'secrets'}, made now: {', '.join(path.name for path in new) or 'none'}")
