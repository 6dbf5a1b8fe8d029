"""The observer: OTLP spans in, windows per revision out.

The way of a span: `otlp_grpc` or `otlp_http` gets a payload, `intake` lets it in (`gate` asks for the sender's credential,
`trust` proves it), `wire` or `otlp_json` decodes it to :class:`spans.Span`, `ingest` judges it (`outcome` for the router's
spans, `stages` for Triton's) and counts it in `windows`. `api` answers a `question` with a `part`, or with the parts of all
`peers`; `metrics` shows what there is to Prometheus, `snapshot` carries it over a restart.

`sketch`, `bucket`, `windows`, `outcome`, `stages`, `spans`, `skew`, `trust`, `question` and `part` read no clock and do no
I/O: time is an argument.
"""
