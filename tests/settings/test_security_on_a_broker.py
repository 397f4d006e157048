"""TLS and log-in against a real broker that demands them."""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stream_app.devtools.broker import Broker
from stream_app.devtools.ports import free_ports
from stream_app.settings import parse
from stream_app.topics import TopicError, admin

pytestmark = [pytest.mark.broker, pytest.mark.slow]

PASSWORD = "a broker's pass"
ANNA = {"username": "anna", "password": "geheim"}


class Secured:
    """A broker with a TLS listener, one that wants a client certificate, and log-ins with and without TLS."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ca = directory / "ca.pem"
        client, controller, self.tls, self.mutual, self.sasl, self.open_sasl = free_ports(6)
        self.environment = {key: value for key, value in os.environ.items() if key != "KAFKA_BOOTSTRAP"}
        self._certificates()
        broker_home = directory / "broker"
        broker_home.mkdir()
        # The ports that the broker remembers: they must be known to be written into its listeners.
        (broker_home / "ports").write_text(f"{client}\n{controller}")
        jaas = "org.apache.kafka.common.security"
        names = {"PLAINTEXT": client, "TLS": self.tls, "MUTUAL": self.mutual, "SASL": self.sasl, "OPEN": self.open_sasl}
        places = [f"{name}://127.0.0.1:{port}" for name, port in names.items()]
        properties = {
            "listeners": ",".join([*places, f"CONTROLLER://127.0.0.1:{controller}"]),
            "advertised.listeners": ",".join(places),
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,TLS:SSL,MUTUAL:SSL,"
            "SASL:SASL_SSL,OPEN:SASL_PLAINTEXT",
            "ssl.keystore.location": str(directory / "broker.p12"),
            "ssl.keystore.password": PASSWORD,
            "ssl.keystore.type": "PKCS12",
            "ssl.truststore.location": str(directory / "trusted.p12"),
            "ssl.truststore.password": PASSWORD,
            "ssl.truststore.type": "PKCS12",
            "listener.name.mutual.ssl.client.auth": "required",
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER",
        }
        for listener in ("sasl", "open"):
            prefix = f"listener.name.{listener}"
            properties |= {
                f"{prefix}.plain.sasl.jaas.config": f'{jaas}.plain.PlainLoginModule required user_anna="geheim";',
                f"{prefix}.scram-sha-256.sasl.jaas.config": f"{jaas}.scram.ScramLoginModule required;",
                f"{prefix}.scram-sha-512.sasl.jaas.config": f"{jaas}.scram.ScramLoginModule required;",
                f"{prefix}.oauthbearer.sasl.jaas.config": f"{jaas}.oauthbearer.OAuthBearerLoginModule required "
                'unsecuredLoginStringClaim_sub="broker";',
            }
        self.home, self.properties = broker_home, properties

    def _certificates(self) -> None:
        self._keytool(
            "-genkeypair", "-alias", "broker", "-keyalg", "RSA", "-dname", "CN=broker", "-validity", "2",
            "-ext", "SAN=IP:127.0.0.1", "-ext", "BC:critical=ca:true", "-keystore", "broker.p12",
        )  # fmt: skip
        self._keytool("-exportcert", "-rfc", "-alias", "broker", "-keystore", "broker.p12", "-file", "ca.pem")
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-days", "2", "-subj", "/CN=worker"),
                *("-keyout", "client.key", "-passout", "pass:klar", "-out", "client.pem"),
            ],
            cwd=self.directory,
            check=True,
            capture_output=True,
        )
        self._keytool("-importcert", "-noprompt", "-alias", "w", "-file", "client.pem", "-keystore", "trusted.p12")

    def _keytool(self, *arguments: str) -> None:
        subprocess.run(
            ["keytool", *arguments, "-storetype", "PKCS12", "-storepass", PASSWORD],
            cwd=self.directory,
            check=True,
            capture_output=True,
        )

    def add_users(self, bootstrap: str) -> None:
        """SCRAM's users are kept by the cluster."""
        from confluent_kafka.admin import (
            AdminClient,
            ScramCredentialInfo,
            ScramMechanism,
            UserScramCredentialUpsertion,
        )

        client = AdminClient({"bootstrap.servers": bootstrap})
        for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
            change = UserScramCredentialUpsertion("anna", ScramCredentialInfo(mechanism, 4096), b"geheim")
            for future in client.alter_user_scram_credentials([change]).values():
                future.result(20)

    def topics(self, port: int, **security: object) -> list[str]:
        """Asks for the topics. Raises TopicError when the broker isn't reached."""
        kafka = parse(
            {"kafka": {"bootstrap": f"127.0.0.1:{port}", "request_timeout_ms": 4000, "security": security}}
        ).kafka

        async def ask() -> list[str]:
            async with admin(kafka) as client:
                names: list[str] = await client.list_topics()
                return names

        return asyncio.run(asyncio.wait_for(ask(), 30))


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    if not (shutil.which("keytool") and shutil.which("openssl") and shutil.which("java")):
        pytest.skip("certificates are made with keytool and openssl, and Java runs the broker")
    made = Secured(tmp_path_factory.mktemp("secured"))
    with Broker.start(1, made.home, made.properties, own=True) as broker:
        made.add_users(broker.bootstrap)
        yield made


@pytest.fixture(autouse=True)
def aiokafka_leaves_sockets() -> Iterator[None]:
    """A connection whose handshake failed is left to the garbage collector, which warns."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def unsigned_token() -> str:
    """As the broker's default validator for development takes it: a JWT without signature."""

    def part(content: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")

    now = time.time()
    return f"{part({'alg': 'none'})}.{part({'sub': 'anna', 'iat': now, 'exp': now + 600})}."


def test_tls_with_the_right_authority(secured: Secured) -> None:
    """And the name in the certificate is checked: it is for 127.0.0.1."""
    assert secured.topics(secured.tls, protocol="SSL", ca_file=str(secured.ca)) is not None


def test_an_unknown_authority_is_refused(secured: Secured) -> None:
    """The broker's certificate is not in the system's store: no connection, and no fallback."""
    with pytest.raises(TopicError, match="no broker answers"):
        secured.topics(secured.tls, protocol="SSL")


def test_plain_text_does_not_reach_a_tls_listener(secured: Secured) -> None:
    """It fails in time, in words."""
    with pytest.raises(TopicError, match="no broker answers"):
        secured.topics(secured.tls)


def test_mutual_tls_needs_the_certificate(secured: Secured) -> None:
    """With a key under a password."""
    files = {
        "ca_file": str(secured.ca),
        "certificate_file": str(secured.directory / "client.pem"),
        "key_file": str(secured.directory / "client.key"),
        "key_password": "klar",
    }
    assert secured.topics(secured.mutual, protocol="SSL", **files) is not None
    with pytest.raises(TopicError, match="no broker answers"):
        secured.topics(secured.mutual, protocol="SSL", ca_file=str(secured.ca))


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_log_in_by_password(secured: Secured, mechanism: str) -> None:
    """The right one is let in, a wrong one is not."""
    common = {"protocol": "SASL_SSL", "mechanism": mechanism, "ca_file": str(secured.ca)}
    assert secured.topics(secured.sasl, **common, **ANNA) is not None
    with pytest.raises(TopicError, match="no broker answers"):
        secured.topics(secured.sasl, **common, username="anna", password="falsch")


def test_log_in_by_bearer_token(secured: Secured) -> None:
    """From a file."""
    path = secured.directory / "token"
    path.write_text(unsigned_token())
    found = secured.topics(
        secured.sasl, protocol="SASL_SSL", mechanism="OAUTHBEARER", ca_file=str(secured.ca), token_file=str(path)
    )
    assert found is not None


def test_scram_without_tls(secured: Secured) -> None:
    """Allowed: the password itself never travels."""
    assert secured.topics(secured.open_sasl, protocol="SASL_PLAINTEXT", mechanism="SCRAM-SHA-512", **ANNA) is not None


def test_a_worker_runs_behind_tls_and_log_in(secured: Secured, tmp_path: Path, topic_prefix: str) -> None:
    """Consumer, transactional producers, recovery and admin all use the settings."""
    config = tmp_path / "app.toml"
    config.write_text(f"""
[kafka]
bootstrap = "127.0.0.1:{secured.sasl}"
topic_prefix = "{topic_prefix}"
app_id = "{topic_prefix}app"
partitions = 2
[kafka.security]
protocol = "SASL_SSL"
mechanism = "SCRAM-SHA-512"
ca_file = "{secured.ca}"
username = "anna"
[engine]
state_directory = "{tmp_path / "state"}"
[web]
port = {free_ports(1)[0]}
""")
    environment = {**secured.environment, "STREAM_APP_KAFKA__SECURITY__PASSWORD": "geheim"}
    command = [sys.executable, "-m", "stream_app.cli.main", "--config", str(config)]
    subprocess.run([*command, "topics", "create"], env=environment, check=True, capture_output=True, timeout=60)
    with (tmp_path / "log").open("wb") as log:
        worker = subprocess.Popen([*command, "worker"], env=environment, stderr=log, stdout=log)
    try:
        port = parse({}, {"STREAM_APP_WEB__PORT": config.read_text().split("port = ")[1].strip()}).web.port
        assert _ready(f"http://127.0.0.1:{port}/health/ready", 40), (tmp_path / "log").read_text()
        worker.terminate()
        assert worker.wait(30) == 0
        assert "geheim" not in (tmp_path / "log").read_text()
    finally:
        if worker.poll() is None:
            worker.kill()
            worker.wait()


def _ready(url: str, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < deadline:
        try:
            with opener.open(url, timeout=2) as answer:
                if answer.status == 200:
                    return True
        except OSError:
            pass
        time.sleep(0.3)
    return False
