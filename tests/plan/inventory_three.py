"""Bare machines, three of them control planes."""

from tests.plan import machines

control_plane = [machines.bare(f"cp-{n}", f"192.0.2.1{n}") for n in (1, 2, 3)]
workers = [machines.bare("w-1", "192.0.2.21")]
