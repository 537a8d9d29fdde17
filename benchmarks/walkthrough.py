"""Records docs/walkthrough.md: a data scientist's first weeks, each command run for real, its output as it came.

`python -m benchmarks.walkthrough --keep DIR` also leaves the tracking store in DIR, for
`python -m benchmarks.walkthrough_images --store DIR` to take the pictures from.
"""

import argparse
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from simulation.config import MarketConfig
from simulation.market import simulate

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "walkthrough.md"
SHOP = "$SHOP"
PROJECT = ("main", "tune")
# Small enough to be recorded in minutes on two cores; the gates are the shipped ones.
SETTINGS = {
    "demand": {
        **{"folds": 2, "horizon": 14, "step": 14, "context": 84, "units": 16},
        **{"steps": 150, "demand_steps": 30, "price_steps": 30, "rounds": 1},
    },
    "tuning": {
        **{"startup": 2, "batch": 2},
        "space": {
            "learning_rate": {"low": 0.002, "high": 0.02, "log": True},
            "units": {"low": 8, "high": 24, "step": 8},
            **dict.fromkeys(("steps", "context", "recency_half_life")),
        },
    },
}
HASTY = {**SETTINGS, "demand": {**SETTINGS["demand"], "steps": 2}}
PROGRESS = re.compile(r"\bstep \d+/\d+, loss|, gap |^\[ *[\d.]+ s\] (round|\d+ periods of price)")
HEAD = """# Walkthrough: from a first experiment to history

Recorded by `python -m benchmarks.walkthrough`: the commands below were run one after another, and what they said stands
as it came, standard error included. Left out are lines that count training steps. `$SHOP` stands for the folder that it
worked in: MLFLOW_TRACKING_URI, PRICING_HOME and the sales lie there, PRICING_ACTOR is `ann`, and
MLFLOW_LOGGING_LEVEL=WARNING hides what `mlflow run` says of itself; `.venv/bin` is on PATH. The long jobs are
called as `make train` and `make tune` call them, the short ones as `pricing JOB`: `mlflow run` ends with 1 whatever a
job's exit code was.

The sales are 24 products of the simulated market over 400 days. `settings.yaml` makes everything small enough for a few
minutes on two cores; `hasty.yaml` is the same with `steps: 2`. The gates are the shipped ones.

```yaml
{settings}
```"""
TAIL = """
## The same in MLflow's UI

`mlflow ui --backend-store-uri sqlite:///$SHOP/mlflow.db`; taken by `python -m benchmarks.walkthrough_images`.

Every run with its reason and what came of it; the trials of the search and its final training are its children:

![The experiment's runs](images/mlflow-runs.png)

A training run: its note, its scores, and the version that came of it:

![A training run](images/mlflow-run.png)

The first training, the one that the search ended with, and the hasty one, side by side:

![Three runs compared](images/mlflow-compare.png)

The registered model, its versions and aliases:

![The registered model](images/mlflow-registry.png)
"""


@dataclass(frozen=True)
class Step:
    """One command of the walkthrough.

    Attributes:
        heading: A section that begins here; empty to go on in the last one.
        words: What a reader is told before it.
        entry: The entry point of MLproject.
        parameters: Its parameters.
        code: The exit code that it must end with.
    """

    heading: str
    words: str
    entry: str
    parameters: dict[str, str]
    code: int = 0

    @property
    def shown(self) -> str:
        """The command as a person would type it."""
        project = self.entry in PROJECT
        given = [
            word
            for name, value in self.parameters.items()
            for word in (("-P", f"{name}={value}") if project else (f"--{name}", value))
        ]
        quoted = [shlex.quote(word) if " " in word else word for word in given]
        command = f"mlflow run . --env-manager local -e {self.entry}" if project else f"pricing {self.entry}"
        return " ".join([command, *quoted])


def steps() -> list[Step]:
    """The story."""
    sales, config = {"sales": f"{SHOP}/sales.csv"}, {"config": f"{SHOP}/settings.yaml"}
    return [
        Step(
            "Sales in",
            "Are the sales sound? `etl` checks every row and says what it found.",
            *("etl", {**sales, **config, "output": f"{SHOP}/panel"}),
        ),
        Step(
            "The first experiment",
            "Walk-forward scores, a model on everything, a version in the registry.",
            *("main", {**sales, **config, "reason": "first look"}),
        ),
        Step(
            "Its promotion",
            "There is no champion yet, so it has to beat the baselines only.",
            *("promote", {**config, "reason": "first model"}),
        ),
        Step(
            "Tuning",
            "Four trials, two at a time. The newest fold is kept out of the search and decides at its end.",
            *("tune", {**sales, **config, "trials": "4", "workers": "2", "reason": "is there more in it?"}),
        ),
        Step(
            "",
            "What came of it is the challenger now, and meets the champion on the same folds of the same sales.",
            *("promote", {**config, "reason": "tuned"}),
        ),
        Step(
            "A refused promotion",
            "Somebody trains in a hurry: two steps instead of 150.",
            *("main", {**sales, "config": f"{SHOP}/hasty.yaml", "reason": "in a hurry"}),
        ),
        Step(
            "",
            "The gates refuse it; exit code 3 is for CI. The champion stays.",
            *("promote", {**config, "reason": "in a hurry"}, 3),
        ),
        Step(
            "Forced, with a reason",
            "Without a reason nothing is forced.",
            *("promote", {**config, "force": "true"}, 2),
        ),
        Step(
            "",
            "With one it is, and the record keeps it.",
            *("promote", {**config, "force": "true", "reason": "stand-in until the weekend"}),
        ),
        Step(
            "Back again",
            "One command goes back to the last champion with other weights.",
            *("rollback", {**config, "reason": "prices jump about"}),
        ),
        Step(
            "New days",
            "Two weeks later the same weights read the new days. They face parity, freshness and known products only.",
            *("refresh", {**config, "sales": f"{SHOP}/new.csv"}),
        ),
        Step("", "", "promote", {**config, "reason": "newer states"}),
        Step(
            "What was in production when", "With `--all` also what was refused.", "history", {**config, "all": "true"}
        ),
    ]


def prepare(shop: Path) -> None:
    """Writes the sales of a simulated market, its last two weeks apart, and the settings."""
    frame = simulate(MarketConfig(products=24, days=414, seed=11)).frame()
    days = sorted(frame["date"].unique())
    frame[frame["date"] <= days[399]].to_csv(shop / "sales.csv", index=False)
    frame[frame["date"] > days[399]].to_csv(shop / "new.csv", index=False)
    (shop / "settings.yaml").write_text(yaml.safe_dump(SETTINGS, sort_keys=False))
    (shop / "hasty.yaml").write_text(yaml.safe_dump(HASTY, sort_keys=False))


def environment(shop: Path) -> dict[str, str]:
    """A store of its own, and a name that is nobody's."""
    foreign = (
        *("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "PRICING_PARENT_RUN_ID", "PRICING_DATABASE_URL"),
        "TF_CPP_MIN_LOG_LEVEL",  # the jobs' own keeps TensorFlow's words on missing GPUs from the page
    )
    kept = {name: value for name, value in os.environ.items() if name not in foreign}
    return {
        **kept,
        "MLFLOW_TRACKING_URI": f"sqlite:///{shop / 'mlflow.db'}",
        "MLFLOW_EXPERIMENT_NAME": "pricing",
        "MLFLOW_LOGGING_LEVEL": "WARNING",
        "PRICING_HOME": str(shop / "home"),
        "PRICING_ACTOR": "ann",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }


def record(step: Step, shop: Path) -> Iterator[str]:
    """Runs a step and yields the lines of its part of the page.

    Raises:
        SystemExit: It ended with another exit code than the story says.
    """
    words = [value.replace(SHOP, str(shop)) for value in shlex.split(step.shown)]
    done = subprocess.run(
        words, cwd=ROOT, env=environment(shop), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode != step.code:
        raise SystemExit(f"{step.shown} ended with {done.returncode}, not {step.code}:\n{done.stdout}")
    if step.heading:
        yield from ("", f"## {step.heading}")
    if step.words:
        yield from ("", step.words)
    yield from ("", "```console", f"$ {step.shown}")
    yield from (
        line.rstrip() for line in done.stdout.replace(str(shop), SHOP).splitlines() if not PROGRESS.search(line)
    )
    if step.code:
        yield from ("$ echo $?", str(step.code))
    yield "```"


def main() -> None:
    """Runs every step and writes the page, or stops at the first that goes otherwise than told."""
    parser = argparse.ArgumentParser("python -m benchmarks.walkthrough", description=__doc__)
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="work here and leave everything; absent: a temporary folder"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="shop-") as scratch:
        shop = (options.keep or Path(scratch)).resolve()
        shop.mkdir(parents=True, exist_ok=True)
        prepare(shop)
        lines = [HEAD.format(settings=yaml.safe_dump(SETTINGS, sort_keys=False).strip())]
        for step in steps():
            print(step.shown, flush=True)
            lines += record(step, shop)
    PAGE.write_text("\n".join([*lines, TAIL]), encoding="utf-8")
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
