"""What is given to databases downstream: SQL that parses, connector files that fit it and the topics."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import sqlglot
from sqlglot import exp

from stream_app.topics import OUTPUTS

SINKS = Path(__file__).resolve().parents[2] / "deploy" / "sinks"
DIALECTS = {"postgresql": "postgres", "clickhouse": "clickhouse"}
FILES = sorted(SINKS.glob("*/*.sql"))


def statements(path: Path) -> list[exp.Expression | None]:
    return sqlglot.parse(path.read_text(), dialect=DIALECTS[path.parent.name])


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_the_sql_parses(path: Path) -> None:
    """In its own dialect; the parser takes only PostgreSQL's functions and triggers as they are."""
    found = [statement for statement in statements(path) if statement is not None]
    assert found
    unread = [s.sql() for s in found if isinstance(s, exp.Command)]
    assert all(re.match(r"CREATE (FUNCTION|TRIGGER)", text) for text in unread), unread
    for kind in (exp.Create,):
        assert sum(isinstance(s, kind) for s in found) >= 2


def test_what_keeps_the_last_revision_parses() -> None:
    """The body of PostgreSQL's trigger function, statement by statement."""
    text = (SINKS / "postgresql" / "schema.sql").read_text()
    body = text[text.index("BEGIN\n") : text.index("RETURN NULL")]
    inner = re.findall(r"(?:DELETE|INSERT) .*?;", body, re.DOTALL)
    assert len(inner) == 2
    for statement in inner:
        (parsed,) = sqlglot.parse(statement.rstrip(";"), dialect="postgres")
        assert isinstance(parsed, exp.Delete | exp.Insert)
    assert "EXCLUDED.revision > kept.revision" in body


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_table_that_is_read_is_made(path: Path) -> None:
    """No view stands on a name that nothing makes."""
    made = set()
    for sql in sorted(path.parent.glob("*.sql"), key=lambda p: p.name != "schema.sql"):
        for statement in statements(sql):
            if isinstance(statement, exp.Create):
                made.add(statement.find(exp.Table).name)  # type: ignore[union-attr]
    for statement in statements(path):
        if isinstance(statement, exp.Create) and statement.kind == "VIEW":
            read = {table.name for table in statement.expression.find_all(exp.Table)}
            assert {name for name in read if name.startswith("stream_app")} <= made


@pytest.mark.parametrize("name", DIALECTS)
def test_connectors_read_committed_outputs_into_the_inbox(name: str) -> None:
    """Topics that there are, isolation, no secret, and the columns of the table."""
    connector = json.loads((SINKS / name / "connector.json").read_text())
    config = connector["config"]
    assert set(config["topics"].split(",")) <= set(OUTPUTS)
    assert config["consumer.override.isolation.level"] == "read_committed"
    assert all(isinstance(value, str) for value in config.values())
    for key, value in config.items():
        if "password" in key or "user" in key:
            assert value.startswith("${env:"), key
    transforms = config["transforms"].split(",")
    assert {key.split(".")[1] for key in config if key.startswith("transforms.")} == set(transforms)
    columns = {config["transforms.wrap.field"], config["transforms.topic.topic.field"]}
    columns |= {config["pk.fields"]} if "pk.fields" in config else set()
    (inbox,) = [
        statement
        for statement in statements(SINKS / name / "schema.sql")
        if isinstance(statement, exp.Create)
        and statement.kind == "TABLE"
        and statement.find(exp.Table).name == "stream_app_inbox"  # type: ignore[union-attr]
    ]
    assert columns == {column.name for column in inbox.find_all(exp.ColumnDef)}
    target = config.get("table.name.format") or config["topic2TableMap"]
    assert set(re.findall(r"stream_app_\w+", target)) == {"stream_app_inbox"}
