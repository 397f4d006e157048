"""Wiring: from settings to a running worker, a replay or a demo. The only place that knows all parts."""

from stream_app.app.replay import ReplayReport, ReplayRequest, run_replay
from stream_app.app.topology import build_topology
from stream_app.app.worker import run_worker

__all__ = ["ReplayReport", "ReplayRequest", "build_topology", "run_replay", "run_worker"]
