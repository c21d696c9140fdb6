"""A real Kubernetes on one Linux machine, without a container engine, for the tests and the demo.

Everything is built from source or installed from Debian, runs as plain processes, and is removed without a trace.
Only the standard library is used, so that `python3 -m devcluster` works before anything else is installed.
"""
