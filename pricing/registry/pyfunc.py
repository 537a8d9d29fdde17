"""A version as an ordinary MLflow pyfunc: the models-from-code file, which MLflow runs. It only imports `pricing`."""

import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import yaml
from mlflow.models import ModelSignature
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema, TensorSpec
from mlflow.types.schema import AnyType

from pricing.config_models import ServingConfig
from pricing.decision.pricer import Pricer
from pricing.decision.request import PriceRequest, request_fields
from pricing.decision.switches import NO_CONTROL, Control, parse_control
from pricing.errors import RequestError
from pricing.objects import open_store
from pricing.registry import version
from pricing.registry.published_store import control_key, published_url

ARTIFACT = "version"
_NUMBER = AnyType()  # type: ignore[no-untyped-call]
_NUMBERS = (
    "comp_price",
    "comp_price_age",
    "current_price",
    "unit_cost",
    "list_price",
    "current_stock",
    "tax_rate",
)
_FLAGS = ("is_promo", "strict")
_TEXTS = ("date", "day_of_week", "strategy", "category", "next_delivery")


class PricingModel(PythonModel):
    """Turns a DataFrame of requests into one of decisions, row by row."""

    _pricer: Pricer
    _model: str

    def load_context(self, context: PythonModelContext) -> None:
        """Reads the version that was logged with the model and checks its golden requests."""
        loaded = version.load(context.artifacts[ARTIFACT])
        loaded.verify()
        jump = ServingConfig.model_fields["largest_jump"].default  # no configuration file reaches a pyfunc
        self._model, number = _registered(loaded.folder)
        self._pricer = loaded.pricer(version=number or loaded.weights_hash[:12], largest_jump=jump)

    def predict(
        self, context: PythonModelContext | None, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Prices every row, heeding what people have switched and tried where that is published to this machine.

        Args:
            context: Unused.
            model_input: A price request's fields as columns; an empty cell is an absent field, but in `comp_price` no
                competitor: only without that column the newest price known counts.
            params: Unused, except `today` (ISO date): the day that absent dates are counted from.

        Raises:
            RequestError: A row is no price request; names the row, the field and the value.
        """
        today = dt.date.fromisoformat(params["today"]) if params and params.get("today") else dt.date.today()
        rows = model_input.astype(object).where(model_input.notna(), None).to_dict(orient="records")
        requests = [_request(row, place) for place, row in enumerate(rows)]
        control = self._control()
        detailed = self._pricer.price_detailed(
            requests,
            today=today,
            experiments=control.experiments,
            switches=control.switches.at(dt.datetime.now(dt.UTC)),
        )
        return pd.DataFrame([answer.decision.model_dump(mode="json") for answer in detailed])

    def _control(self) -> Control:
        """What people have switched and tried, where that is published to this machine."""
        content = open_store(published_url()).get(control_key(self._model)) if self._model else None
        return NO_CONTROL if content is None else parse_control(content)


def signature() -> ModelSignature:
    """The model signature: a request's fields, of which `product_id` is required.

    Numbers are of any type: MLflow would refuse whole numbers where doubles are declared.
    """
    inputs: list[ColSpec | TensorSpec] = [ColSpec("string", "product_id")]
    inputs += [ColSpec(_NUMBER, name, required=False) for name in _NUMBERS]
    inputs += [ColSpec("boolean", name, required=False) for name in _FLAGS]
    inputs += [ColSpec("string", name, required=False) for name in _TEXTS]
    return ModelSignature(inputs=Schema(inputs), params=ParamSchema([ParamSpec("today", "string", "")]))


def example(header: Mapping[str, Any]) -> pd.DataFrame:
    """The input example: a golden request of a version's header, always with a competitor's price."""
    request = header["golden"]["cases"][0]["request"]
    return pd.DataFrame([{**request, "comp_price": 21.5}])


def _registered(folder: Path) -> tuple[str, str]:
    """The registered model and number that MLflow notes beside its files; empty of one from a run or a folder."""
    note = folder.parent.parent / "registered_model_meta"
    try:
        found = yaml.safe_load(note.read_text(encoding="utf-8"))
        return str(found["model_name"]), str(found["model_version"])
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return "", ""


def _request(row: dict[Any, Any], place: int) -> PriceRequest:
    try:
        return PriceRequest.model_validate(request_fields(row))
    except ValueError as error:
        raise RequestError(f"row {place} is no price request: {error}") from error


mlflow.models.set_model(PricingModel())
