"""Vedette measured beside its peers: see `python -m bench --help`. Not here: tests, which never assert a wall time."""
