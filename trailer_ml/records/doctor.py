"""The machine: one thing that was looked at on it."""

from __future__ import annotations

from trailer_ml.records.base import Record


class Check(Record):
    """One thing that was looked at on this machine."""

    name: str
    is_ok: bool
    detail: str
    """What is there, or what is wrong."""
    fix: str = ""
    """What to do about it; empty where nothing is wrong."""
