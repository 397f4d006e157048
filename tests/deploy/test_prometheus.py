"""Alerts are valid, fire when they should, and speak of metrics that exist."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from stream_app.metrics import METRICS, PREFIX, Metric
from tests.conftest import ROOT

DIRECTORY = ROOT / "deploy" / "prometheus"
RULES = yaml.safe_load((DIRECTORY / "alerts.yml").read_text())
ALERTS = [rule for group in RULES["groups"] for rule in group["rules"]]

WITHOUT_ALERT = {
    "domain_events_total": "names are a processor's own",
    "sessions_open": "any number is right",
    "counters_live": "any number is right, and counters.values bounds it",
    "leads": "any number is right",
    "referral_overflow_total": "sums stay right; only who wants each of many thousand codes shown misses any",
    "lead_caps_total": "a lead with more than 200 updates is a matter of the CRM",
    "rewards": "any number is right",
    "codes_displaced_total": "as rare as enrolments that come late; whoever lost the code is told by a dead letter",
    "refunds_cut_total": "the shop's books tell; the order counts as wholly refunded",
    "erasures_total": "any number is right",
    "referral_caps_total": "the bound is far above what one referrer brings",
}
"""Metrics that call for nobody, with the reason."""


def _promtool(*arguments: str) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool (Debian package prometheus) is not installed")
    result = subprocess.run(["promtool", *arguments], cwd=DIRECTORY, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_promtool_accepts_configuration_and_rules() -> None:
    """Prometheus would start with these files."""
    _promtool("check", "config", "prometheus.yml")
    _promtool("check", "rules", "alerts.yml")


def test_alerts_fire_on_their_cases_and_only_there() -> None:
    """The cases of alerts.test.yml hold."""
    _promtool("test", "rules", "alerts.test.yml")


def _series(metric: Metric) -> set[str]:
    name = PREFIX + metric.name
    return {f"{name}_{part}" for part in ("bucket", "sum", "count")} if metric.kind == "histogram" else {name}


def test_alerts_speak_of_metrics_that_exist() -> None:
    """No alert can be silent for ever because of a wrong name."""
    exported = set().union(*map(_series, METRICS))
    used = {name for alert in ALERTS for name in re.findall(rf"\b{PREFIX}\w+", alert["expr"])}
    assert used <= exported


def test_labels_in_alerts_exist() -> None:
    """A matcher on a label that a metric lacks would never match."""
    labels = {PREFIX + metric.name: set(metric.labels) for metric in METRICS}
    for alert in ALERTS:
        for name, matchers in re.findall(rf"\b({PREFIX}\w+?)(?:_bucket)?\{{([^}}]*)\}}", alert["expr"]):
            assert set(re.findall(r"(\w+)\s*[=!]", matchers)) <= labels[name], alert["alert"]


def test_every_metric_has_an_alert_or_a_reason_to_have_none() -> None:
    """A new metric makes somebody think about who must act on it."""
    text = " ".join(alert["expr"] for alert in ALERTS)
    silent = {metric.name for metric in METRICS if not any(re.search(rf"\b{s}\b", text) for s in _series(metric))}
    assert silent == set(WITHOUT_ALERT)


@pytest.mark.parametrize("alert", ALERTS, ids=[alert["alert"] for alert in ALERTS])
def test_an_alert_says_how_urgent_it_is_and_what_to_do(alert: dict[str, dict[str, str]]) -> None:
    """Whoever is woken up gets more than a name."""
    assert alert["labels"]["severity"] in {"page", "ticket"}
    assert alert["annotations"]["summary"].endswith(".")
    assert len(alert["annotations"]["description"]) > 20


def test_prometheus_reads_the_files_that_compose_mounts() -> None:
    """Paths in docker-compose.yml and in prometheus.yml are of one mind."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    mounted = {Path(volume.split(":")[0]).name for volume in compose["services"]["prometheus"]["volumes"]}
    assert {"prometheus.yml", *yaml.safe_load((DIRECTORY / "prometheus.yml").read_text())["rule_files"]} <= mounted
