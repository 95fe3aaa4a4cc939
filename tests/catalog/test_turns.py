"""Turns are taken by one worker each, whichever process it is in, and a block holds for all."""

import itertools
import json
import subprocess
import sys

import pytest

from trailer_ml.catalog.turns import block_host, host_of, take_turn
from trailer_ml.errors import RateLimitedError
from trailer_ml.records import HostTurns
from trailer_ml.storage import Store, turns_key

WORKER = """
import json, sys
from trailer_ml.catalog.turns import take_turn
from trailer_ml.settings import StoreSettings
from trailer_ml.storage import Store
import datetime as dt
store = Store(StoreSettings.model_validate(json.loads(sys.stdin.read())))
for _ in range(8):
    before = dt.datetime.now(dt.UTC)
    wait_s = take_turn("h", 10.0, store)
    print((before + dt.timedelta(seconds=wait_s)).timestamp())
"""


def test_two_workers_never_take_the_same_moment(store: Store) -> None:
    where = store.settings.model_dump(mode="json") | {
        name: getattr(store.settings, name).get_secret_value() for name in ("access_key_id", "secret_access_key")
    }
    workers = [
        subprocess.Popen([sys.executable, "-c", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for worker in workers:
        assert worker.stdin
        worker.stdin.write(json.dumps(where))
        worker.stdin.close()
    moments = sorted(float(line) for worker in workers for line in (worker.stdout or []))
    assert [worker.wait(30) for worker in workers] == [0, 0, 0]
    for worker in workers:
        assert worker.stdout
        worker.stdout.close()
    assert len(moments) == 24
    assert min(later - earlier for earlier, later in itertools.pairwise(moments)) > 5.0


def test_the_first_turn_is_now_and_another_host_has_its_own(store: Store) -> None:
    assert take_turn("a", 60.0, store) == 0.0
    assert 50.0 < take_turn("a", 60.0, store) <= 60.0
    assert take_turn("b", 60.0, store) == 0.0


def test_a_block_holds_and_a_shorter_one_does_not_end_it(store: Store) -> None:
    block_host("a", 3600.0, "HTTP 429", store)
    block_host("a", 5.0, "again", store)
    with pytest.raises(RateLimitedError, match="a is left alone: HTTP 429") as caught:
        take_turn("a", 1.0, store)
    assert 3500.0 < caught.value.retry_after_s <= 3600.0


def test_a_block_that_is_over_is_forgotten(store: Store) -> None:
    block_host("a", -1.0, "long ago", store)
    assert take_turn("a", 1.0, store) == 0.0
    kept = HostTurns.model_validate(store.read_json(turns_key("a")))
    assert (kept.blocked_until, kept.reason) == (None, "")


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://WWW.YouTube.com/watch?v=1", "www.youtube.com"),
        ("http://[::1]:80/x", "..1-80"),
        ("https://a.example:443/../b", "a.example-443"),
    ],
)
def test_a_host_is_a_plain_key(url: str, host: str) -> None:
    assert host_of(url) == host
