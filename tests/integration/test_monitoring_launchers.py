import datetime as dt
import json
from dataclasses import replace
from pathlib import Path

import boto3
import pytest
from moto import mock_aws
from pydantic import SecretStr

from monitoring.alert import send_metrics
from monitoring.launch import LocalLauncher, job_launcher
from pricing.config import load_config
from pricing.data.findings import Finding
from pricing.errors import DeliveryError
from pricing.runtime.alerts import CHANNELS, Alert, deliver
from pricing.runtime.mlflow_runs import child_environment
from tests.kit.mlflow_jobs import place
from tests.kit.price_api import price_api, status

NOW = dt.datetime.now(dt.UTC)
GIVEN = {"sales": "postgresql://ann:hush@db/shop", "config": "/etc/pricing/config.yaml"}
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


def webhook(url):
    return settings(endpoints={"webhook_url": SecretStr(url)})


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

    assert deliver(ALERT, settings(alerts=["sns"], endpoints={"sns_topic": topic})) == []

    (message,) = read()
    assert message["Subject"] == "[critical] error grew ? by half"
    assert message["Message"] == ALERT.text
    assert message["MessageAttributes"]["severity"]["Value"] == "critical"


def test_an_event_reaches_a_rule_for_it(cloud):
    events = boto3.client("events")
    arn, read = inbox()
    events.put_rule(Name="retrain", EventPattern=json.dumps({"source": ["pricing.monitoring"]}))
    events.put_targets(Rule="retrain", Targets=[{"Id": "q", "Arn": arn}])
    door = job_launcher(settings(trigger="event"), parameters=GIVEN, folder=Path(), environment={})

    done, _ = door.run("retrain", reason="error grew")

    (event,) = read()
    assert event["detail-type"] == "pricing retrain"
    assert event["detail"] == {"action": "retrain", "reason": "error grew"}  # its receiver has sales of its own
    assert done


def test_metrics_reach_cloudwatch_under_the_names_that_the_alarms_watch(cloud):
    config = settings(metrics=["cloudwatch"])

    send_metrics({"wape_to_backtest": 1.3, "bias_size": 0.1}, config, model="pricing", now=NOW)
    send_metrics({"wape": 0.4}, settings(metrics=[]), model="pricing", now=NOW)

    found = boto3.client("cloudwatch").list_metrics(Namespace="Pricing")["Metrics"]
    assert {metric["MetricName"] for metric in found} == {"wape_to_backtest", "bias_size"}
    assert all(metric["Dimensions"] == [{"Name": "Model", "Value": "pricing"}] for metric in found)


def test_a_cloud_that_refuses_is_a_delivery_error(cloud):
    nobody = settings(endpoints={"sns_topic": "arn:aws:sns:eu-west-1:123456789012:nobody"})

    with pytest.raises(DeliveryError, match="sns publish"):
        CHANNELS["sns"](ALERT, nobody)


def test_a_webhook_gets_the_alert_as_json_and_one_that_stumbles_is_tried_again():
    empty = Finding("column_empty", "breach", sentence="no values", about="comp_price")
    with price_api(status(503), status(500), {}) as hook:
        CHANNELS["webhook"](replace(ALERT, findings=(empty,)), webhook(hook.url))

    assert len(hook.bodies) == 3
    body = hook.bodies[-1]
    assert (body["what"], body["since"]) == (ALERT.what, "2024-06-01")
    assert body["findings"] == [{"name": "column_empty-comp_price", "severity": "critical", "text": "no values"}]
    assert all(part in body["text"] for part in (ALERT.subject, ALERT.what, ALERT.todo, "no values"))


@pytest.mark.parametrize(("answers", "tries"), [((404,), 1), ((500, 500, 500), 3)])
def test_a_webhook_that_refuses_is_a_delivery_error(answers, tries):
    with price_api(*map(status, answers)) as hook, pytest.raises(DeliveryError, match=f"HTTP {answers[0]}"):
        CHANNELS["webhook"](ALERT, webhook(hook.url))

    assert len(hook.asked) == tries


def test_the_local_door_starts_the_job_in_a_run_below_this_one_and_no_store_learns_a_password(
    tmp_path, empty_store, monkeypatch
):
    here = place(tmp_path, template=empty_store)
    for name, value in here.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLFLOW_RUN_ID", "that of the monitoring run")
    mine = here.client.create_run("0")
    given = {"sales": "postgresql://ann:hush@127.0.0.1:1/shop#sales"}
    door = LocalLauncher(parameters=given, folder=tmp_path / "jobs", environment=child_environment(mine))

    well, log = door.run("retrain", reason="error grew; it's 0.6 > 0.4")

    assert not well
    (run,) = here.runs(job="retrain")
    assert run.data.tags["reason"] == "error grew; it's 0.6 > 0.4"
    assert (run.data.tags["mlflow.parentRunId"], run.info.experiment_id) == (mine.info.run_id, "0")
    assert here.runs(job="etl") != []  # which read the address
    assert "hush" not in Path(log).read_text()
    assert [path for path in tmp_path.rglob("*") if path.is_file() and b"hush" in path.read_bytes()] == []
