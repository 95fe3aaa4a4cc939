"""One module a source: what it has, how it is asked, under which terms."""
