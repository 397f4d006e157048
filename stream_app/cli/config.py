"""`stream-app config`: check and show settings."""

from __future__ import annotations

from pathlib import Path

import click

from stream_app.cli.common import FAILED, common_options, fail, remembered, say, settings


@click.group(short_help="Check or show the settings.")
def config() -> None:
    """Check or show the settings: the file, with STREAM_APP_SECTION__KEY variables over it."""


@config.command(short_help="Say everything that is wrong with a settings file.")
@click.argument("file", type=click.Path(path_type=Path), required=False)
@common_options
def check(file: Path | None) -> None:
    """Says everything that is wrong with FILE (or --config); status 1 if anything is.

    The variables of the environment are put over it as for any other command.
    """
    from stream_app.settings import SettingsError

    path = file or remembered("config")
    if path is not None and not path.is_file():
        fail(f"{path} is not a file", 2)
    try:
        settings(path)
    except SettingsError as exc:
        say(str(exc))
        raise SystemExit(FAILED) from None
    click.echo(f"{path or 'the settings'}: good")


@config.command(short_help="Show the effective settings, without secrets.")
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--format", "form", type=click.Choice(["toml", "json"]), default="toml", show_default=True)
@common_options
def show(file: Path | None, form: str) -> None:
    """The effective settings of FILE (or --config), defaults and variables included, without secrets."""
    from stream_app.settings import show as as_toml

    text = as_toml(settings(file))
    if form == "json":
        import json
        import tomllib

        text = json.dumps(tomllib.loads(text), ensure_ascii=False, indent=2) + "\n"
    click.echo(text, nl=False)
