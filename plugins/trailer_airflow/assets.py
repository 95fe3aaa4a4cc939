"""What one DAG makes and another waits for.

By name only: an asset with an `s3://` URI makes every parse of a DAG file import boto3.
"""

from airflow.sdk import Asset

SHARDS = Asset("trailer_shards")
"""New shards are in the store; extra: listed_on, n_shards, n_trailers."""

MODEL = Asset("trailer_model")
"""Another model is the champion; extra: version, n_trailers, n_films (after a person's yes: version)."""
