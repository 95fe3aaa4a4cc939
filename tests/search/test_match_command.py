"""`trailer-ml match`, as a person types it: videos with and without filters, and a folder of ads."""

import json
import shutil

import pytest

from trailer_ml import cli
from trailer_ml.settings import as_environment
from trailer_ml.storage import ads_key


@pytest.fixture
def match(video_world, settings, monkeypatch, capsys):
    """Runs it; returns (exit status, what was printed as JSON, what was said on standard error)."""
    for name, value in as_environment(settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", settings.store.access_key_id.get_secret_value())
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", settings.store.secret_access_key.get_secret_value())

    def run(*argv):
        status = cli.main(["match", *map(str, argv), "--json"])
        out, err = capsys.readouterr()
        return status, [json.loads(line) for line in out.splitlines()], err

    return run


def test_of_a_film_its_best_trailer_is_the_answer_or_all_are(match, videos, video_world) -> None:
    status, (answer,), _ = match(videos["bars-again"])
    assert status == 0
    films = [neighbour["film_id"] for neighbour in answer["neighbours"]]
    assert (len(films), len(set(films)), films[0]) == (4, 4, video_world[0].film_id)
    assert answer["neighbours"][0]["also"]
    _, (answer,), _ = match(videos["bars-again"], "--all")
    assert len(answer["neighbours"]) == len(video_world)
    assert answer["neighbours"][0]["also"] == []


def test_filters_are_those_of_similar(match, videos, video_world) -> None:
    wanted = {trailer.trailer_id for trailer in video_world if trailer.year and 2001 <= trailer.year <= 2003}
    assert 0 < len(wanted) < len(video_world)
    _, (answer,), _ = match(
        videos["bars"], "--all", "--year-from", 2001, "--year-to", 2003, "--source", "IMDB", "--source", "tmdb"
    )
    assert {neighbour["trailer_id"] for neighbour in answer["neighbours"]} == wanted
    _, (answer,), _ = match(videos["bars"], "--genre", video_world[1].genres[0].upper())
    assert answer["neighbours"]
    assert all(video_world[1].genres[0] in neighbour["genres"] for neighbour in answer["neighbours"])


def test_a_folder_of_ads_is_a_run_and_a_bad_ad_is_exit_1(match, videos, store, tmp_path) -> None:
    folder = tmp_path / "ads"
    folder.mkdir()
    shutil.copy(videos["bars-again"], folder / "spring.mp4")
    (folder / ".hidden").write_text("not asked for")
    status, (summary,), err = match("--ads", folder, "--name", "run-1", "-k", 2)
    assert (status, summary["n_ads"], summary["n_matched"], err) == (0, 1, 1, "")
    (line,) = store.read_bytes(ads_key("run-1", "matches.jsonl")).splitlines()
    best, _ = json.loads(line)["films"]
    assert best["best"]["title"] == "bars"

    (folder / "letter.mp4").write_text("Dear Sir or Madam")
    status, (summary,), err = match("--ads", folder, "--name", "run-2")
    assert (status, summary["n_ads"], summary["n_matched"]) == (1, 2, 1)
    assert err == "trailer-ml: 1 of 2 ads could not be used: ads/run-2/matches.jsonl says why\n"
    assert store.exists(summary["report_key"])
