"""What runs: one Prefect flow a file, and the command line."""

from infra.running.run_page import shorten_logs

shorten_logs()  # here, because a worker imports a flow's module and nothing before it
