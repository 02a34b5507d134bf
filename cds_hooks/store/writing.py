"""Inserting what may be there already: the one statement that both databases have, each in its dialect."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Insert, Table
from sqlalchemy.dialects import postgresql, sqlite


def insert_new(table: Table, is_sqlite: bool) -> Insert:
    """Insert a row unless its primary key is taken; `rowcount` tells."""
    statement: Insert = _insert(table, is_sqlite).on_conflict_do_nothing(index_elements=list(table.primary_key))
    return statement


def insert_or_take(table: Table, is_sqlite: bool, values: dict[str, Any], free: Any) -> Insert:
    """Insert a row, or overwrite the one with its key if the condition `free` holds for that; `rowcount` tells."""
    keys = list(table.primary_key)
    changed = {name: value for name, value in values.items() if name not in {key.name for key in keys}}
    inserted = _insert(table, is_sqlite).values(values)
    statement: Insert = inserted.on_conflict_do_update(index_elements=keys, set_=changed, where=free)
    return statement


def _insert(table: Table, is_sqlite: bool) -> Any:
    statement = sqlite.insert(table) if is_sqlite else postgresql.insert(table)
    return statement.execution_options(preserve_rowcount=True)  # otherwise some drivers do not tell it for inserts
