"""What workers of Celery are configured with, as `[celery] celery_config_options` names it: Airflow's own options.

They read no plugins, so this is where they learn to notice at once that a task has ended.
"""

from airflow.providers.celery.executors.default_celery import DEFAULT_CELERY_CONFIG

from trailer_airflow.supervise import notice_ends

OPTIONS = DEFAULT_CELERY_CONFIG
notice_ends()
