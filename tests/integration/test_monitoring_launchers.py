import datetime as dt
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import boto3
import mlflow
import pytest

from monitoring import alarms, aws
from monitoring.launchers import JobRequest, LocalLauncher, job_launcher, send_metrics
from monitoring.tracking import run_status
from pricing.config import load_config
from pricing.errors import HistoryError
from pricing.paths import STARTED_VARIABLE
from pricing.runtime import aws as runtime_aws
from pricing.runtime.alerts import Alert, DeliveryError, WebhookNotifier, alert_notifiers
from pricing.runtime.cli import job_options, run_main
from pricing.runtime.mlflow_runs import tracked_run

NOW = dt.datetime.now(dt.UTC)
GIVEN = {"sales": "s3://shop/sales.parquet", "config": "/etc/pricing/config.yaml"}
ALERT = Alert("decay-retrain", "critical", "error grew – by half", dt.date(2024, 6, 1), "0.6", "retrained", "nothing")
pytestmark = pytest.mark.filterwarnings("ignore")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture(scope="module")
def endpoint():
    port = free_port()
    server = subprocess.Popen(
        [Path(sys.executable).parent / "moto_server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    for _ in range(300):
        try:
            urllib.request.urlopen(f"{url}/moto-api/data.json", timeout=2).close()
            break
        except OSError:
            time.sleep(0.2)
    yield url
    server.terminate()
    server.wait()


@pytest.fixture
def cloud(endpoint, monkeypatch):
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": "eu-west-1",
    }.items():
        monkeypatch.setenv(name, value)
    urllib.request.urlopen(urllib.request.Request(f"{endpoint}/moto-api/reset", method="POST"), timeout=10).close()


def settings(**changes):
    config = load_config().monitoring
    endpoints = config.endpoints.model_copy(update=changes.pop("endpoints", {}))
    return config.model_copy(update={**changes, "endpoints": endpoints})


def inbox(topic_arn: str):
    sqs = boto3.client("sqs")
    queue = sqs.create_queue(QueueName="inbox")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    boto3.client("sns").subscribe(TopicArn=topic_arn, Protocol="sqs", Endpoint=arn)
    return lambda: [json.loads(one["Body"]) for one in sqs.receive_message(QueueUrl=queue).get("Messages", [])]


def test_an_alert_reaches_those_who_subscribed_to_the_topic(cloud):
    topic = boto3.client("sns").create_topic(Name="alerts")["TopicArn"]
    read = inbox(topic)

    for door in alert_notifiers(settings(alerts=["sns"], endpoints={"sns_topic": topic})):
        door.send(ALERT)

    (message,) = read()
    assert message["Subject"] == "[critical] error grew ? by half"
    assert message["Message"] == ALERT.text
    assert message["MessageAttributes"]["severity"]["Value"] == "critical"


def test_a_topic_that_is_not_there_is_a_delivery_error(cloud):
    with pytest.raises(DeliveryError, match="sns publish"):
        runtime_aws.SnsNotifier("arn:aws:sns:eu-west-1:123456789012:nobody").send(ALERT)


@pytest.fixture
def ecs(cloud):
    """A cluster and a task definition; the launcher's endpoints name them."""
    ec2, ecs = boto3.client("ec2"), boto3.client("ecs")
    ecs.create_cluster(clusterName="pricing")
    ecs.register_task_definition(
        family="train",
        requiresCompatibilities=["FARGATE"],
        networkMode="awsvpc",
        cpu="1024",
        memory="2048",
        containerDefinitions=[{"name": "train", "image": "pricing", "cpu": 1024, "memory": 2048}],
    )
    endpoints = {
        "ecs_cluster": "pricing",
        "ecs_task": "train",
        "ecs_container": "train",
        "ecs_subnets": [ec2.describe_subnets()["Subnets"][0]["SubnetId"]],
        "ecs_security_groups": [ec2.describe_security_groups()["SecurityGroups"][0]["GroupId"]],
    }
    return settings(trigger="ecs", endpoints=endpoints)


def task_of(handle: str):
    (task,) = boto3.client("ecs").describe_tasks(cluster="pricing", tasks=[handle.split()[1]])["tasks"]
    return task


def forgotten(handle: str) -> str:
    """The same start after ECS has forgotten its task."""
    return handle[:-8] + "00000000"


@pytest.mark.parametrize(
    ("order", "words"),
    [
        (JobRequest("retrain", "error grew"), ["--reason", "error grew"]),
        (JobRequest("refresh", "states are old"), []),
    ],
)
def test_a_job_runs_as_a_task_on_the_sales_and_settings_that_were_monitored(ecs, order, words):
    door = job_launcher(ecs, parameters=GIVEN, folder=Path())

    handle = door.start(order)

    task = task_of(handle)
    (override,) = task["overrides"]["containerOverrides"]
    given = ["--sales", GIVEN["sales"], "--config", GIVEN["config"]]
    assert override["command"] == ["python", "-m", f"pipelines.{order.action}", *given, *words]
    assert override["environment"] == [{"name": STARTED_VARIABLE, "value": handle.split()[0]}]
    assert task["startedBy"] == f"monitoring-{order.action}"
    assert door.wait(handle) is None


@pytest.mark.parametrize(("run", "ended"), [("finished", True), ("failed", False), ("running", None)])
def test_how_a_job_ended_is_what_its_run_says_whether_or_not_ecs_remembers_its_task(ecs, run, ended):
    asked = []
    door = job_launcher(ecs, parameters={}, folder=Path(), run_status=lambda token: asked.append(token) or run)
    handle = door.start(JobRequest("retrain", "why"))

    assert door.ended(handle) is ended
    assert door.ended(forgotten(handle)) is ended
    assert asked == [handle.split()[0]] * 2


def test_a_task_that_ecs_has_forgotten_and_no_run_tells_of_has_neither_failed_nor_succeeded(ecs):
    door = job_launcher(ecs, parameters={}, folder=Path())
    handle = door.start(JobRequest("refresh", "why"))

    assert door.ended(handle) is None
    with pytest.raises(DeliveryError, match=f"the end of {handle.split()[0]} is unknown"):
        door.ended(forgotten(handle))


def stopped(*codes):
    return {"lastStatus": "STOPPED", "containers": [{} if code is None else {"exitCode": code} for code in codes]}


@pytest.mark.parametrize(
    ("run", "task", "ended"),
    [
        (None, {"lastStatus": "PENDING"}, None),
        ("running", {"lastStatus": "RUNNING"}, None),
        ("running", None, None),
        (None, stopped(None), False),  # its image could not be pulled
        (None, stopped(), False),
        ("running", stopped(137), False),  # killed
        (None, stopped(0, 2), False),
        (None, stopped(0), "unknown"),
        ("running", stopped(0), "unknown"),
        (None, None, "unknown"),
    ],
)
def test_without_the_end_of_a_run_a_task_tells_of_failure_alone(run, task, ended):
    if ended == "unknown":
        with pytest.raises(DeliveryError, match="the end of retrain-1 is unknown"):
            aws.job_end(run, task, name="retrain-1")
    else:
        assert aws.job_end(run, task, name="retrain-1") is ended


def test_a_cloud_that_is_down_hides_no_end_that_the_run_tells(ecs, monkeypatch):
    status = ["finished"]
    door = job_launcher(ecs, parameters={}, folder=Path(), run_status=lambda _token: status[0])
    handle = door.start(JobRequest("refresh", "why"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")

    assert door.ended(handle) is True
    status[0] = "running"
    assert door.ended(handle) is None
    status[0] = None
    with pytest.raises(DeliveryError, match="ecs describe_tasks"):
        door.ended(handle)


def test_a_started_job_tags_its_run_and_not_those_of_jobs_that_it_starts(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.setenv(STARTED_VARIABLE, "retrain-1")

    with tracked_run("retrain"):
        assert STARTED_VARIABLE not in os.environ
        assert run_status("retrain-1") == "running"
    with pytest.raises(HistoryError), tracked_run("etl"):
        raise HistoryError("too short")

    assert run_status("retrain-1") == "finished"
    assert run_status("retrain-2") is None


def test_a_cluster_that_is_not_there_is_a_delivery_error(cloud):
    config = settings(endpoints={"ecs_cluster": "none", "ecs_task": "none", "ecs_subnets": ["subnet-1"]})

    with pytest.raises(DeliveryError, match="ecs run_task"):
        aws.EcsLauncher(config.endpoints, parameters={}, run_status=lambda _token: None).start(
            JobRequest("retrain", "why")
        )


def test_an_event_reaches_a_rule_for_it(cloud):
    events, sqs = boto3.client("events"), boto3.client("sqs")
    queue = sqs.create_queue(QueueName="jobs")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    events.put_rule(Name="retrain", EventPattern=json.dumps({"source": ["pricing.monitoring"]}))
    events.put_targets(Rule="retrain", Targets=[{"Id": "q", "Arn": arn}])
    door = job_launcher(settings(trigger="event"), parameters=GIVEN, folder=Path())

    handle = door.start(JobRequest("retrain", "error grew"))

    (message,) = sqs.receive_message(QueueUrl=queue)["Messages"]
    event = json.loads(message["Body"])
    assert event["detail-type"] == "pricing retrain"
    assert event["detail"] == {"action": "retrain", "reason": "error grew", **GIVEN}
    assert door.wait(handle) is True


def test_metrics_reach_cloudwatch_under_the_names_that_the_alarms_watch(cloud, capsys):
    config = settings(metrics=["cloudwatch"])
    topic = "arn:aws:sns:eu-west-1:1:t"

    send_metrics({"wape_to_backtest": 1.3, "bias_size": 0.1}, config, model="pricing", now=NOW)
    assert alarms.main(["--put", "true", "--topics", topic]) == 0

    found = boto3.client("cloudwatch").list_metrics(Namespace="Pricing")["Metrics"]
    assert {metric["MetricName"] for metric in found} == {"wape_to_backtest", "bias_size"}
    there = {one["AlarmName"]: one for one in boto3.client("cloudwatch").describe_alarms()["MetricAlarms"]}
    assert set(there) == {f"pricing-{name}" for name in config.alarms}
    error = there["pricing-error_above_backtest"]
    assert (error["MetricName"], error["Threshold"], error["EvaluationPeriods"]) == ("wape_to_backtest", 1.15, 2)
    assert error["Dimensions"] == next(one["Dimensions"] for one in found if one["MetricName"] == "wape_to_backtest")
    assert error["AlarmActions"] == [topic]
    assert "put pricing-sales_late: days_since_sales above 3 for a day" in capsys.readouterr().out


def test_alarms_that_are_put_again_follow_the_configuration(cloud, tmp_path):
    changed = tmp_path / "config.yaml"
    changed.write_text("monitoring: {alarms: {sales_late: {above: 9, days: 2}}}")

    alarms.main(["--put", "true"])
    alarms.main(["--put", "true", "--config", str(changed)])

    there = {one["AlarmName"]: one for one in boto3.client("cloudwatch").describe_alarms()["MetricAlarms"]}
    assert len(there) == len(load_config().monitoring.alarms)
    late = there["pricing-sales_late"]
    assert (late["Threshold"], late["EvaluationPeriods"]) == (9.0, 2)


def test_a_stack_that_reads_the_exported_template_gets_the_alarms_that_are_put(cloud, tmp_path):
    alarms.main(["--out", str(tmp_path / "stack" / "alarms.json")])
    alarms.main(["--put", "true"])

    resources = json.loads((tmp_path / "stack" / "alarms.json").read_text())["Resources"]
    assert all(name.isalnum() and one["Type"] == "AWS::CloudWatch::Alarm" for name, one in resources.items())
    exported = {one["Properties"]["AlarmName"]: one["Properties"] for one in resources.values()}
    there = {one["AlarmName"]: one for one in boto3.client("cloudwatch").describe_alarms()["MetricAlarms"]}
    assert exported.keys() == there.keys()
    for name, properties in exported.items():
        assert {key: there[name].get(key) for key in properties} == properties


def test_alarms_that_cloudwatch_does_not_take_end_with_one_message(cloud, monkeypatch, capsys):
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")

    assert run_main(alarms.main, ["--put", "true"]) == 2

    assert "cloudwatch put_metric_alarm pricing-error_above_backtest" in capsys.readouterr().err


def test_a_cloud_that_does_not_answer_is_a_delivery_error(cloud, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")

    with pytest.raises(DeliveryError, match="cloudwatch put_metric_data"):
        aws.put_metrics({"wape": 0.4}, namespace="Pricing", model="pricing", now=NOW)


class Hook:
    def __init__(self, *answers: int) -> None:
        self.answers, self.bodies = list(answers), []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                hook.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(hook.answers.pop(0) if hook.answers else 200)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def test_a_webhook_gets_the_alert_as_json():
    with Hook() as hook:
        WebhookNotifier(hook.url).send(ALERT)

    (body,) = hook.bodies
    assert body["what"] == ALERT.what
    assert body["since"] == "2024-06-01"
    assert ALERT.text in body["text"]


def test_a_webhook_that_stumbles_is_tried_again():
    with Hook(503, 500, 200) as hook:
        WebhookNotifier(hook.url).send(ALERT)

    assert len(hook.bodies) == 3


@pytest.mark.parametrize(("answers", "tries"), [((404,), 1), ((500, 500, 500), 3)])
def test_a_webhook_that_refuses_is_a_delivery_error(answers, tries):
    with Hook(*answers) as hook, pytest.raises(DeliveryError, match=f"HTTP {answers[0]}"):
        WebhookNotifier(hook.url).send(ALERT)

    assert len(hook.bodies) == tries


def test_a_job_that_fails_unattended_reaches_the_webhook_with_its_run_and_keeps_its_exit_code(tmp_path, monkeypatch):
    monkeypatch.setenv("PRICING_HOME", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)

    def job(argv):
        job_options("train", "Trains.", needs_sales=False).parse(argv)
        with tracked_run("train") as run:
            mlflow.set_tag("version", "7")
            raise HistoryError(f"too short for run {run.info.run_id}")

    with Hook() as hook:
        words = f"monitoring: {{alerts: [webhook], endpoints: {{webhook_url: '{hook.url}', mlflow_url: 'http://ui'}}}}"
        (tmp_path / "mine.yaml").write_text(words)
        codes = [run_main(job, ["--config", str(tmp_path / "mine.yaml")], unattended=True) for _ in range(1)]

    (body,) = hook.bodies
    assert codes == [2]
    assert (body["job"], body["exit_status"], body["version"], body["severity"]) == ("train", 2, "7", "critical")
    assert body["how_bad"] == f"too short for run {body['run']}"
    experiment = mlflow.get_run(body["run"]).info.experiment_id
    assert body["link"] == f"http://ui/#/experiments/{experiment}/runs/{body['run']}"


PROJECT = """name: small
entry_points:
  retrain:
    parameters:
      reason: {type: string, default: ""}
      sales: {type: string, default: ""}
    command: "python job.py {reason} {sales}"
  refresh:
    command: "python -c 'raise SystemExit(3)'"
"""
JOB = """import os, sys, pathlib
pathlib.Path(__file__).with_name("ran.txt").write_text("|".join([*sys.argv[1:], os.environ.get("MLFLOW_RUN_ID", "")]))
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("MLFLOW_RUN_ID", "that of the monitoring run")
    root = tmp_path / "project"
    root.mkdir()
    (root / "MLproject").write_text(PROJECT)
    (root / "job.py").write_text(JOB)
    return root


def test_the_local_door_starts_the_entry_point_in_a_run_of_its_own(project, tmp_path):
    door = LocalLauncher(parameters={"sales": "my sales.csv"}, folder=tmp_path / "jobs", root=project)

    handle = door.start(JobRequest("retrain", "error grew; it's 0.6 > 0.4"))

    assert door.wait(handle) is True
    reason, sales, run = (project / "ran.txt").read_text().split("|")
    assert (reason, sales) == ("error grew; it's 0.6 > 0.4", "my sales.csv")
    assert run not in ("", "that of the monitoring run")
    assert LocalLauncher(parameters={}, folder=tmp_path / "jobs", root=project).ended(handle) is True


def test_a_local_job_that_fails_is_told_so_and_keeps_what_it_printed(project, tmp_path):
    door = LocalLauncher(parameters={}, folder=tmp_path / "jobs", root=project)

    handle = door.start(JobRequest("refresh", ""))

    assert door.wait(handle) is False
    assert Path(handle.partition(" ")[2]).stat().st_size > 0


def test_where_there_is_no_mlproject_the_local_door_starts_the_installed_job(tmp_path):
    door = LocalLauncher(parameters={"sales": ""}, folder=tmp_path / "jobs", root=tmp_path)

    handle = door.start(JobRequest("refresh", ""))

    assert door.wait(handle) is False
    assert "no sales are named" in Path(handle.partition(" ")[2]).read_text()


def test_a_local_job_is_running_until_it_ends_and_failed_when_it_vanished(tmp_path):
    door = LocalLauncher(parameters={}, folder=tmp_path)
    sleeper = subprocess.Popen(["sleep", "30"])

    assert door.ended(f"{sleeper.pid} {tmp_path / 'x.log'}") is None

    sleeper.kill()
    sleeper.wait()
    assert door.ended(f"{sleeper.pid} {tmp_path / 'x.log'}") is False
    assert door.ended("nonsense") is False
