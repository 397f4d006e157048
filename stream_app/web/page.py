"""The page at `/`: plain HTML, nothing loaded from anywhere."""

from __future__ import annotations

from html import escape

from stream_app.metrics import WorkerStats, version
from stream_app.web.ports import Readiness

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:46rem;padding:0 1rem;color-scheme:light dark}"
    "table{border-collapse:collapse}th,td{text-align:left;padding:.2rem 1.5rem .2rem 0;font-weight:400}"
    "td{font-variant-numeric:tabular-nums}h1{font-size:1.4rem}"
)


def page(readiness: Readiness, stats: WorkerStats, *, lookups: bool) -> str:
    """How the worker is, in a few numbers, and where to find the rest."""
    word = "Ready" if readiness.ready else f"Not ready: {readiness.reason.replace('_', ' ')}"
    rows = [
        ("Records committed", stats.records_total),
        ("Records waiting", stats.lag_total),
        ("Sessions", sum(stats.counted("sessions").values())),
        ("Conversions", sum(stats.counted("conversions").values())),
        ("Leads", sum(stats.counted("leads").values())),
        ("Dead letters", sum(stats.dead_letters.values())),
        ("Tasks", ", ".join(f"{n} {state}" for state, n in sorted(readiness.tasks.items()) if n) or "none"),
    ]
    table = "".join(f"<tr><th scope=row>{escape(name)}<td>{escape(str(value))}" for name, value in rows)
    lookup = (
        "<li><code>/clients/{id}</code>: one client, with the bearer token"
        if lookups
        else "<li>Lookups of a client are off: no <code>web.token</code> is set"
    )
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>stream-app: {escape(word)}</title><style>{_STYLE}</style>"
        f"<h1>stream-app {escape(version())}</h1><p role=status><strong>{escape(word)}</strong> "
        f"{escape(readiness.detail)}</p><table>{table}</table><ul>"
        "<li><a href=/health/ready>/health/ready</a> and <a href=/health/live>/health/live</a>"
        "<li><a href=/metrics>/metrics</a> for Prometheus"
        f"<li><code>/counters?dimension=channel</code>: tables of live counters{lookup}</ul></html>"
    )
