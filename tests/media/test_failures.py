"""The table of failures, held against what yt-dlp and YouTube really say."""

import re
from pathlib import Path

import pytest

from trailer_ml.media import failures
from trailer_ml.media.failures import (
    _BY_REASON,
    _BY_STATUS,
    _COMPILED,
    DOUBTFUL,
    MEANINGS,
    PATIENT,
    SOURCE_WIDE,
    actions_of,
    announced_wait_s,
    classify,
    one_line,
)

REAL = {
    ("gone", "give_up"): [
        "ERROR: [generic] Unable to download webpage: HTTP Error 404: Not Found",
        "unable to download video data: HTTP Error 410: Gone",
        "[youtube] abc: Video unavailable. This video has been removed by the uploader",
        "[youtube] abc: Video unavailable. The YouTube account associated has been terminated",
    ],
    ("unavailable", "retry"): [
        "ERROR: [download] Got error: HTTP Error 503: Service Unavailable",
        "[download] Got error: HTTPConnectionPool(host='x', port=80): Read timed out.",
    ],
    ("broken_off", "retry"): [
        "ERROR: 400000 bytes read, 2051723 more expected",
        "ERROR: \r[download] Got error: ('Connection aborted.', ConnectionResetError(104, 'Connection reset by peer'))",
        "ERROR: Did not get any data blocks",
        "Failed to resolve 'no.such.host' ([Errno -2] Name or service not known)",
    ],
    ("bad_range", "retry"): ["unable to download video data: HTTP Error 416: Requested range not satisfiable"],
    ("forbidden", "retry_once"): ["unable to download video data: HTTP Error 403: Forbidden"],
    ("rate_limited", "slow_down"): [
        "HTTP Error 429: Too Many Requests",
        "[youtube] abc: Sign in to confirm you\u2019re not a bot. Use --cookies",
        "The current session has been rate-limited by YouTube for up to an hour",
        "ERROR: [imdb] 123: Unable to extract next.js data; please report this issue on",
        "[generic] Got HTTP Error 403 caused by Cloudflare anti-bot challenge; see  https://github.com/yt-dlp/yt-dlp#x",
        "ERROR: [generic] Unable to download webpage: HTTP Error 202: Accepted",
    ],
    ("extractor_broken", "wait"): ["ERROR: [vimeo] 123: Unable to extract title; please report this issue on"],
    ("age_restricted", "give_up"): ["[youtube] abc: Sign in to confirm your age. This video may be inappropriate"],
    ("private", "give_up"): [
        "[youtube] abc: Private video. Sign in if you've been granted access",
        "[youtube] abc: Join this channel to get access to members-only content",
    ],
    ("copyright", "give_up"): [
        "This video contains content from X, who has blocked it in your country on copyright grounds",
        "Video unavailable. This video is no longer available due to a copyright claim by X",
    ],
    ("geo_blocked", "give_up"): ["The uploader has not made this video available in your country"],
    ("drm", "give_up"): ["This video is DRM protected"],
    ("not_yet", "wait"): ["[youtube] abc: Premieres in 3 hours", "This live event will begin in 3 days."],
    ("unsupported", "give_up"): [
        "ERROR: Unsupported URL: http://127.0.0.1/x",
        "ERROR: [generic] x: Requested format is not available. Use --list-formats",
        "No connection adapters were found for 'file:///etc/passwd'",
        'Unable to handle request: Unsupported url scheme: "ftp" (requests)',
        "ffmpeg not found. Please install or provide the path using --ffmpeg-location",
    ],
    ("redirect_loop", "give_up"): [
        "ERROR: [generic] x: Unable to download webpage: HTTP Error 302: Found (redirect loop detected)",
    ],
    ("local_fault", "abort"): [
        "unable to download video data: [Errno 28] No space left on device",
        "unable to open for writing: [Errno 13] Permission denied: '/x'",
        "unable to write data: [Errno 5] Input/output error",
    ],
    ("too_large", "give_up"): ["unable to write data: [Errno 27] File too large"],
    ("refused_address", "give_up"): ["127.0.0.1:80 is not a public address"],
    ("unknown", "retry"): ["something that nobody has seen before"],
}


@pytest.mark.parametrize(("message", "verdict"), [(text, verdict) for verdict, texts in REAL.items() for text in texts])
def test_real_messages(message, verdict):
    assert classify(message) == verdict


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (401, ("forbidden", "give_up")),
        (403, ("forbidden", "retry_once")),
        (404, ("gone", "give_up")),
        (408, ("unavailable", "retry")),
        (416, ("bad_range", "retry")),
        (429, ("rate_limited", "slow_down")),
        (451, ("geo_blocked", "give_up")),
    ],
)
def test_a_status_says_it_where_the_text_does_not(status, verdict):
    assert classify("it did not work", status) == verdict


@pytest.mark.parametrize("status", [500, None])
def test_a_server_cannot_speak_for_this_machine(status):
    said = "ERROR: [download] Got error: HTTP Error 500: No space left on device"
    assert classify(said, status) == ("unavailable", "retry")


def test_a_name_cannot_speak_for_this_machine():
    said = "ERROR: [generic] No space left: Unable to download webpage: Connection reset by peer"
    assert classify(said) == ("broken_off", "retry")


def test_our_own_look_decides_without_the_message():
    assert classify("HTTP Error 503", None, "no_video") == ("no_video", "give_up")
    assert classify("moov atom not found", None, "corrupt").action == "retry_once"
    assert classify("HTTP Error 403: Forbidden", 403, "rate_limited").action == "slow_down"  # a challenge
    assert classify("no space", None, "local_fault").action == "abort"
    assert classify("killed by SIGKILL", None, "killed").action == "retry"


def test_every_reason_there_is_has_a_meaning_and_an_action():
    tables = {*_BY_REASON, *(v.reason for v in _BY_STATUS.values()), *(verdict.reason for _, verdict in _COMPILED)}
    assert set(MEANINGS) == tables
    assert tables > SOURCE_WIDE | DOUBTFUL | PATIENT
    assert all(actions_of(reason) for reason in tables)
    assert actions_of("forbidden") == {"give_up", "retry_once"}
    code = "".join(path.read_text() for path in Path(failures.__file__).parent.glob("*.py"))
    said = set(re.findall(r"""(?:reason"?\]?(?:=| = |: )|_not_asked\(item_id, )"([a-z_]+)\"""", code))
    assert {"too_large", "bad_url", "out_of_time", "no_video", "local_fault"} < said <= tables


def test_a_reason_has_one_action():
    for reason, action in _BY_REASON.items():
        said = {verdict.action for _, verdict in _COMPILED if verdict.reason == reason}
        assert said <= {action}, reason


@pytest.mark.parametrize(
    ("message", "seconds"),
    [
        ("[youtube] abc: Premieres in 20 days", 7 * 86400.0),
        ("[youtube] abc: Premieres in 30 minutes", 1800.0),
        ("This live event will begin in an hour.", 3600.0),
        ("This live event will begin in a few moments.", None),
        ("Premieres in 9999999999999999999999 months", 7 * 86400.0),
    ],
)
def test_how_long_to_wait_for_what_is_announced(message, seconds):
    assert classify(message).action == "wait"
    assert announced_wait_s(message) == seconds


def test_a_detail_is_one_plain_line():
    message = "\x1b[0;31mERROR:\x1b[0m [x] 1: Unable to extract\n  title; please report this issue on https://x.invalid"
    assert one_line(message) == "[x] 1: Unable to extract title"
    assert len(one_line("x" * 1000)) == 300
