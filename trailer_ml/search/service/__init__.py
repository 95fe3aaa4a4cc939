"""The service: answers over HTTP, and a page to see them."""
