"""From settings to the options that every aiokafka client takes: addresses, TLS and log-in, failing closed."""

from __future__ import annotations

import asyncio
import ssl
import time
from base64 import b64encode
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

from stream_app.settings.errors import read_secret, unusable

if TYPE_CHECKING:
    from stream_app.settings.model import Kafka, Security


def client_options(kafka: Kafka) -> dict[str, Any]:
    """Keyword arguments for AIOKafkaConsumer, AIOKafkaProducer and AIOKafkaAdminClient alike.

    Raises `SettingsError` when a file named in the settings cannot be used: nothing connects with less protection
    than was asked for.
    """
    security = kafka.security
    options: dict[str, Any] = {
        "bootstrap_servers": kafka.servers,
        "security_protocol": security.protocol,
        "request_timeout_ms": kafka.request_timeout_ms,
    }
    if security.protocol in {"SSL", "SASL_SSL"}:
        options["ssl_context"] = _tls(security)
    if security.protocol in {"SASL_PLAINTEXT", "SASL_SSL"}:
        options["sasl_mechanism"] = security.mechanism
        if security.mechanism == "OAUTHBEARER":
            options["sasl_oauth_token_provider"] = _token_provider(security)
        else:
            options["sasl_plain_username"] = security.username
            options["sasl_plain_password"] = security.password or read_secret(
                "kafka.security.password_file", security.password_file
            )
    return options


def _tls(security: Security) -> ssl.SSLContext:
    """A context that always verifies the broker's certificate."""
    try:
        context = ssl.create_default_context(cafile=security.ca_file or None)
    except (OSError, ssl.SSLError) as exc:
        raise unusable("kafka.security.ca_file", security.ca_file, exc) from exc
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = security.verify_hostname
    if security.certificate_file:
        try:
            context.load_cert_chain(
                security.certificate_file,
                security.key_file or None,
                # A function, so that a key without its password fails instead of asking on the terminal.
                password=lambda: security.key_password,
            )
        except (OSError, ssl.SSLError) as exc:
            raise unusable("kafka.security.certificate_file", security.certificate_file, exc) from exc
    return context


def _token_provider(security: Security) -> Any:
    from aiokafka.abc import AbstractTokenProvider

    class Provider(AbstractTokenProvider):  # type: ignore[misc]  # aiokafka ships no types
        """Gives the token at each log-in, so that a renewed one is taken up."""

        def __init__(self) -> None:
            self._lock = asyncio.Lock()
            self._token = ""
            self._fresh_until = 0.0

        async def token(self) -> str:
            if security.token:
                return security.token
            if security.token_file:
                return await asyncio.to_thread(read_secret, "kafka.security.token_file", security.token_file)
            async with self._lock:
                if time.monotonic() >= self._fresh_until:
                    self._token, lifetime_s = await _fetch_token(security)
                    self._fresh_until = time.monotonic() + lifetime_s * 0.8
                return self._token

    if security.token_file:
        read_secret("kafka.security.token_file", security.token_file)
    return Provider()


async def _fetch_token(security: Security) -> tuple[str, float]:
    """(token, seconds it lives) from the OAuth 2 endpoint, by client credentials."""
    import aiohttp

    form = {"grant_type": "client_credentials"}
    if security.scope:
        form["scope"] = security.scope
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session,
        session.post(
            security.token_url, data=form, headers={"Authorization": _basic(security.client_id, security.client_secret)}
        ) as answer,
    ):
        if answer.status != 200:
            # The body is not quoted: it may repeat what was sent.
            raise PermissionError(f"{security.token_url} answered {answer.status} to the request for a token")
        body = await answer.json(content_type=None)
    return str(body["access_token"]), float(body.get("expires_in", 300))


def _basic(name: str, secret: str) -> str:
    """HTTP Basic as OAuth wants it: both parts form-encoded first (RFC 6749, 2.3.1)."""
    return "Basic " + b64encode(f"{quote_plus(name)}:{quote_plus(secret)}".encode()).decode()


__all__ = ["client_options"]
