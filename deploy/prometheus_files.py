"""What Prometheus and Grafana read on one machine: whom to ask, when to alarm, and the dashboard. As data.

The figures are those of the service's `/metrics` (`serving.metrics`) and of the proxy.
"""

from dataclasses import dataclass
from typing import Any

KEY_FILE = "/run/secrets/key-prometheus"
RULES_FILE = "/etc/prometheus/rules.yml"
SOURCE = "prometheus"  # the data source's id in Grafana
_RATE = "[5m]"
_ROUTES = 'route=~"get_price|get_prices"'


@dataclass(frozen=True)
class Panel:
    """One graph.

    Attributes:
        title: What it shows.
        queries: Legend, with {{label}} where one query gives several lines, and query.
        unit: As Grafana names units.
    """

    title: str
    queries: dict[str, str]
    unit: str = "short"


@dataclass(frozen=True)
class AlertRule:
    """One alarm.

    Attributes:
        name: Its name, that of the alarm on AWS where there is one.
        query: Gives a line for whatever is in trouble.
        minutes: That it must last.
        what: What it means, and what to look at.
    """

    name: str
    query: str
    minutes: int
    what: str


def _quantile(share: float) -> str:
    return f"histogram_quantile({share}, sum by (le) (rate(pricing_request_seconds_bucket{{{_ROUTES}}}{_RATE})))"


PANELS = (
    Panel(
        "Requests a second, by status",
        {"{{status}}": f"sum by (status) (rate(pricing_requests_total{_RATE}))"},
        "reqps",
    ),
    Panel("Time to answer in the service", {"median": _quantile(0.5), "p99": _quantile(0.99)}, "s"),
    Panel("Tasks that are ready", {"{{server}}": 'haproxy_server_status{proxy="tasks", state="UP"}'}),
    Panel(
        "Prices a second, by who gave them", {"{{source}}": f"sum by (source) (rate(pricing_decisions_total{_RATE}))"}
    ),
    Panel("Version served, workers", {"{{task}}: {{version}}": "sum by (task, version) (pricing_workers)"}),
    Panel(
        "Confidence, mean",
        {"confidence": f"sum(rate(pricing_confidence_sum{_RATE})) / sum(rate(pricing_confidence_count{_RATE}))"},
        "percentunit",
    ),
    Panel(
        "Reasons named, most frequent", {"{{reason}}": f"topk(8, sum by (reason) (rate(pricing_reasons_total{_RATE})))"}
    ),
    Panel("Age of the model's states, days", {"{{task}}": "max by (task) (pricing_state_age_days)"}, "d"),
    Panel("Seconds since the registry answered", {"{{task}}": "max by (task) (pricing_registry_silence_seconds)"}, "s"),
    Panel(
        "Decision log: waiting, and dropped",
        {
            "{{task}} waiting": "sum by (task) (pricing_log_issued - pricing_log_written - pricing_log_dropped)",
            "{{task}} dropped": "sum by (task) (pricing_log_dropped)",
        },
    ),
    Panel(
        "Prices by rule because the model failed",
        {"{{task}}": "sum by (task) (increase(pricing_edge_fallbacks_total[1h]))"},
    ),
    Panel("A person's switches in force", {"{{action}}": "max by (action) (pricing_switches)"}),
    Panel(
        "At the proxy: retries, and answers it gave up on",
        {
            "retries": f"sum(rate(haproxy_backend_retry_warnings_total{_RATE}))",
            "5xx": f'sum(rate(haproxy_frontend_http_responses_total{{proxy="prices", code="5xx"}}{_RATE}))',
        },
    ),
)

ALERT_RULES = (
    AlertRule(
        "answers-5xx",
        f'sum(rate(haproxy_frontend_http_responses_total{{proxy="prices", code="5xx"}}{_RATE})) > 0.01',
        5,
        "Callers get errors: see the logs of proxy and serving tasks.",
    ),
    AlertRule(
        "slow-p99",
        f"{_quantile(0.99)} > 0.25",
        10,
        "One request in a hundred takes over 250 ms: CPU, or one caller too many.",
    ),
    AlertRule(
        "tasks-not-ready",
        'haproxy_server_status{proxy="tasks", state="UP"} == 0',
        5,
        "A serving task is not ready; /health/ready of the task says why.",
    ),
    AlertRule(
        "task-silent",
        'up{job="serving"} == 0',
        5,
        "A serving task does not answer Prometheus: is it running, is the key right?",
    ),
    AlertRule(
        "answers-by-rule",
        f'sum(rate(pricing_decisions_total{{source="rule"}}{_RATE})) / sum(rate(pricing_decisions_total{_RATE})) > 0.2',
        15,
        "More than 20 % of prices come from rules: the model is away, or does not know the products.",
    ),
    AlertRule(
        "state-old",
        "max(pricing_state_age_days) > 3",
        60,
        "No night has carried the model over new days: see the log of nightly.",
    ),
    AlertRule(
        "version-refused",
        "max by (task) (pricing_refused_versions) > 0",
        5,
        "A task refuses a promoted version; its log names it and says why.",
    ),
    AlertRule(
        "follower-blind",
        "max by (task) (pricing_registry_silence_seconds) > 120",
        5,
        "A task does not reach MLflow; the last version goes on.",
    ),
    AlertRule(
        "model-failed",
        "increase(pricing_edge_fallbacks_total[10m]) > 0",
        0,
        "The model's answer failed and a rule gave the price: see the traceback, perhaps roll back.",
    ),
    AlertRule(
        "decisions-lost",
        "pricing_log_dropped > 0 or pricing_log_upload_dropped > 0",
        0,
        "Decisions were dropped: the task's disk is full or hangs, or too many wait for their upload.",
    ),
    AlertRule("log-failing", "pricing_log_failing > 0", 2, "The decision log cannot be written."),
    AlertRule(
        "log-upload-late",
        "max by (task) (pricing_log_upload_lag_seconds) > 300",
        2,
        "A task's decisions are not uploaded, and are lost where it dies: see its log, and the objects' store.",
    ),
)


def prometheus() -> dict[str, Any]:
    """Prometheus' configuration: the serving tasks, each by its name, and the proxy."""
    tasks = [{"targets": [f"{task}:8080"], "labels": {"task": task}} for task in ("serving-1", "serving-2")]
    key = {"type": "Bearer", "credentials_file": KEY_FILE}
    return {
        "global": {"scrape_interval": "10s", "evaluation_interval": "15s"},
        "rule_files": [RULES_FILE],
        "scrape_configs": [
            {"job_name": "serving", "authorization": key, "static_configs": tasks},
            {"job_name": "proxy", "static_configs": [{"targets": ["proxy:8405"]}]},
        ],
    }


def rules() -> dict[str, Any]:
    """Prometheus' alarms."""
    alarms = [
        {
            "alert": rule.name,
            "expr": rule.query,
            "for": f"{rule.minutes}m",
            "annotations": {"description": rule.what},
        }
        for rule in ALERT_RULES
    ]
    return {"groups": [{"name": "pricing", "rules": alarms}]}


def dashboard() -> dict[str, Any]:
    """Grafana's dashboard, three panels to a row, most urgent first."""
    return {
        "uid": "pricing",
        "title": "Pricing",
        "schemaVersion": 39,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "panels": [_panel(number, panel) for number, panel in enumerate(PANELS)],
    }


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    row, column = divmod(number, 3)
    source = {"type": "prometheus", "uid": SOURCE}
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "datasource": source,
        "gridPos": {"x": 8 * column, "y": 8 * row, "w": 8, "h": 8},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + place), "expr": query, "legendFormat": legend, "datasource": source}
            for place, (legend, query) in enumerate(panel.queries.items())
        ],
    }
