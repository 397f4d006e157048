"""Protection that was asked for is given, or nothing connects."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from stream_app.settings import SettingsError, parse
from stream_app.settings.security import client_options


def kafka(**security: object) -> Any:
    return parse({"kafka": {"security": security}}).kafka


@pytest.mark.parametrize(
    ("security", "key"),
    [
        ({"ca_file": "ca.pem"}, "protocol"),
        ({"username": "u", "password": "p"}, "protocol"),
        ({"protocol": "SSL", "username": "u"}, "protocol"),
        ({"protocol": "SASL_PLAINTEXT", "mechanism": "SCRAM-SHA-512", "username": "u", "password": "p", "ca_file": "x"},
         "protocol"),
        ({"protocol": "SASL_SSL"}, "mechanism"),
        ({"protocol": "SASL_SSL", "mechanism": "PLAIN", "password": "p"}, "username"),
        ({"protocol": "SASL_SSL", "mechanism": "PLAIN", "username": "u"}, "password"),
        ({"protocol": "SASL_SSL", "mechanism": "PLAIN", "username": "u", "password": "p", "password_file": "f"},
         "password"),
        ({"protocol": "SASL_PLAINTEXT", "mechanism": "PLAIN", "username": "u", "password": "p"}, "protocol"),
        ({"protocol": "SASL_SSL", "mechanism": "OAUTHBEARER"}, "token"),
        ({"protocol": "SASL_SSL", "mechanism": "OAUTHBEARER", "token_url": "https://id.example/t"}, "client_id"),
        ({"protocol": "SASL_SSL", "mechanism": "OAUTHBEARER", "token_url": "http://id.example/t", "client_id": "i",
          "client_secret": "s"}, "token_url"),
        ({"protocol": "SSL", "key_file": "k.pem"}, "certificate_file"),
    ],
)  # fmt: skip
def test_half_configured_protection_is_refused(security: dict[str, object], key: str) -> None:
    """Nothing falls back to less than was asked for."""
    with pytest.raises(SettingsError) as caught:
        parse({"kafka": {"security": security}})
    assert [problem.key for problem in caught.value.problems] == [f"kafka.security.{key}"]


def test_tls_always_verifies_the_broker() -> None:
    """A context with certificates required, TLS 1.2 at least, and host names checked unless told otherwise."""
    context = client_options(kafka(protocol="SSL"))["ssl_context"]
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    loose = client_options(kafka(protocol="SSL", verify_hostname=False))["ssl_context"]
    assert loose.verify_mode is ssl.CERT_REQUIRED
    assert not loose.check_hostname


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_certificates_that_cannot_be_used_stop_everything(content: str | None, tmp_path: Path) -> None:
    """A missing or broken file is named; there is no connection without it."""
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SettingsError, match=r"kafka\.security\.ca_file.*ca\.pem"):
        client_options(kafka(protocol="SSL", ca_file=str(path)))


def test_plain_options_without_security() -> None:
    """No TLS and no log-in unless asked for."""
    options = client_options(kafka())
    assert options["security_protocol"] == "PLAINTEXT"
    assert not {key for key in options if key.startswith(("sasl", "ssl"))}


def test_passwords_come_from_files(tmp_path: Path) -> None:
    """White space around the password is not part of it; an empty file is none."""
    path = tmp_path / "password"
    path.write_text("geheim\n")
    given = kafka(protocol="SASL_SSL", mechanism="SCRAM-SHA-512", username="u", password_file=str(path))
    assert client_options(given)["sasl_plain_password"] == "geheim"
    path.write_text("\n")
    with pytest.raises(SettingsError, match="empty"):
        client_options(given)


async def test_token_files_are_read_at_each_log_in(tmp_path: Path) -> None:
    """A renewed token is taken up."""
    path = tmp_path / "token"
    path.write_text("one")
    provider = client_options(kafka(protocol="SASL_SSL", mechanism="OAUTHBEARER", token_file=str(path)))[
        "sasl_oauth_token_provider"
    ]
    assert await provider.token() == "one"
    path.write_text("two")
    assert await provider.token() == "two"


async def test_tokens_come_from_an_oauth_server() -> None:
    """By client credentials, kept while they live; a refusal is an error that tells nothing secret."""
    asked = []

    async def give(request: web.Request) -> web.Response:
        asked.append((request.headers["Authorization"], dict(await request.post())))
        if len(asked) > 1:
            return web.Response(status=401, text="secret")
        return web.json_response({"access_token": "t1", "expires_in": 0})

    application = web.Application()
    application.router.add_post("/token", give)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        provider = client_options(
            kafka(
                protocol="SASL_SSL",
                mechanism="OAUTHBEARER",
                token_url=f"http://127.0.0.1:{port}/token",
                client_id="id",
                client_secret="secret",
                scope="kafka",
            )
        )["sasl_oauth_token_provider"]
        assert await provider.token() == "t1"
        assert asked[0][1] == {"grant_type": "client_credentials", "scope": "kafka"}
        with pytest.raises(PermissionError, match="401") as caught:
            await provider.token()
        assert "secret" not in str(caught.value)
    finally:
        await runner.cleanup()
