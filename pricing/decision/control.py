"""The switches and experiments that persons have set over the model, as one document that every program reads."""

import json
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from pricing.decision.experiments import NO_EXPERIMENTS, Experiment, Experiments
from pricing.decision.request import Money
from pricing.decision.switches import NO_SWITCHES, Switch, Switches
from pricing.errors import ConfigError, SourceError

FORMAT = 1
_EXPERIMENT, _APPROVED = TypeAdapter(Experiment), TypeAdapter(dict[str, Money])


@dataclass(frozen=True)
class Control:
    """The switches and experiments in force."""

    switches: Switches = NO_SWITCHES
    experiments: Experiments = NO_EXPERIMENTS
    sequence: int = 0  # entries of the record that it was made from; it never falls
    unread: tuple[str, ...] = ()  # what could not be understood and is passed over, a line each

    def to_json(self) -> bytes:
        """The document."""
        document = {
            "format": FORMAT,
            "sequence": self.sequence,
            "switches": [switch.model_dump(mode="json", exclude_defaults=True) for switch in self.switches],
            "experiments": [_EXPERIMENT.dump_python(one, mode="json") for one in self.experiments.every],
            **({"approved": dict(self.switches.approved)} if self.switches.approved else {}),
        }
        return (json.dumps(document, indent=1) + "\n").encode()


NO_CONTROL = Control()


def parse_control(content: bytes) -> Control:
    """Reads the document. An entry that cannot be understood is passed over and named, so that it disarms no other.

    Raises:
        SourceError: It is no such document.
    """
    try:
        document: Any = json.loads(content)
        if document["format"] != FORMAT:
            raise ValueError(f"it is of format {document['format']}, expected {FORMAT}")
        sequence, switches, experiments = int(document["sequence"]), document["switches"], document["experiments"]
        return control_of(switches, experiments, document.get("approved", {}), sequence=sequence)
    except (ValueError, LookupError, TypeError, RecursionError, OverflowError) as error:
        raise SourceError(f"control.json: cannot be understood ({error}); pricing publish writes it") from error


def control_of(switches: list[Any], experiments: list[Any], approved: Any, *, sequence: int) -> Control:
    """Makes it of JSON values; each that is no switch, experiment or map of prices is passed over and named."""
    known, tried, unread, prices = [], NO_EXPERIMENTS, [], {}
    try:
        prices = _APPROVED.validate_python(approved)
    except ValidationError as error:
        unread.append(f"the approved prices are passed over: {_line(error)}")
    for one in switches:
        try:
            known.append(Switch.model_validate(one))
        except ValidationError as error:
            unread.append(f"a switch is passed over: {_line(error)}")
    for one in experiments:
        try:
            tried = tried.plus(_EXPERIMENT.validate_python(one))
        except (ValidationError, ConfigError, OverflowError) as error:  # an end beyond all days
            unread.append(f"an experiment is passed over: {_line(error)}")
    return Control(Switches(known, prices), tried, sequence, tuple(unread))


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
