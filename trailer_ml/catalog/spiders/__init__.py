"""Scrapy's side of the catalog: imported in a child process only."""
