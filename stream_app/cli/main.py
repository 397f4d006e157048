"""The group of commands. Each command's module is imported only when it runs, so that `--help` is quick."""

from __future__ import annotations

import difflib
import gzip
import importlib
import sys
import zlib
from typing import Any

import click

from stream_app.cli.common import FAILED, WRONG_USE, common_options, remembered, say

COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("stream_app.cli.demo:demo", "Worker, simulated traffic and a live view, on a broker of its own."),
    "worker": ("stream_app.cli.worker:worker", "Join the group and process until told to stop."),
    "topics": ("stream_app.cli.topics:topics", "Create, check or describe the topics."),
    "replay": ("stream_app.cli.replay:replay", "The whole pipeline over files, without a broker."),
    "classify": ("stream_app.cli.classify:classify", "Source and channel of clicks, one a line."),
    "credit": ("stream_app.cli.credit:credit", "Credit of conversions by every model, one a line."),
    "reference": ("stream_app.cli.reference:reference", "Check, compare and refresh the reference tables."),
    "counters": ("stream_app.cli.counters:counters", "Tables of live counters: by channel, campaign, goal, …"),
    "report": ("stream_app.cli.report:report", "A period beside the one before, and the deals with their chains."),
    "dlq": ("stream_app.cli.dlq:dlq", "List, show or replay dead letters."),
    "programs": ("stream_app.cli.programs:programs", "Check referral programmes, and what they would pay."),
    "rewards": ("stream_app.cli.rewards:rewards", "Rewards of one partner: as JSON, CSV or a page."),
    "state": ("stream_app.cli.state:state", "What the workers know of one client, lead or partner."),
    "simulate": ("stream_app.cli.simulate:simulate", "Believable traffic at a given rate, with faults on request."),
    "bench": ("stream_app.cli.bench:bench", "Measure throughput, latency, memory and recovery."),
    "config": ("stream_app.cli.config:config", "Check or show the settings."),
}


class LazyGroup(click.Group):
    """Commands by name, imported when needed; errors that explain themselves become a message and a status."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        """All of them, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # click's signature
        """Imports the command."""
        if cmd_name not in COMMANDS:
            return None
        path, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(path), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  # click's signature
        """The list in the help, without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Says what may have been meant."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as exc:
            close = difflib.get_close_matches(args[0], COMMANDS, n=1)
            if close:
                exc.message += f" Did you mean {close[0]}?"
            raise

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command; settings that cannot be used are wrong use, what a broker refuses is a failure."""
        from stream_app.settings import SettingsError

        try:
            return super().invoke(ctx)
        except SettingsError as exc:
            say(str(exc))
            sys.exit(WRONG_USE)
        except (EOFError, gzip.BadGzipFile, zlib.error) as exc:
            say(f"stream-app: a compressed file is damaged: {exc}")
            sys.exit(FAILED)
        except Exception as exc:
            if not _expected(exc):
                raise
            say(f"stream-app: {exc}")
            sys.exit(FAILED)


def _expected(exc: Exception) -> bool:
    """Whether the text of the exception is all that a user needs. Looks at modules only if they are in use."""
    names = {"stream_app.topics": "TopicError", "stream_app.dlq": "DlqError", "aiokafka.errors": "KafkaError"}
    kinds = [getattr(sys.modules[module], name) for module, name in names.items() if module in sys.modules]
    return isinstance(exc, tuple(kinds))


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="`stream-app COMMAND --help` tells more. Exit status: 0 good, 1 a failure, 2 wrong use.",
)
@common_options
@click.version_option(package_name="stream-app", prog_name="stream-app")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Marketing attribution on Apache Kafka: sessions, journeys and credit, exactly once."""
    if (config := remembered("config")) is not None:
        # For commands with a --config option of their own.
        ctx.default_map = {name: {"config": str(config)} for name in COMMANDS}


if __name__ == "__main__":
    main()
