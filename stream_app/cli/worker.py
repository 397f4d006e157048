"""`stream-app worker`: process until told to stop."""

from __future__ import annotations

import click

from stream_app.cli.common import common_options, settings, start_logging


@click.command(short_help="Join the group and process until told to stop.")
@click.option("--state-directory", metavar="DIR", help="In place of engine.state_directory: one per worker.")
@click.option("--port", metavar="PORT", help="In place of web.port; 0 takes any free one, printed at start.")
@click.option("--instance-id", metavar="NAME", help="In place of engine.group_instance_id: static membership.")
@common_options
def worker(state_directory: str | None, port: str | None, instance_id: str | None) -> None:
    """Joins the consumer group of kafka.app_id and processes its share of the partitions.

    SIGTERM or Ctrl-C commits what is taken, within engine.shutdown_deadline_s, and ends with status 0. The topics
    must exist: `stream-app topics create`.
    """
    config = settings(engine__state_directory=state_directory, web__port=port, engine__group_instance_id=instance_id)
    start_logging()
    from stream_app.app import run_worker

    run_worker(config)
