"""`stream-app topics`: create, check and describe topics."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import click

from stream_app.cli.common import FAILED, common_options, say, settings

if TYPE_CHECKING:
    from stream_app.settings import Settings
    from stream_app.topics import Difference, Timestamps

_FATAL = {"partitions", "cleanup.policy", "missing"}
"""Differences with which a worker would not start, or would lose records."""


@click.group(short_help="Create, check or describe the topics.")
def topics() -> None:
    """Create, check or describe the topics that the settings ask for."""


@topics.command(short_help="Create the topics that are missing.")
@click.option(
    "--timestamps",
    type=click.Choice(["append", "create"]),
    default="append",
    show_default=True,
    help="Record timestamps of the inputs: the broker's (live traffic), or the producer's, which must never decrease "
    "(backfills).",
)
@common_options
def create(timestamps: Timestamps) -> None:
    """Creates the topics that are missing. Those that exist are left as they are; differences are said.

    Status 1 if an existing topic has the wrong number of partitions or would be compacted away.
    """
    created, differences = asyncio.run(_create(settings(), timestamps))
    for name in created:
        click.echo(f"created {name}")
    if not created:
        say("all topics exist")
    for difference in differences:
        say(str(difference))
    if any(difference.what in _FATAL for difference in differences):
        raise SystemExit(FAILED)


@topics.command(short_help="Name each way in which a topic is not as it must be.")
@click.option("--timestamps", type=click.Choice(["append", "create"]), help="Also check the inputs' timestamps.")
@click.option("--live", is_flag=True, help="Only the topics that this release reads or writes.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a difference: {topic, what, message}.")
@common_options
def check(timestamps: Timestamps | None, live: bool, as_json: bool) -> None:
    """Names each way in which a topic is not as it must be; status 1 if there is any."""
    differences = asyncio.run(_check(settings(), timestamps, live))
    for difference in differences:
        if as_json:
            line = {"topic": difference.topic, "what": difference.what, "message": difference.message}
            click.echo(json.dumps(line, ensure_ascii=False))
        else:
            click.echo(str(difference))
    if differences:
        raise SystemExit(FAILED)
    say("all topics are as they must be")


@topics.command(short_help="Show role, key and configuration of every topic.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a topic.")
@common_options
def describe(as_json: bool) -> None:
    """Shows every topic: its role, key, and how it is set up on the broker."""
    rows = asyncio.run(_describe(settings()))
    for row in rows:
        if as_json:
            click.echo(json.dumps(row, ensure_ascii=False))
            continue
        place = (
            f"{row['partitions']} partitions, {row['replication']} copies, {row['in_sync']} in sync"
            if row["exists"]
            else "does not exist"
        )
        use = "" if row["live"] else " (not used yet)"
        click.echo(f"{row['topic']}\n    {row['role']}, key {row['key']}{use}: {place}")
        for key, value in row["config"].items():
            click.echo(f"    {key} = {value}")


async def _create(config: Settings, timestamps: Timestamps) -> tuple[list[str], list[Difference]]:
    from stream_app import topics as catalogue

    wanted = catalogue.Catalogue(config.kafka, timestamps)
    async with catalogue.admin(config.kafka) as client:
        created = await catalogue.create(wanted, client)
        return created, await catalogue.check(wanted, client, timestamps=timestamps)


async def _check(config: Settings, timestamps: Timestamps | None, live: bool) -> list[Difference]:
    from stream_app import topics as catalogue

    async with catalogue.admin(config.kafka) as client:
        return await catalogue.check(catalogue.Catalogue.of(config), client, live_only=live, timestamps=timestamps)


async def _describe(config: Settings) -> list[dict[str, Any]]:
    from stream_app import topics as catalogue

    wanted = catalogue.Catalogue.of(config)
    async with catalogue.admin(config.kafka) as client:
        found = await catalogue.describe(wanted, client)
    rows = []
    for topic in wanted.topics.values():
        there = found.get(topic.logical)
        rows.append(
            {
                "topic": topic.name,
                "logical": topic.logical,
                "role": topic.role,
                "key": topic.key,
                "live": topic.live,
                "exists": there is not None,
                "partitions": there.partitions if there else topic.partitions,
                "replication": there.replication if there else topic.replication,
                "in_sync": there.in_sync if there else 0,
                "config": dict(there.config) if there else dict(topic.config),
            }
        )
    return rows
