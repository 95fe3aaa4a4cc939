"""The tricks of tests/media/test_addresses.py put to Scrapy: as the address to begin with, as a link, as a redirect.

The server that must not be called counts connections, not requests.
"""

import datetime as dt
import json
import os
import subprocess
import sys
from pathlib import Path

from trailer_ml.catalog.crawl import crawl_catalog
from trailer_ml.records import Interval

TRICKS = json.loads((Path(__file__).parents[1] / "address_tricks.json").read_text(encoding="utf-8"))
WAYS = ("start", "link", "redirect")
CHILD = """
import json, socket, sys
from pathlib import Path

find = socket.getaddrinfo
NAMES = json.loads(sys.argv[4])  # what a name server of the attacker would say

def lie(host, port, *rest):
    return [each for address in NAMES.get(host, [host]) for each in find(address, port, *rest)]

socket.getaddrinfo = lie

import scrapy
from scrapy.crawler import AsyncCrawlerProcess
from trailer_ml.catalog.spiders.polite import scrapy_settings
from trailer_ml.settings import CatalogSettings

base, tricks, folder = sys.argv[1], json.loads(sys.argv[2]), Path(sys.argv[3])
said = {}

class Tricked(scrapy.Spider):
    name = "tricked"

    async def start(self):
        yield scrapy.Request(f"{base}/fine", self.reached, errback=self.failed, cb_kwargs={"key": "fine"})
        for name, url in tricks.items():
            for request in (*self.ask("start", name, url), *self.ask("redirect", name, f"{base}/redirect/{name}")):
                yield request
            yield scrapy.Request(f"{base}/link/{name}", self.follow, cb_kwargs={"name": name})

    def follow(self, response, name):
        yield from self.ask("link", name, response.urljoin(response.css("a::attr(href)").get()))

    def ask(self, way, name, url):
        key = f"{way} {name}"
        try:
            yield scrapy.Request(url, self.reached, errback=self.failed, cb_kwargs={"key": key}, dont_filter=True)
        except ValueError as error:
            said[key] = f"ValueError: {error}"

    def reached(self, response, key):
        said[key] = f"reached {response.url}"

    def failed(self, failure):
        said[failure.request.cb_kwargs["key"]] = f"{failure.type.__name__}: {failure.getErrorMessage()}"

catalog = CatalogSettings(base_url=base, autothrottle_start_delay_s=0.001, download_delay_s=0)
settings = scrapy_settings(catalog, folder / "items.jsonl", folder) | {"AUTOTHROTTLE_MAX_DELAY": 0.001}
settings |= {"ITEM_PIPELINES": {}, "RETRY_TIMES": 0, "HTTPCACHE_ENABLED": False, "LOG_LEVEL": "ERROR"}
process = AsyncCrawlerProcess(settings)
process.crawl(Tricked)
process.start()
print(json.dumps(said))
"""
LIES = {
    "inside.example": ["10.0.0.1"],
    "both.example": ["93.184.215.14", "127.0.0.1"],
    "six.example": ["::ffff:127.0.0.1"],
}


def all_tricks(allowed, port):
    hosts = {**TRICKS["hosts"], **{name: name for name in LIES}}
    tricks = {name: f"http://{host}:{port}/{name}" for name, host in hosts.items()}
    for text_by_name in (TRICKS["spellings"], TRICKS["redirects"]):
        for name, text in text_by_name.items():
            secret = text.replace("<secret>", f"127.0.0.1:{port}").replace("<port>", str(port))
            tricks[name] = secret.replace("<allowed>", allowed)
    return tricks


NAMES = list(all_tricks("127.0.0.1:1", 2))


def test_scrapy_calls_no_private_address(site, canary, tmp_path):
    tricks = all_tricks(site.url.removeprefix("http://"), canary.port)
    site.put("/fine", "<html></html>")
    for name, url in tricks.items():
        site.put(f"/link/{name}", f'<html><body><a href="{url}">a</a></body></html>')
        location = url.encode("ascii", "backslashreplace").decode().replace("\n", "").replace("\t", "")
        site.put(f"/redirect/{name}", "", status=302, headers={"Location": location})
    script = tmp_path / "child.py"  # Scrapy wants to see the source of a spider
    script.write_text(CHILD, encoding="utf-8")
    arguments = [sys.executable, str(script), site.url, json.dumps(tricks), str(tmp_path), json.dumps(LIES)]
    process = subprocess.run(arguments, check=False, capture_output=True, env={**os.environ, "no_proxy": "*"})
    assert process.returncode == 0, process.stderr.decode()
    said = json.loads(process.stdout.splitlines()[-1])
    assert said.pop("fine") == f"reached {site.url}/fine"
    assert canary.n_connections == 0
    assert len(NAMES) >= 40
    assert b"Traceback" not in process.stderr, process.stderr.decode()
    assert set(said) == {f"{way} {name}" for name in tricks for way in WAYS}
    reached = {key: text for key, text in said.items() if text.startswith("reached")}
    assert not reached


def test_a_title_that_leads_inside_is_asked_for_again_later(site, crawl_settings, store, canary):
    ids = [f"tt{number}" for number in range(1, 21)]
    site.put_chart(*ids)
    for number, title_id in enumerate(ids, 1):
        site.put_title(title_id, f"Film {number}", [site.video(number, title_id=title_id)])
    site.pages["/title/tt7/"] = [(302, {"Location": f"http://{canary.host}/title/tt7/"}, "")]
    summary = crawl_catalog(Interval.of_day(dt.date(2026, 11, 20)), crawl_settings, store)
    assert (summary.n_listed, summary.set_aside) == (19, {"unreachable": 1})
    assert "is not a public address" in store.read_json("quarantine/catalog/imdb-tt7.json")["detail"]
    assert canary.n_connections == 0
