"""Trailer ML: looks at movie trailers and knows which are alike. docs/architecture.md is the one-page map."""

__version__ = "0.1.0"
