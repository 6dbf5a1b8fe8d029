"""The sidecar that keeps a sample of texts for retraining: takes them from the server, removes personal data, stores them.

Runs beside Triton in the pods of a deployment that has `spec.capture`, as `python -m tapchanger_serving.capture`. A text is in
this process's memory until it is redacted, and nowhere else: not in a file, a log or a metric.
"""
