"""Questions to answers: neighbours, ads, near-duplicates, and where every trailer stands."""
