"""The doctor asks for videos that are known to be there as a download does, and downloads none."""

import tempfile

from trailer_ml.catalog.turns import block_host, host_of
from trailer_ml.doctor import check_machine
from trailer_ml.records import HostTurns
from trailer_ml.storage import turns_key


def _canaries(settings, store, urls):
    media = settings.media.model_copy(update={"canary_urls": urls})
    checks = check_machine(settings.model_copy(update={"media": media}), store)
    return [check for check in checks if check.name.startswith("canar")]


def test_each_canary_is_a_line_with_its_reason(
    fault_site, media_settings, store, videos, tmp_path, monkeypatch, two_sites
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    site, (other, _) = fault_site, two_sites
    page = f'<html><body><video src="{site.url}/film.mp4"></video></body></html>'.encode()
    site.put("/film.mp4", site.send(videos["silent"].read_bytes()))
    urls = (
        site.put("/well", site.send(page, content_type="text/html")),
        site.put("/forbidden", site.send(b"", status=403)),
        site.put("/challenge", site.send(page, status=202, content_type="text/html", x_amzn_waf_action="challenge")),
        site.put("/out", site.send(page, content_type="text/html", X_Robots_Tag="noai")),
        other.put("/inside", other.send(page, content_type="text/html")),
        "ftp://films.example/film.mp4",
    )
    checks = _canaries(media_settings, store, urls)
    assert [check.name for check in checks] == ["canary 127.0.0.1"] * 5 + ["canary films.example"]
    assert [check.is_ok for check in checks] == [True] + [False] * 5
    assert checks[0].detail == f"{urls[0]}: formats: 1"
    reasons = ["forbidden", "rate_limited", "opted_out", "refused_address", "bad_url"]
    for check, url, reason in zip(checks[1:], urls[1:], reasons, strict=True):
        assert check.detail.startswith(f"{url}: {reason}, ")
        assert check.fix
    assert site.seen == {"/well": 1, "/forbidden": 1, "/challenge": 1, "/out": 1}
    assert other.seen.total() == 0
    assert list(tmp_path.glob("trailer-ml-*")) == []


def test_a_canary_that_says_nothing_is_not_waited_for_by_the_next(fault_site, media_settings, store, videos):
    hasty = media_settings.model_copy(update={"media": media_settings.media.model_copy(update={"item_timeout_s": 3.0})})
    urls = (
        fault_site.put("/silent", lambda _: fault_site.stall()),
        fault_site.put("/film.mp4", fault_site.send(videos["silent"].read_bytes())),
    )
    silent, well = _canaries(hasty, store, urls)
    assert f"{urls[0]}: timeout, " in silent.detail
    assert well.is_ok


def test_a_canary_takes_its_hosts_turn_as_a_download_does(fault_site, media_settings, store, videos):
    media = media_settings.media.model_copy(update={"turn_every_s": {"*": 0.01}})
    settings = media_settings.model_copy(update={"media": media})
    url = fault_site.put("/film.mp4", fault_site.send(videos["silent"].read_bytes()))
    (well,) = _canaries(settings, store, (url,))
    assert well.is_ok
    assert HostTurns.model_validate(store.read_json(turns_key(host_of(url)))).next_at
    block_host(host_of(url), 600.0, "it had enough", store)
    (left_alone,) = _canaries(settings, store, (url,))
    assert not left_alone.is_ok
    assert "rate_limited, not asked for" in left_alone.detail
    assert fault_site.seen["/film.mp4"] == 1


def test_without_canaries_there_is_no_line(media_settings, store):
    assert _canaries(media_settings, store, ()) == []


def test_a_downloader_that_cannot_start_is_said_and_ends_nothing(media_settings, store, tmp_path):
    media = media_settings.media.model_copy(update={"cookies_path": str(tmp_path / "none.txt")})
    settings = media_settings.model_copy(update={"media": media})
    (check,) = _canaries(settings, store, (f"http://{media.allowed_private_hosts[0]}/",))
    assert (check.name, check.is_ok) == ("canaries", False)
    assert "none.txt cannot be read" in check.detail
