"""Videos never seen before: through real ffmpeg, a real encoder and a real index."""

import json
import tempfile
from pathlib import Path
from urllib.parse import quote

import pytest

from trailer_ml import cli
from trailer_ml.errors import MediaError, NoIndexError
from trailer_ml.search.match import match_videos
from trailer_ml.search.takedown import take_down
from trailer_ml.settings import as_environment

TRICKS = json.loads((Path(__file__).parents[1] / "address_tricks.json").read_text(encoding="utf-8"))


def find_best(path, settings, store):
    (match,) = match_videos([path], settings, store)
    return match.neighbours[0]


def test_a_reencoded_video_finds_its_original(video_world, videos, settings, store) -> None:
    looks = ["bars", "plasma", "test", "blend"]
    paths = [videos[f"{look}-again"] for look in looks]
    matches = list(match_videos(paths, settings, store, k=2))
    assert [match.video for match in matches] == [str(path) for path in paths]
    assert [match.neighbours[0].title for match in matches] == looks
    assert all(match.neighbours[0].score > 0.9 for match in matches)
    assert [len(match.neighbours) for match in matches] == [2, 2, 2, 2]


def test_what_is_no_video_says_so_and_stops_no_other(video_world, videos, settings, store, tmp_path) -> None:
    bad = tmp_path / "letter.mp4"
    bad.write_text("Dear Sir or Madam")
    answers = match_videos([bad, videos["test"], tmp_path / "nowhere.mp4"], settings, store)
    assert next(answers).neighbours[0].title == "test"
    with pytest.raises(MediaError, match=r"letter\.mp4: .+; .+nowhere\.mp4: ") as caught:
        next(answers)
    assert caught.value.reason
    assert "\n" not in str(caught.value)


def test_an_address_is_fetched_through_the_guard_and_not_kept(video_world, site, store) -> None:
    url, settings = site
    before = list(store.list_keys(""))
    (match,) = match_videos([f"{url}/test-again.mp4"], settings, store, k=3, one_per_film=True)
    assert match.neighbours[0].title == "test"
    assert len({answer.film_id for answer in match.neighbours}) == 3
    assert match.neighbours[0].also
    assert list(store.list_keys("")) == before
    assert list(Path(tempfile.gettempdir()).glob("trailer-ml-match-*")) == []
    guarded = settings.model_copy(update={"media": settings.media.model_copy(update={"allowed_private_hosts": ()})})
    with pytest.raises(MediaError, match=r"test-again\.mp4: "):
        list(match_videos([f"{url}/test-again.mp4"], guarded, store))


def test_the_command_calls_no_private_address_by_whatever_name(
    video_world, site, canary, monkeypatch, capsys, tmp_path
) -> None:
    """Every spelling of one, and a site that may be asked and sends on to each; beside them a film that is matched."""
    url, settings = site
    for name, value in as_environment(settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", settings.store.access_key_id.get_secret_value())
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", settings.store.secret_access_key.get_secret_value())
    monkeypatch.chdir(tmp_path)
    allowed, secret = url.removeprefix("http://"), canary.host
    inside = [f"http://{host}:{canary.port}/a.mp4" for host in TRICKS["hosts"].values()]
    inside += [
        text.replace("<allowed>", allowed).replace("<secret>", secret).replace("<port>", str(canary.port))
        for text in [*TRICKS["spellings"].values(), *TRICKS["redirects"].values()]
    ]
    asked = [*inside, *(f"{url}/to/{quote(each, safe='')}" for each in inside if each.startswith("http"))]
    status = cli.main(["match", f"{url}/test-again.mp4", *asked, "--json"])
    out, err = capsys.readouterr()
    assert status == 1
    assert json.loads(out.splitlines()[0])["neighbours"][0]["title"] == "test"
    assert len(out.splitlines()) == 1
    assert err.count("; ") >= len(asked) - 1
    assert "Traceback" not in err
    assert canary.n_connections == 0


def test_it_looks_as_the_encoder_was_trained_whatever_is_set(video_world, videos, settings, store) -> None:
    settings = settings.model_copy(
        update={"features": settings.features.model_copy(update={"n_frames": 2, "start_s": 0.0, "image_size": 64})}
    )
    best = find_best(videos["plasma"], settings, store)
    assert (best.title, round(best.score, 3)) == ("plasma", 1.0)


def test_what_is_taken_down_is_no_answer(video_world, videos, settings, store) -> None:
    best = find_best(videos["bars"], settings, store)
    take_down(best.trailer_id, store)
    (match,) = match_videos([videos["bars"]], settings, store)
    assert best.trailer_id not in {answer.trailer_id for answer in match.neighbours}


def test_what_is_taken_down_meanwhile_is_no_answer_either(video_world, videos, settings, store) -> None:
    answers = match_videos([videos["bars"], videos["bars-again"]], settings, store)
    best = next(answers).neighbours[0]
    take_down(best.trailer_id, store)
    assert best.trailer_id not in {answer.trailer_id for answer in next(answers).neighbours}


def test_after_a_new_champion_the_index_still_answers_with_its_own_model(
    video_world, videos, settings, store, put_champion
) -> None:
    put_champion("m-2")
    best = find_best(videos["bars"], settings, store)
    assert best.title == "bars"


def test_without_an_index_it_says_how_to_make_one(videos, settings, store, put_champion) -> None:
    put_champion()
    with pytest.raises(NoIndexError):
        list(match_videos([videos["bars"]], settings, store))
