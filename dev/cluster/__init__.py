"""A real single-node Kubernetes for development and end-to-end tests, run as plain processes on this machine.

Rules of this package: standard library only; everything it writes lies under `$TAPCHANGER_HOME`; `config`,
`components`, `manifests`, `procfs` and `lockfile` are pure, and the other modules do what they say.
"""
