import datetime as dt
import json
from pathlib import Path

import boto3
import pytest
from moto import mock_aws

from monitoring.actions import LocalLauncher, job_launcher, send_metrics
from pricing.config import load_config
from pricing.errors import DeliveryError
from pricing.runtime.alerts import Alert, Notifier, alert_notifiers
from tests.kit.mlflow_jobs import place
from tests.kit.price_api import price_api, status

NOW = dt.datetime.now(dt.UTC)
GIVEN = {"sales": "s3://shop/sales.parquet", "config": "/etc/pricing/config.yaml"}
ALERT = Alert("decay-retrain", "critical", "error grew – by half", dt.date(2024, 6, 1), "0.6", "retrained", "nothing")
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def cloud(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    with mock_aws():
        yield


def settings(**changes):
    config = load_config().monitoring
    endpoints = config.endpoints.model_copy(update=changes.pop("endpoints", {}))
    return config.model_copy(update={**changes, "endpoints": endpoints})


def inbox():
    """The address of a queue, and a function that reads it."""
    sqs = boto3.client("sqs")
    queue = sqs.create_queue(QueueName="inbox")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    return arn, lambda: [json.loads(one["Body"]) for one in sqs.receive_message(QueueUrl=queue).get("Messages", [])]


def test_an_alert_reaches_those_who_subscribed_to_the_topic(cloud):
    topic = boto3.client("sns").create_topic(Name="alerts")["TopicArn"]
    arn, read = inbox()
    boto3.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)

    for door in alert_notifiers(settings(alerts=["sns"], endpoints={"sns_topic": topic})):
        door.send(ALERT)

    (message,) = read()
    assert message["Subject"] == "[critical] error grew ? by half"
    assert message["Message"] == ALERT.text
    assert message["MessageAttributes"]["severity"]["Value"] == "critical"


def test_an_event_reaches_a_rule_for_it(cloud):
    events = boto3.client("events")
    arn, read = inbox()
    events.put_rule(Name="retrain", EventPattern=json.dumps({"source": ["pricing.monitoring"]}))
    events.put_targets(Rule="retrain", Targets=[{"Id": "q", "Arn": arn}])
    door = job_launcher(settings(trigger="event"), parameters=GIVEN, folder=Path())

    done, _ = door.run("retrain", reason="error grew")

    (event,) = read()
    assert event["detail-type"] == "pricing retrain"
    assert event["detail"] == {"action": "retrain", "reason": "error grew", **GIVEN}
    assert done


def test_metrics_reach_cloudwatch_under_the_names_that_the_alarms_watch(cloud):
    config = settings(metrics=["cloudwatch"])

    send_metrics({"wape_to_backtest": 1.3, "bias_size": 0.1}, config, model="pricing", now=NOW)
    send_metrics({"wape": 0.4}, settings(metrics=[]), model="pricing", now=NOW)

    found = boto3.client("cloudwatch").list_metrics(Namespace="Pricing")["Metrics"]
    assert {metric["MetricName"] for metric in found} == {"wape_to_backtest", "bias_size"}
    assert all(metric["Dimensions"] == [{"Name": "Model", "Value": "pricing"}] for metric in found)


def test_a_cloud_that_refuses_is_a_delivery_error(cloud):
    with pytest.raises(DeliveryError, match="sns publish"):
        Notifier("sns", address="arn:aws:sns:eu-west-1:123456789012:nobody").send(ALERT)


def test_a_webhook_gets_the_alert_as_json_and_one_that_stumbles_is_tried_again():
    with price_api(status(503), status(500), {}) as hook:
        Notifier("webhook", address=hook.url).send(ALERT)

    assert len(hook.bodies) == 3
    body = hook.bodies[-1]
    assert (body["what"], body["since"]) == (ALERT.what, "2024-06-01")
    assert ALERT.text in body["text"]


@pytest.mark.parametrize(("answers", "tries"), [((404,), 1), ((500, 500, 500), 3)])
def test_a_webhook_that_refuses_is_a_delivery_error(answers, tries):
    with price_api(*map(status, answers)) as hook, pytest.raises(DeliveryError, match=f"HTTP {answers[0]}"):
        Notifier("webhook", address=hook.url).send(ALERT)

    assert len(hook.asked) == tries


PROJECT = """name: small
entry_points:
  retrain:
    parameters:
      reason: {type: string, default: ""}
      sales: {type: string, default: ""}
    command: "python job.py {reason} {sales}"
"""
JOB = """import os, sys, pathlib
pathlib.Path(__file__).with_name("ran.txt").write_text("|".join([*sys.argv[1:], os.environ.get("MLFLOW_RUN_ID", "")]))
"""


@pytest.fixture
def project(tmp_path, empty_store, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", place(tmp_path, template=empty_store).uri)
    monkeypatch.setenv("MLFLOW_RUN_ID", "that of the monitoring run")
    root = tmp_path / "project"
    root.mkdir()
    (root / "MLproject").write_text(PROJECT)
    (root / "job.py").write_text(JOB)
    return root


def test_the_local_door_starts_the_entry_point_in_a_run_of_its_own(project, tmp_path):
    door = LocalLauncher(parameters={"sales": "my sales.csv"}, folder=tmp_path / "jobs", root=project)

    well, _ = door.run("retrain", reason="error grew; it's 0.6 > 0.4")

    assert well
    reason, sales, run = (project / "ran.txt").read_text().split("|")
    assert (reason, sales) == ("error grew; it's 0.6 > 0.4", "my sales.csv")
    assert run not in ("", "that of the monitoring run")


def test_where_there_is_no_mlproject_the_local_door_starts_the_installed_job(tmp_path):
    door = LocalLauncher(parameters={"sales": ""}, folder=tmp_path / "jobs", root=tmp_path)

    well, log = door.run("refresh", reason="")

    assert not well
    assert "no sales are named" in Path(log).read_text()
