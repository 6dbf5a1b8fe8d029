"""Makes the dashboards and the alert rules that the chart ships: `python -m dev.telemetry` writes them, `--check` compares."""
