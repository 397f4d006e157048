"""What a worker tells over HTTP: whether it lives, whether it is ready, what it measures, what it knows of one key."""

from stream_app.web.app import create_web
from stream_app.web.ports import NotReady, Queries, Readiness, StatusSource
from stream_app.web.server import WebServer

__all__ = ["NotReady", "Queries", "Readiness", "StatusSource", "WebServer", "create_web"]
