"""A version as an ordinary MLflow pyfunc: the model-from-code file, which MLflow runs. It only imports `pricing`."""

import datetime as dt
import math
from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from pricing.decision.pricer import Pricer
from pricing.decision.request import PriceRequest
from pricing.errors import RequestError
from pricing.registry import version

ARTIFACT = "version"


class PricingModel(PythonModel):
    """Answers a frame of requests with a frame of decisions, one row for one row."""

    _pricer: Pricer

    def load_context(self, context: PythonModelContext) -> None:
        """Reads the version that was logged with the model and checks its golden requests."""
        loaded = version.load(context.artifacts[ARTIFACT])
        loaded.verify()
        self._pricer = loaded.pricer(version=loaded.weights_hash[:12])

    def predict(
        self, context: PythonModelContext | None, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Prices every row.

        Args:
            context: Unused.
            model_input: A price request's fields as columns; an empty cell is an absent field.
            params: Unused, except `today` (ISO date): the day that absent dates are counted from.

        Raises:
            RequestError: A row is no price request; names the row, the field and the value.
        """
        today = dt.date.fromisoformat(params["today"]) if params and params.get("today") else dt.date.today()
        requests = [_request(row, place) for place, row in enumerate(model_input.to_dict(orient="records"))]
        decisions = self._pricer.price(requests, today=today)
        return pd.DataFrame([decision.model_dump(mode="json") for decision in decisions])


def _request(row: dict[Any, Any], place: int) -> PriceRequest:
    fields = {str(name): value for name, value in row.items() if not _empty(value)}
    try:
        return PriceRequest.model_validate(fields)
    except ValueError as error:
        raise RequestError(f"row {place} is no price request: {error}") from error


def _empty(value: Any) -> bool:
    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and math.isnan(value))


mlflow.models.set_model(PricingModel())
