"""Clicks and conversions of each client → attributed sessions and conversions."""

from stream_app.processors.journeys.processor import JourneysProcessor

__all__ = ["JourneysProcessor"]
