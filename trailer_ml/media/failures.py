"""What a failed download means: one table from what yt-dlp says to what is done about it.

The order matters: YouTube says "video unavailable" of a video that is blocked for copyright, too. What no line knows
is taken for something that may pass, for attempts are capped and a wrong "gone" is for ever.

A verdict is about one trailer. Whether it may be the source that is not well, or this machine, is for download.py to
see from the whole batch; SOURCE_WIDE, DOUBTFUL and PATIENT are what it goes by.

docs/downloads.md is made from here. Does not belong here: doing it (fetch.py).
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from trailer_ml.catalog.guard import REFUSED
from trailer_ml.catalog.opt_out import OPTED_OUT

Action = Literal["retry", "retry_once", "slow_down", "wait", "give_up", "abort"]
"""Try again after a moment; once only; wait as told, for the source as a whole is meant; come back much later; never;
or end the batch, because it is this machine that fails."""


class Verdict(NamedTuple):
    """What a failure means."""

    reason: str
    """The short code that goes into the store and the counts."""
    action: Action


SOURCE_WIDE = frozenset({"rate_limited", "forbidden", "timeout"})
"""So many of these in a row, and it is no longer about the single trailer."""
DOUBTFUL = frozenset({"forbidden", "unsupported", "not_a_video", "redirect_loop"})
"""A wall in front of the whole source, or a page that says it is being mended, looks like these: they are believed only
after many runs."""
PATIENT = frozenset({"rate_limited", "not_yet", "live", "killed", "out_of_time"})
"""Waiting for these says nothing against a trailer: they are not counted, and never become for ever."""

_BY_REASON: dict[str, Action] = {
    "corrupt": "retry_once",  # a connection that ended early without a Content-Length looks the same
    "not_a_video": "give_up",
    "no_video": "give_up",
    "too_short": "give_up",
    "too_long": "give_up",
    "too_large": "give_up",
    "unsupported": "give_up",
    "live": "wait",
    "opted_out": "give_up",  # a page in itself
    "rate_limited": "slow_down",  # a challenge
    "crashed": "retry_once",
    "killed": "retry",  # from outside, as a machine does that has no memory left
    "local_fault": "abort",
    "unknown": "retry",
    # what fetch.py says itself
    "bad_url": "give_up",
    "timeout": "wait",
    "out_of_time": "wait",
}
MEANINGS = {
    "age_restricted": "its source shows it to grown-ups who have signed in",
    "bad_range": "its source does not give the rest of a file that broke off (HTTP 416)",
    "bad_url": "what the catalog has is no web address",
    "broken_off": "the connection was refused or ended too early, or the name was not found",
    "copyright": "blocked by an owner of rights",
    "corrupt": "the file is damaged or ends too early",
    "crashed": "the process that downloads ended with an error",
    "drm": "encrypted",
    "extractor_broken": "yt-dlp does not understand its source any more: install a newer one",
    "forbidden": "HTTP 401 or 403: a wall, or a signed address that ran out",
    "geo_blocked": "not shown in this country (HTTP 451 too)",
    "gone": "HTTP 404 or 410, or its source says that it was removed",
    "killed": "the process that downloads was ended from outside, as by a machine without memory",
    "live": "a live stream",
    "local_fault": "this machine: disk full, folder not writable, proxy not there",
    "no_video": "the file has no picture",
    "not_a_video": "a page, a playlist or noise in place of a video",
    "not_yet": "announced, not published",
    "opted_out": "the page, or the file in X-Robots-Tag, says that it is not for machines that learn",
    "out_of_time": "the others of its batch took `TRAILER_MEDIA_BATCH_TIMEOUT_S`; nobody asked for it",
    "private": "for those only who have signed in, or were let in",
    "rate_limited": "its source says that it had enough (HTTP 429), or asks for a proof that no machine asks",
    "redirect_loop": "it is sent from address to address without end",
    "refused_address": "it leads to an address that is not public",
    "timeout": "it took longer than `TRAILER_MEDIA_ITEM_TIMEOUT_S`, waiting included",
    "too_large": "larger than `TRAILER_MEDIA_MAX_SIZE_BYTES`, or of more than 8192x4608 pixels",
    "too_long": "longer than `TRAILER_MEDIA_MAX_DURATION_S`",
    "too_short": "shorter than `TRAILER_MEDIA_MIN_DURATION_S`",
    "unavailable": "its source is busy or does not answer (HTTP 5xx, 408, 425, a socket that says nothing)",
    "unknown": "nothing that the table knows",
    "unsupported": "no extractor takes it, or none of its formats can be had",
}
"""Every reason there is, for people."""
_BY_STATUS: dict[int, Verdict] = {
    401: Verdict("forbidden", "give_up"),
    403: Verdict("forbidden", "retry_once"),  # a signed address may have run out: it is asked for once more
    404: Verdict("gone", "give_up"),
    408: Verdict("unavailable", "retry"),
    410: Verdict("gone", "give_up"),
    416: Verdict("bad_range", "retry"),
    425: Verdict("unavailable", "retry"),
    429: Verdict("rate_limited", "slow_down"),
    451: Verdict("geo_blocked", "give_up"),
}
_BY_MESSAGE: tuple[tuple[Verdict, tuple[str, ...]], ...] = (
    (Verdict("refused_address", "give_up"), (re.escape(REFUSED),)),
    (Verdict("opted_out", "give_up"), (re.escape(OPTED_OUT.lower()),)),
    (
        Verdict("local_fault", "abort"),
        (
            "no space left",
            "disk quota",
            "input/output error",
            "read-only file system",
            "too many open files",
            "unable to open for writing",
            "unable to create directory",
        ),
    ),
    (Verdict("too_large", "give_up"), ("file too large", "larger than max-filesize")),
    (
        Verdict("rate_limited", "slow_down"),
        (
            "http error (429|202)",
            "not a bot",
            "rate-limited",
            "try again later",
            "captcha",
            "ip is likely being blocked",
        ),
    ),
    (Verdict("rate_limited", "slow_down"), ("anti-bot challenge",)),
    (Verdict("rate_limited", "slow_down"), (r"\[imdb\].*unable to extract next\.js data",)),  # a WAF challenge
    (
        Verdict("age_restricted", "give_up"),
        ("confirm your age", "age-restricted", "inappropriate for some users"),
    ),
    (
        Verdict("private", "give_up"),
        ("private video", "members-only", "channel's members", "for registered users", "login required", "sign in"),
    ),
    (Verdict("copyright", "give_up"), ("copyright (claim|grounds)",)),
    (
        Verdict("geo_blocked", "give_up"),
        ("not made this video available in your country", "not available from your location", "in your country"),
    ),
    (Verdict("drm", "give_up"), ("drm protect",)),
    (Verdict("not_yet", "wait"), ("premieres in", "live event will begin", "is not currently live")),
    (
        Verdict("gone", "give_up"),
        ("video unavailable", "has been removed", "has been terminated", "does not exist", "no longer available"),
    ),
    (Verdict("gone", "give_up"), ("this video is not available", "http error (404|410)")),
    (
        Verdict("unsupported", "give_up"),
        ("unsupported url", "no suitable extractor", "is not a valid url", "no connection adapters"),
    ),
    (Verdict("redirect_loop", "give_up"), ("redirect loop",)),
    (Verdict("unsupported", "give_up"), ("requires websocket", "ffmpeg.* not found")),
    (Verdict("unsupported", "give_up"), ("requested format is not available", "no video formats")),
    (Verdict("forbidden", "retry_once"), ("http error 40[13]",)),
    (Verdict("bad_range", "retry"), ("http error 416",)),
    (Verdict("unavailable", "retry"), ("http error (5..|408)", "timed out", "timeout")),
    (
        Verdict("broken_off", "retry"),
        ("more expected", "did not get any data", "incomplete", "downloaded file is empty", "got error"),
    ),
    (
        Verdict("broken_off", "retry"),
        ("connection (reset|refused|aborted|broken)", "failed to resolve", "name resolution"),
    ),
    (Verdict("extractor_broken", "wait"), ("please report this issue", "unable to extract")),
)
_UNITS_S = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 7 * 86400, "month": 30 * 86400}
_COMPILED = tuple((re.compile("|".join(patterns)), verdict) for verdict, patterns in _BY_MESSAGE)


def classify(message: str, status: int | None = None, reason: str | None = None) -> Verdict:
    """What a failed attempt means.

    Args:
        message: what yt-dlp said.
        status: the HTTP status behind it, where it is known.
        reason: what our own look at the file or at its size said, where it was that.

    >>> classify("HTTP Error 410: Gone", 410)
    Verdict(reason='gone', action='give_up')
    """
    if reason is not None:
        return Verdict(reason, _BY_REASON.get(reason, "retry"))
    text = message.lower().replace("\u2019", "'")
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    # What an extractor ("[generic] name: ...") and a server say may be anybody's words, and nothing about this machine.
    is_answer = status is not None or "http error" in text or text.removeprefix("error: ").startswith("[")
    for pattern, verdict in _COMPILED:
        if pattern.search(text) and not (is_answer and verdict.action == "abort"):
            return verdict
    return Verdict("unknown", _BY_REASON["unknown"])


def actions_of(reason: str) -> set[Action]:
    """All that may be done about a reason."""
    verdicts = (*_BY_STATUS.values(), *(verdict for verdict, _ in _BY_MESSAGE))
    said = {verdict.action for verdict in verdicts if verdict.reason == reason}
    return said | ({_BY_REASON[reason]} if reason in _BY_REASON else set())


def announced_wait_s(message: str) -> float | None:
    """Seconds until what a message announces, a week at most; None where it does not say.

    >>> announced_wait_s("Premieres in 3 hours"), announced_wait_s("This live event will begin in a few moments.")
    (10800.0, None)
    """
    found = re.search(r"\bin (an?|\d+) (second|minute|hour|day|week|month)", message.lower())
    if found is None:
        return None
    number = int(found[1]) if found[1].isdigit() else 1
    return float(min(number * _UNITS_S[found[2]], _UNITS_S["week"]))


def one_line(message: str, limit: int = 300) -> str:
    """The message without colours, line breaks and the hint to report it, for a person and for the store."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", message)
    plain = re.sub(r"; please report this issue.*|Set --default-search.*", "", plain, flags=re.DOTALL)
    return " ".join(plain.split()).removeprefix("ERROR: ")[:limit]
