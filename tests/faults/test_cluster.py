"""After everything on the real cluster was killed or stopped in turn, it is as if nothing had happened.

What happens, and in which order, is in conftest.py. What ends is started again, as compose or Kubernetes would.
"""

import datetime as dt
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from trailer_ml.index.stored import read_pointer
from trailer_ml.index.verify import verify_index
from trailer_ml.search.status import count_states
from trailer_ml.shards.manifests import list_shards
from trailer_ml.shards.verify import verify_shards

if TYPE_CHECKING:
    from tests.faults.conftest import Seen
    from tests.faults.running import Cluster
    from tests.faults.serving import Served

    Contents = dict[str, object]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]


def test_the_three_ways_in_leave_the_store_of_one_undisturbed_pass(contents: "tuple[Contents, Contents]") -> None:
    """Scheduled, by hand and by backfill, out of order, at once and through every fault: byte for byte."""
    found, expected = contents
    assert Counter(key.partition("/")[0] for key in expected).keys() == {
        "catalog", "batches", "media", "shards", "thumbs", "quarantine"
    }  # fmt: skip
    assert sorted(found.keys() ^ expected.keys()) == []
    assert [key for key in expected if found[key] != expected[key]] == []


def test_all_three_ways_were_gone(moments: object, cluster: "Cluster") -> None:
    runs = cluster.airflow.api.runs("trailers_refresh")
    assert {run["state"] for run in runs} == {"success"}
    ways = {run["dag_run_id"].partition("__")[0]: run for run in runs}
    assert {"scheduled", "backfill", "by-hand"} <= ways.keys()
    start, end = (dt.datetime.fromisoformat(ways["scheduled"][f"data_interval_{name}"]) for name in ("start", "end"))
    assert end - start == dt.timedelta(days=1)


def test_doing_it_all_again_writes_nothing_and_wakes_nobody(moments: "tuple[Seen, Seen]") -> None:
    before, after = moments
    assert sorted(before.objects.items() ^ after.objects.items()) == []
    assert before.n_events == after.n_events > 3


def test_nothing_is_lost_and_nothing_is_there_twice(moments: object, cluster: "Cluster") -> None:
    status = count_states(cluster.store)
    odd = Counter(clip.oddity for clip in cluster.world.clips)
    assert status.n_listed == sum(status.states.values()) == len(cluster.world.clips)
    assert {state: n for state, n in status.states.items() if n} == {
        "indexed": len(cluster.world.clips) - 3, "rejected": odd["gone"] + odd["corrupt"], "taken_down": 1
    }  # fmt: skip
    ids = [trailer_id for _, manifest in list_shards(cluster.store) for trailer_id in manifest.trailer_ids]
    assert len(ids) == len(set(ids)) == status.states["indexed"]


def test_nothing_is_half_written(moments: object, cluster: "Cluster") -> None:
    assert verify_shards(cluster.settings, cluster.store).bad == ()
    seen = read_pointer(cluster.store)
    assert seen is not None
    assert verify_index(seen.pointer.version, cluster.settings, cluster.store).reason == ""


def test_the_service_answered_throughout_and_the_served_index_was_never_missing(
    moments: object, served: "Served"
) -> None:
    """Through every fault from the first on, and over every index that was published meanwhile."""
    assert served.answers.end() == set()
    assert served.store.end() == set()
    assert min(served.answers.n_looks, served.store.n_looks) > 100
    assert len(served.versions) >= 3


def test_the_disk_was_full(moments: object, cluster: "Cluster") -> None:
    if not cluster.has_small_disks:
        pytest.skip("only root can give a worker a small disk")
    logs = [key for key in cluster.store.list_keys("logs/") if "/run_id=full/" in key and key.endswith("attempt=1.log")]
    assert any(b"LocalFaultError" in cluster.store.read_bytes(key) for key in logs)
