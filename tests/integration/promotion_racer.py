"""One of several processes that move the champion at once. Run by test_promotion_race.py."""

import json
import random
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pricing.errors import RegistryError
from pricing.registry.audit import Audit
from pricing.registry.promotion import move
from tests.kit.promotions import FakeRegistry, asked

if TYPE_CHECKING:
    from pricing.registry.mlflow_registry import RegisteredVersion


class FolderRegistry(FakeRegistry):
    """Aliases as files, so that processes share them."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def aliases(self) -> dict[str, str]:
        return {path.name: path.read_text() for path in self.folder.iterdir() if not path.name.startswith(".")}

    def find(self, reference: str) -> "RegisteredVersion":
        self.pointed = self.aliases()
        return super().find(reference)

    def set_alias(self, alias: str, number: str) -> None:
        draft = self.folder / f".{random.random()}"
        draft.write_text(number)
        draft.replace(self.folder / alias)

    def remove_alias(self, alias: str) -> None:
        (self.folder / alias).unlink(missing_ok=True)


def main(url: str, folder: str, go: str, who: str, rounds: str) -> None:
    registry, audit = FolderRegistry(Path(folder)), Audit(url)
    while not Path(go).exists():
        time.sleep(0.001)
    outcomes = []
    for _ in range(int(rounds)):
        expected = registry.aliases().get("champion")
        to = random.choice([number for number in "123456789" if number != expected])
        try:
            move(registry, audit, asked(to, expected, who=who))
        except RegistryError as error:
            outcomes.append("lost" if "run it again" in str(error) else str(error))
        else:
            outcomes.append("done")
    sys.stdout.write(json.dumps(outcomes))


if __name__ == "__main__":
    main(*sys.argv[1:])
