"""A crawl in a process of its own: `python -m trailer_ml.catalog.spider_child JOB.json`.

Twisted's reactor starts once in a process and Scrapy ends with 0 whatever happened, so the crawl has its own process,
and what it did is said in a file. The job is `{"catalog": CatalogSettings, "waiting": ids of titles, "folder": path,
"cache_folder": path}`; the folder gets `items.jsonl` and, last, `result.json`.

Does not belong here: judging what it did (imdb_html.py).
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from trailer_ml.processes import limit_this_process

MEMORY_BYTES = 2 * 2**30
ITEMS_NAME = "items.jsonl"
RESULT_NAME = "result.json"


def main(job_path: str) -> None:
    """Run one crawl and write down how it ended."""
    limit_this_process(memory_bytes=MEMORY_BYTES)
    from scrapy.crawler import AsyncCrawlerProcess

    from trailer_ml.catalog.spiders.imdb import ImdbSpider
    from trailer_ml.catalog.spiders.polite import scrapy_settings
    from trailer_ml.settings import CatalogSettings

    job = json.loads(Path(job_path).read_bytes())
    catalog = CatalogSettings.model_validate(job["catalog"])
    folder = Path(job["folder"])
    process = AsyncCrawlerProcess(scrapy_settings(catalog, folder / ITEMS_NAME, Path(job["cache_folder"])))
    crawler = process.create_crawler(ImdbSpider)
    process.crawl(crawler, catalog=catalog, waiting=job["waiting"])
    process.start()
    result = {
        "finish_reason": crawler.stats.get_value("finish_reason"),
        "first_blocked_url": crawler.spider.first_blocked_url if crawler.spider else "",
        "chart_opt_out": crawler.spider.chart_opt_out if crawler.spider else "",
        "unanswered": crawler.spider.unanswered if crawler.spider else {},
        "stats": crawler.stats.get_stats(),
    }
    aside = folder / f"{RESULT_NAME}.part"
    with aside.open("w", encoding="utf-8") as file:
        json.dump(result, file, default=str)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(folder / RESULT_NAME)


if __name__ == "__main__":
    main(sys.argv[1])
