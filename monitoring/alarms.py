"""Writes the alarms of the configuration as a CloudWatch template that a stack reads, or puts them there.

`pricing alarms` prints the template, `--put true` makes the alarms or brings them up to date.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pricing.config import Config, load_config
from pricing.config_models import AlarmConfig
from pricing.runtime.cli import Options, run_main

DIMENSION = "Model"
DAY_SECONDS = 86_400
TOPIC_SETTING = "monitoring.endpoints.sns_topic"


def definitions(config: Config, *, topics: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """Every alarm by its name in the configuration: what PutMetricAlarm and AWS::CloudWatch::Alarm both take.

    Args:
        config: Alarms, namespace and the model whose figures they watch.
        topics: ARNs that are told when an alarm goes off.
    """
    model, namespace = config.registry.model_name, config.monitoring.endpoints.namespace
    return {
        name: {
            "AlarmName": f"{model}-{name}",
            "AlarmDescription": _has_reason(alarm),
            "Namespace": namespace,
            "MetricName": alarm.metric,
            "Dimensions": [{"Name": DIMENSION, "Value": model}],
            "Statistic": "Minimum" if alarm.above is None else "Maximum",
            "Period": DAY_SECONDS,
            "EvaluationPeriods": alarm.days,
            "Threshold": alarm.below if alarm.above is None else alarm.above,
            "ComparisonOperator": "LessThanThreshold" if alarm.above is None else "GreaterThanThreshold",
            "TreatMissingData": alarm.missing,
            "AlarmActions": list(topics),
        }
        for name, alarm in config.monitoring.alarms.items()
    }


def template(alarms: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A CloudFormation template with one resource an alarm."""
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "Alarms on the figures of monitoring, made by pricing alarms",
        "Resources": {
            _logical(name): {"Type": "AWS::CloudWatch::Alarm", "Properties": properties}
            for name, properties in alarms.items()
        },
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the template or puts the alarms."""
    parser = Options(prog="pricing alarms", description=__doc__)
    parser.add_config()
    parser.add_argument("--put", default="false", choices=("true", "false"), help="true: put them into CloudWatch")
    parser.add_argument("--topics", metavar="ARN,…", help=f"who is told; absent: {TOPIC_SETTING}")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the template goes here; absent: printed")
    options = parser.parse(argv)
    config = load_config(options.config)
    topics = [one for one in (options.topics or config.monitoring.endpoints.sns_topic).split(",") if one]
    found = definitions(config, topics=topics)
    text = json.dumps(template(found), indent=1, ensure_ascii=False) + "\n"
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text, encoding="utf-8")
    if options.put == "true":
        from monitoring import aws  # noqa: PLC0415 - boto3 is only needed where AWS is

        aws.put_alarms(found.values())
        told = ", ".join(topics) or f"nobody: set {TOPIC_SETTING} or give --topics"
        print("\n".join(f"put {one['AlarmName']}: {one['AlarmDescription']}" for one in found.values()))
        print(f"told when one goes off: {told}")
    elif options.out is None:
        print(text, end="")
    return 0


def _has_reason(alarm: AlarmConfig) -> str:
    limit = f"below {alarm.below:g}" if alarm.above is None else f"above {alarm.above:g}"
    days = "a day" if alarm.days == 1 else f"{alarm.days} days running"
    return f"{alarm.metric} {limit} for {days}" + (", or missing" if alarm.missing == "breaching" else "")


def _logical(name: str) -> str:
    """A CloudFormation name: letters and digits."""
    return "".join(part.capitalize() for part in name.replace("-", "_").split("_")) + "Alarm"


if __name__ == "__main__":
    sys.exit(run_main(main))
