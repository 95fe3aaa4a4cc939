"""Every error this project raises on purpose, in one tree, split by what matters at night: try again or not?

    TrailerError
    ├── RetryableError              the same call may work later; Airflow retries the task
    │   ├── StoreUnavailableError   the object store does not answer
    │   ├── RateLimitedError        a source said "wait" (retry_after_s says how long)
    │   ├── SourceUnavailableError  a source does not answer, or too many of its pages fail
    │   ├── LocalFaultError         this machine is in the way: a full disk, a folder that cannot be written
    │   ├── ConflictError           somebody else swapped the pointer first
    │   ├── ChildTimeoutError       a child process ran past its time and was killed
    │   ├── ChildKilledError        a signal ended a child process: by hand, or for want of memory
    │   └── StoppedError            SIGTERM ended a training; the next try goes on from its last checkpoint
    └── PermanentError              trying again gives the same answer; Airflow does not retry
        ├── SettingsError           a setting is unknown or wrong
        ├── MissingObjectError      the store has no such object
        ├── UnknownTrailerError     no such trailer id (message names the closest ones)
        ├── MediaError              this file cannot be used as a trailer (reason says why)
        ├── SourceBlockedError      a source answers robots with a challenge; we stop and say so
        ├── CorruptShardError       a shard's bytes do not match its manifest
        ├── TooManyLossesError      more of a batch was lost than the settings allow
        ├── DataError               the data cannot be learned from (too few films, one genre only, ...)
        ├── CollapseError           training maps everything to one point, or its loss is no number
        ├── NoModelError            no model has been promoted yet
        ├── NoIndexError            no index has been published yet
        ├── ModelMismatchError      an index, a vector or a checkpoint belongs to another model
        └── ChildFailedError        a child process ended with an error (stderr_tail holds its last words)

Does not belong here: handling. Who can do something about an error catches it there, by class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class TrailerError(Exception):
    """Base of all; its message is one clear line for a person.

    Args:
        message: what happened and, where there is one, the fix.
        trailer_id: the trailer concerned, if it is one.
        stderr_tail: the last words of a child process, if there was one.
    """

    def __init__(self, message: str, *, trailer_id: str | None = None, stderr_tail: str = "") -> None:
        super().__init__(message)
        self.trailer_id = trailer_id
        self.stderr_tail = stderr_tail


class RetryableError(TrailerError):
    """The same call may work later."""


class StoreUnavailableError(RetryableError, ConnectionError):
    """The object store does not answer."""


class RateLimitedError(RetryableError):
    """A source said "wait".

    Args:
        message: what happened.
        retry_after_s: seconds the source asked for, or our own guess.
        trailer_id: the trailer concerned, if it is one.
    """

    def __init__(self, message: str, *, retry_after_s: float, trailer_id: str | None = None) -> None:
        super().__init__(message, trailer_id=trailer_id)
        self.retry_after_s = retry_after_s


class SourceUnavailableError(RetryableError, ConnectionError):
    """A source does not answer, or so many of its pages fail that what it says cannot be relied on."""


class LocalFaultError(RetryableError, OSError):
    """This machine is in the way: a full disk, a folder that cannot be written, a program that is not there."""


class ConflictError(RetryableError):
    """Somebody else swapped the pointer between our read and our write."""


class ChildTimeoutError(RetryableError, TimeoutError):
    """A child process ran past its time and was killed."""


class ChildKilledError(RetryableError):
    """A signal ended a child process: somebody killed it, the machine ran out of memory, or it crashed.

    Args:
        message: which child, and which signal.
        returncode: as of subprocess: the signal, negative.
        stderr_tail: its last words.
    """

    def __init__(self, message: str, *, returncode: int, stderr_tail: str = "") -> None:
        super().__init__(message, stderr_tail=stderr_tail)
        self.returncode = returncode


class StoppedError(RetryableError):
    """SIGTERM ended a training, in good order."""


class PermanentError(TrailerError):
    """Trying again gives the same answer."""


class SettingsError(PermanentError, ValueError):
    """A setting is unknown or wrong."""


class MissingObjectError(PermanentError, LookupError):
    """The store has no such object."""


class UnknownTrailerError(PermanentError, LookupError):
    """No such trailer id."""


class MediaError(PermanentError, ValueError):
    """This file cannot be used as a trailer.

    Args:
        message: what is wrong with it.
        reason: the short code that goes into manifests and counts, such as `corrupt` or `no_video`.
        trailer_id: the trailer concerned, if known.
        stderr_tail: the last words of the tool that refused it.
    """

    def __init__(self, message: str, *, reason: str, trailer_id: str | None = None, stderr_tail: str = "") -> None:
        super().__init__(message, trailer_id=trailer_id, stderr_tail=stderr_tail)
        self.reason = reason


class SourceBlockedError(PermanentError):
    """A source answers robots with a challenge. It is never gone round."""


class CorruptShardError(PermanentError, ValueError):
    """A shard's bytes do not match its manifest, or one of its records does not parse."""


class TooManyLossesError(PermanentError):
    """More of a batch was lost than the settings allow.

    Args:
        message: what happened.
        lost: how many, by reason.
        n_kept: how many came all the same, and stay.
        size_bytes: of these.
    """

    def __init__(
        self, message: str, *, lost: Mapping[str, int] | None = None, n_kept: int = 0, size_bytes: int = 0
    ) -> None:
        super().__init__(message)
        self.lost = lost or {}  # pickle makes it of the message alone, and then sets the rest
        self.n_kept = n_kept
        self.size_bytes = size_bytes


class DataError(PermanentError, ValueError):
    """The data cannot be learned from: empty, one genre only, too few films."""


class CollapseError(PermanentError):
    """Training ended with a model that maps everything to one point, or with no number at all. It is never promoted."""


class NoModelError(PermanentError, LookupError):
    """No model has been promoted yet."""


class NoIndexError(PermanentError, LookupError):
    """No index has been published yet."""


class ModelMismatchError(PermanentError, ValueError):
    """An index, a vector or a checkpoint belongs to another model."""


class ChildFailedError(PermanentError):
    """A child process ended with an error.

    Args:
        message: which child, and how it ended.
        returncode: what it ended with.
        stderr_tail: its last words.
    """

    def __init__(self, message: str, *, returncode: int, stderr_tail: str = "") -> None:
        super().__init__(message, stderr_tail=stderr_tail)
        self.returncode = returncode
