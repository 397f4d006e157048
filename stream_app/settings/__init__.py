"""The settings: one typed object, read from a TOML file and the environment, checked before anything starts."""

from stream_app.settings.errors import Problem, SettingsError
from stream_app.settings.loading import load, parse
from stream_app.settings.model import (
    Attribution,
    Condition,
    Costs,
    CustomModel,
    Engine,
    Goal,
    Kafka,
    OfflineSource,
    Program,
    Security,
    Sessions,
    Settings,
    Site,
    SourceRule,
    Sources,
    Web,
)
from stream_app.settings.show import show

__all__ = [
    "Attribution",
    "Condition",
    "Costs",
    "CustomModel",
    "Engine",
    "Goal",
    "Kafka",
    "OfflineSource",
    "Problem",
    "Program",
    "Security",
    "Sessions",
    "Settings",
    "SettingsError",
    "Site",
    "SourceRule",
    "Sources",
    "Web",
    "load",
    "parse",
    "show",
]
