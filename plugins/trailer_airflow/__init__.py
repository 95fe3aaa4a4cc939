"""What the DAGs share, and nothing else: all work is in trailer_ml, which does not know Airflow."""
