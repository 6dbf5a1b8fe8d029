"""The observer: OTLP spans in, windows per revision out.

The way of a span: `otlp_grpc` or `otlp_http` takes a payload, `wire` or `otlp_json` decodes it to :class:`spans.Span`,
`ingest` judges it (`outcome` for the router's spans, `stages` for Triton's) and counts it in `windows`. `api` answers
questions from there, `metrics` shows it to Prometheus, `snapshot` carries it over a restart.

`sketch`, `bucket`, `windows`, `outcome`, `stages` and `spans` read no clock and do no I/O: time is an argument.
"""
