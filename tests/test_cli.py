"""The command line: every command has help and calls its function; bad input is one clear line and exit 1."""

import datetime as dt
import json
import signal
import subprocess
import sys
from pathlib import Path

import imageio_ffmpeg
import pytest

from trailer_ml import cli
from trailer_ml.model.card import read_card
from trailer_ml.records import BatchRef, Quarantine, ShardManifest
from trailer_ml.settings import as_environment
from trailer_ml.storage import (
    CHAMPION_KEY,
    batch_key,
    catalog_key,
    embeddings_key,
    index_key,
    model_key,
    quarantine_key,
    shard_key,
    shard_manifest_key,
)


@pytest.fixture
def run(settings, monkeypatch, capsys):
    """Runs a command in this process against the test's own store; returns (exit status, stdout, stderr)."""
    for name, value in as_environment(settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", settings.store.access_key_id.get_secret_value())
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", settings.store.secret_access_key.get_secret_value())

    def call(*argv):
        try:
            status = cli.main([str(argument) for argument in argv])
        except SystemExit as exit_:
            status = exit_.code
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


def commands(parser=None):
    for action in (parser or cli.make_parser())._actions:
        if isinstance(action.choices, dict):
            for name, command in action.choices.items():
                yield from ((name, *rest) for rest in (list(commands(command)) or [()]))


@pytest.mark.parametrize("command", sorted(commands()), ids=" ".join)
def test_every_command_has_help(run, command):
    status, out, _ = run(*command, "--help")
    assert status == 0
    assert len(out.split("\n\n")[1].strip()) > 20  # what it does, under its usage


def one_line(err: str) -> str:
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    return err


def test_an_empty_store_is_all_zeros(run):
    status, out, _ = run("status")
    assert status == 0
    assert "0  listed in the catalog = the sum of the states" in out
    assert "champion  none yet" in out
    assert json.loads(run("status", "--json")[1])["n_listed"] == 0
    assert run("status", "--format", "json")[1] == run("status", "--json")[1]
    assert 'trailer_ml_trailers{state="indexed"} 0.0' in run("status", "--format", "prometheus")[1]


def test_what_is_not_there_yet_says_how_to_make_it(run):
    for command in (["similar", "imdb-vi1"], ["embed"], ["index", "build"], ["index", "verify"], ["duplicates"]):
        status, out, err = run(*command)
        assert (status, out) == (1, "")
        assert "trailer-ml" in one_line(err).removeprefix("trailer-ml:")  # names the command that helps
    status, _, err = run("train")
    assert status == 1
    assert "shard" in one_line(err)


def test_an_unknown_trailer_names_those_that_are_close(run, put_embedded, make_vectors, settings, store):
    from trailer_ml.index.build import build_index
    from trailer_ml.index.publish import publish_index

    put_embedded(make_vectors(30))
    publish_index(build_index(settings, store).version, settings, store)
    status, _, err = run("similar", "imdb-vj0000007")
    assert status == 1
    assert "imdb-vi0000007" in one_line(err)
    status, out, _ = run("similar", "imdb-vi0000001", "-k", "3", "--json")
    answers = [json.loads(line) for line in out.splitlines()]
    assert status == 0 and len(answers) == 3
    for answer in answers:
        assert answer["score"] == pytest.approx(answer["video_share"] + answer["audio_share"], abs=1e-6)
    assert "picture" in run("similar", "imdb-vi0000001")[1]
    status, out, _ = run(
        "similar", "imdb-vi0000001", "--genre", "drama", "--year-to", "2015", "--source", "imdb", "--json"
    )
    answers = [json.loads(line) for line in out.splitlines()]
    assert [answer["trailer_id"][-2:] for answer in sorted(answers, key=lambda answer: answer["trailer_id"])] == [
        "02", "08", "14", "26"
    ]  # fmt: skip
    status, out, err = run("similar", "imdb-vi0000001", "--year-from", "2100")
    assert (status, out, one_line(err)) == (0, "", "trailer-ml: no trailer of the index is what was asked for\n")


def test_what_is_verified_is_what_is_served_and_publishing_names_what_it_left_out(
    run, put_embedded, make_vectors, make_trailer, store
):
    put_embedded(make_vectors(30))
    status, out, _ = run("index", "publish", "--json")
    served = json.loads(out)["version"]
    assert (status, json.loads(out)["left_out"]) == (0, [])
    later = dt.date(2026, 11, 21)
    put_embedded(make_vectors(5, seed=1), [make_trailer(n, later) for n in range(40, 45)], day=later)
    assert json.loads(run("index", "verify", "--json")[1])["version"] == served
    bad = embeddings_key("m-1", BatchRef(listed_on=later, number=0))
    store.put_bytes(bad, b"damaged")
    status, out, _ = run("index", "publish", "--json")
    assert (status, json.loads(out)["left_out"]) == (0, [bad])


def test_a_taken_down_trailer_is_gone_at_once(run, put_embedded, make_vectors, settings, store):
    from trailer_ml.index.build import build_index
    from trailer_ml.index.publish import publish_index

    put_embedded(make_vectors(30))
    publish_index(build_index(settings, store).version, settings, store)
    nearest = json.loads(run("similar", "imdb-vi0000001", "-k", "1", "--json")[1])["trailer_id"]
    assert run("takedown", nearest)[0] == 0
    assert nearest not in run("similar", "imdb-vi0000001")[1]
    assert "taken_down" in run("status")[1]
    assert run("takedown", "imdb-vi999")[0] == 1


@pytest.mark.parametrize(
    "argv",
    [
        *(["nonsense"], [], ["similar"], ["similar", "x", "-k", "0"], ["extract", "a.mp4"]),
        *(["crawl", "--day", "yesterday"], ["similar", "x", "-k", "x"], ["evaluate", "m-1", "m-2"]),
        *([command, "--day", "2026-11-22", "--until", "2026-11-21"] for command in ("crawl", "download", "shard")),
        *(
            ["match"],
            ["match", "a.mp4", "--ads", "ads"],
            ["match", "--ads", "ads", "--genre", "War"],
            ["similar", "x", "--year-from", "old"],
        ),
        *(["duplicates", "--score", score] for score in ("nan", "5", "-1.1", "inf", "high")),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_exit_2(run, argv):
    status, out, err = run(*argv)
    assert (status, out) == (2, "")
    assert err.startswith("usage:")
    assert "invalid _" not in err  # nor any other name that only the code knows


def test_until_alone_counts_from_yesterday(run):
    status, _, err = run("crawl", "--until", "2026-01-01")
    assert status == 2
    assert "argument --until: 2026-01-01 is before the first day" in err


@pytest.fixture
def put_trained(store, put_champion):
    """Puts a model into the store that was trained and evaluated, all figures being 0.5; m-1 stays the champion."""
    from trailer_ml.model.dataset import Dataset, dataset_key
    from trailer_ml.settings import FeatureSettings, ModelSettings

    def put(version):
        put_champion(version)
        dataset = Dataset(
            version=version, genres=("Action",), shards=(), trailers=(), n_without_genre=0, model=ModelSettings(),
            features=FeatureSettings(),
        )  # fmt: skip
        store.create_json(dataset_key(version), dataset.to_json())
        for number in range(len(ModelSettings().phases)):
            store.create_json(model_key(version, f"phases/{number:02d}.json"), {"phase": "x", "epochs": []})
        store.swap_pointer(CHAMPION_KEY, {"version": "m-1", "map_at_k": 0.5, "k": 10}, store.read_pointer(CHAMPION_KEY))

    return put


def test_the_model_that_was_trained_last_is_evaluated_whatever_came_since(run, put_trained, put_embedded, make_vectors):
    """There are no shards that a data set could be assembled from, and these are not those it was trained on."""
    status, _, err = run("evaluate")
    assert status == 1
    assert "no training is finished" in one_line(err)
    put_trained("m-1")
    put_trained("m-2")
    put_embedded(make_vectors(3))
    status, out, _ = run("evaluate", "--json")
    assert (status, json.loads(out)["version"]) == (0, "m-2")
    status, out, _ = run("evaluate", "m-1", "--json")
    assert (status, json.loads(out)["version"]) == (0, "m-1")
    status, out, _ = run("evaluate", "m-1")
    assert status == 0
    assert out.startswith("model m-1: 1 held-out trailers asked")
    assert out.rstrip().endswith("models/m-1/card.html")
    status, _, err = run("evaluate", "m-3")
    assert status == 1
    assert "there is no data set m-3" in one_line(err)


def test_a_promotion_that_is_refused_is_exit_1_with_its_reason(run, put_trained):
    put_trained("m-1")
    put_trained("m-2")
    status, out, err = run("promote", "--json")
    assert status == 1
    assert (json.loads(out)["is_promoted"], json.loads(out)["champion"]) == (False, "m-1")
    assert one_line(err).startswith("trailer-ml: model m-2 is not promoted: mAP@10 0.500 is not 0.02 above chance")
    assert run("promote", "m-1")[0] == 0  # it is the champion already, as it was asked for


def test_a_bad_shard_is_exit_1_after_the_others(run, store, put_champion):
    view = read_card(put_champion(), store).features.view
    bad = BatchRef(listed_on=dt.date(2026, 11, 20), number=0)
    manifest = ShardManifest(
        key=shard_key(bad), sha256="0" * 64, size_bytes=1, count=1, trailer_ids=("imdb-vi9",), film_ids=("imdb-tt9",),
        sampler="exact", features=view, schema_version=1, extractor_version="1",
    )  # fmt: skip
    store.create_json(shard_manifest_key(bad), manifest.to_json())
    status, out, err = run("embed", "--json")
    assert status == 1
    assert json.loads(out)["bad"][0]["key"] == shard_key(bad)
    assert one_line(err).startswith(f"trailer-ml: 1 bad shards were left out ({shard_key(bad)})")


def test_embed_then_publish_verifies(run, settings, store, put_embedded, make_vectors, put_champion):
    """An index that was damaged since it was built is refused by name, and built again where it is asked for."""
    from trailer_ml.index.build import build_index

    put_embedded(make_vectors(30))
    put_champion()
    assert run("embed")[0] == 0
    version = build_index(settings, store).version
    store.put_bytes(index_key(version, "index.ann"), b"not what it was")
    status, _, err = run("index", "publish", version)
    assert status == 1
    assert "damaged in the store" in one_line(err)
    status, out, _ = run("index", "publish", "--json")
    assert (status, json.loads(out)["version"], json.loads(out)["is_published"]) == (0, version, True)


def test_a_video_that_is_none(run, tmp_path):
    text = tmp_path / "notes.mp4"
    text.write_text("not a video at all, only words " * 100)
    status, out, err = run("extract", text, tmp_path / "missing.mp4", "--out", tmp_path / "out")
    assert (status, out) == (1, "")
    lines = err.splitlines()
    assert len(lines) == 3 and f"{text}: not_a_video: " in lines[0] and "missing.mp4: missing: " in lines[1]
    assert "2 of 2 videos" in lines[2]
    assert list((tmp_path / "out").iterdir()) == []
    _, out, _ = run("extract", text, tmp_path / "missing.mp4", "--out", tmp_path / "out", "--json", "--workers", "2")
    assert [json.loads(line)["reason"] for line in out.splitlines()] == ["not_a_video", "missing"]


@pytest.mark.parametrize(("asked", "engine"), [((), "pyav"), (("--engine", "ffmpeg"), "ffmpeg")])
def test_a_video_says_which_engine_looked_at_it(asked, engine, run, tmp_path):
    video = tmp_path / "a.mp4"
    picture = ["-f", "lavfi", "-i", "testsrc2=s=160x90:r=10:d=1", "-pix_fmt", "yuv420p"]
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *picture, video], check=True, timeout=60)
    status, out, _ = run("extract", video, "--out", tmp_path / "out", "--json", *asked)
    assert (status, json.loads(out)["engine"], json.loads(out)["n_frames"]) == (0, engine, 1)


def test_videos_that_would_become_the_same_file(run, tmp_path):
    status, out, err = run("extract", tmp_path / "a/x.mp4", tmp_path / "b/x.mov", "--out", tmp_path / "out")
    assert (status, out) == (1, "")
    assert "x.npz" in one_line(err)
    assert not (tmp_path / "out").exists()


def test_low_recall_is_exit_1_after_what_was_found(run, put_embedded, make_vectors, monkeypatch):
    put_embedded(make_vectors(2000, 32, spread=1.5))
    monkeypatch.setenv("TRAILER_INDEX_N_TREES", "1")
    monkeypatch.setenv("TRAILER_INDEX_SEARCH_EFFORT", "1")
    version = json.loads(run("index", "build", "--json")[1])["version"]
    for command in (["verify", version], ["publish"]):
        status, out, err = run("index", *command, "--json")
        assert (status, json.loads(out)["is_published"]) == (1, False)
        assert "its recall@10 is" in one_line(err)
    status, out, _ = run("index", "publish", "--force", "--json")
    assert (status, json.loads(out)["is_published"]) == (0, True)
    assert json.loads(out)["reason"].startswith("by hand, although its recall@10 is")


def test_an_index_of_another_model_is_exit_1(run, settings, store, put_embedded, make_vectors):
    from trailer_ml.index.build import build_index

    put_embedded(make_vectors(30))
    version = build_index(settings, store).version
    put_embedded(make_vectors(30), model="m-2")
    status, out, err = run("index", "publish", version, "--json")
    assert (status, json.loads(out)["is_published"]) == (1, False)
    assert "the champion is m-2" in one_line(err)


def test_what_was_gone_back_from_can_be_published_by_hand(run, settings, store, put_embedded, make_vectors):
    from trailer_ml.index.build import build_index
    from trailer_ml.index.publish import publish_index

    put_embedded(make_vectors(30))
    few_trees = settings.model_copy(update={"index": settings.index.model_copy(update={"n_trees": 50})})
    for chosen in (few_trees, settings):
        newest = build_index(chosen, store).version
        publish_index(newest, chosen, store)
    assert run("index", "rollback")[0] == 0
    assert run("index", "publish", newest)[0] == 0


def test_bad_shards_are_exit_1(run, put_embedded, make_vectors):
    put_embedded(make_vectors(3))  # a manifest, and no records
    status, out, err = run("verify", "--json")
    assert status == 1
    assert len(json.loads(out)["bad"]) == 1
    assert "1 of 1 shards are bad" in one_line(err)


def test_a_batch_that_fails_stops_no_other(run, store, make_trailer):
    """Two days, a batch each and one more: the first was not downloaded, of the others all was given up."""
    days = [dt.date(2026, 11, 20), dt.date(2026, 11, 21)]
    for number, (day, n) in enumerate([(days[0], 0), (days[0], 1), (days[1], 0)]):
        trailer = make_trailer(number, day)
        known = store.read_bytes(catalog_key(day)) if n else b""
        store.put_bytes(catalog_key(day), known + trailer.model_dump_json().encode() + b"\n")
        store.create_json(batch_key(BatchRef(listed_on=day, number=n)), {"trailer_ids": [trailer.trailer_id]})
        if number:
            gone = Quarantine(id=trailer.trailer_id, stage="download", reason="gone", is_permanent=True)
            store.put_json(quarantine_key("download", gone.id), gone.to_json())
    status, out, err = run("shard", "--day", days[0], "--until", days[1], "--json")
    assert status == 1
    assert [json.loads(line)["rejected"] for line in out.splitlines()] == [{"gone": 1}, {"gone": 1}]
    first, last = err.splitlines()
    assert first.startswith("listed=2026-11-20/0000: ")
    assert last == "trailer-ml: 1 of 3 batches failed"


def test_a_store_that_is_not_there(run, monkeypatch):
    monkeypatch.setenv("TRAILER_STORE_ENDPOINT_URL", "http://127.0.0.1:9")
    status, _, err = run("status")
    assert status == 1
    assert "no object store answers at http://127.0.0.1:9" in one_line(err)


def test_a_typo_in_a_setting(run, monkeypatch):
    monkeypatch.setenv("TRAILER_STORE_BUKET", "x")
    status, _, err = run("status")
    assert status == 1
    assert "did you mean TRAILER_STORE_BUCKET?" in one_line(err)


def test_the_crawl_asks_for_consent_first(run):
    status, _, err = run("crawl", "--day", "2026-11-22")
    assert status == 1
    assert "TRAILER_CATALOG_ACCEPT_TERMS" in one_line(err)


def test_a_debug_run_shows_where(run, monkeypatch):
    monkeypatch.setenv("TRAILER_STORE_BUKET", "x")
    with pytest.raises(cli.TrailerError):
        run("status", "--debug")


def test_where_nothing_is_shown_it_is_said_why(run):
    for command in (["review"], ["download", "--day", "2026-11-22"], ["shard", "--day", "2026-11-22"]):
        status, out, err = run(*command)
        assert (status, out) == (0, "")
        assert one_line(err).startswith("trailer-ml: no")


def test_what_is_to_be_tried_again_is_counted(run):
    assert json.loads(run("retry", "gone", "drm", "--json")[1]) == {"n_by_reason": {"gone": 0, "drm": 0}}


def test_a_place_that_cannot_be_written_is_named(run, tmp_path):
    (tmp_path / "file").touch()
    status, _, err = run("extract", "a.mp4", "--out", tmp_path / "file")
    assert status == 1
    assert one_line(err).startswith(f"trailer-ml: {tmp_path}/file: File exists")
    with Path("/dev/full").open("w") as full:
        code = "import sys; from trailer_ml import cli; sys.exit(cli.main(['sources']))"
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert "trailer-ml: the disk is full" in done.stderr


def test_ctrl_c_is_one_line(run, monkeypatch):
    monkeypatch.setattr(cli, "_show", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    assert run("sources") == (130, "", "trailer-ml: stopped; what is done stays done\n")


def test_libraries_do_not_write_between_the_lines():
    code = (
        "import os; from trailer_ml import cli; cli.main = lambda: os.write(2, b'I0000 noise') and print('one line', "
        "file=__import__('sys').stderr); cli.run()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "one line\n"


def test_help_is_quick_and_light():
    heavy = {"tensorflow", "keras", "scrapy", "yt_dlp", "boto3", "annoy", "av", "numpy"}
    code = (
        "import sys; from trailer_ml import cli\ntry: cli.main(['--help'])\nexcept SystemExit: pass\n"
        f"print(sorted(set(sys.modules) & {heavy!r}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd())
    assert done.stderr.strip() == "[]"


def test_the_doctor_says_what_is_wrong_and_ends_with_1(run, monkeypatch):
    status, out, err = run("doctor")
    lines = {line.split()[1]: line for line in out.splitlines()}
    assert lines["store"].startswith("ok")
    assert lines["sources"].startswith("wrong")  # nobody has accepted IMDb's terms here
    assert status == 1
    assert one_line(err).strip() == "trailer-ml: not ready: sources"
    monkeypatch.setenv("TRAILER_CATALOG_ACCEPT_TERMS", '["imdb_html"]')
    assert run("doctor")[0] == 0


def test_every_source_is_shown_with_its_terms(run, monkeypatch):
    monkeypatch.setenv("TRAILER_CATALOG_ACCEPT_TERMS", '["tmdb"]')
    rows = {row["name"]: row for row in map(json.loads, run("sources", "--json")[1].splitlines())}
    assert set(rows) == {path.stem for path in Path(cli.__file__).parent.glob("catalog/sources/[!_]*.py")}
    assert all(len(row["terms"]) > 40 for row in rows.values())
    assert [name for name, row in rows.items() if row["is_asked"]] == ["imdb_html"]
    assert (rows["tmdb"]["is_allowed"], rows["imdb_html"]["is_allowed"]) == (True, False)
    assert "its terms have to be accepted" in run("sources")[1]


def test_a_doubtful_trailer_is_shown_and_taken_in(run, monkeypatch, tmp_path):
    (tmp_path / "mine.csv").write_text("id,url,title,video_title\na,http://127.0.0.1/a.mp4,Tide,Tide - Interview\n")
    monkeypatch.setenv("TRAILER_CATALOG_SOURCES", '["manifest"]')
    monkeypatch.setenv("TRAILER_SOURCES_MANIFEST_PATH", str(tmp_path / "mine.csv"))
    assert run("crawl")[0] == 0
    assert json.loads(run("review", "--json")[1])["doubt"].startswith("its title says interview")
    status, _, err = run("review", "--accept", "manifest-b")
    assert (status, "trailer-ml review lists them" in one_line(err)) == (1, True)
    assert json.loads(run("review", "--accept", "manifest-a", "--json")[1])["is_accepted"]
