"""Which trailers exist: sources, the crawl, what is new, and the batches a night is cut into."""
