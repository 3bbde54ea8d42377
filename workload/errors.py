"""The root error, and the classes that every floor above tells apart."""

from __future__ import annotations


class MigrascopeError(Exception):
    """Our own error: one line for the reader (subject, what happened, what was wanted, where to look)."""

    exit_status = 1


class BadValueError(MigrascopeError):
    """A value that was given is not one that can be used; nothing has been started."""

    exit_status = 2


class UnsupportedError(MigrascopeError):
    """Something that is wanted is missing here; found before the guest runs."""

    exit_status = 6


class BrokenError(MigrascopeError):
    """Our side or the host failed, not the migration: a deadline, no answer on QMP, a full disk."""

    exit_status = 7
