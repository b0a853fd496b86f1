"""Bare machines, two of them control planes."""

from tests.plan import machines

control_plane = [machines.bare("cp-1", "192.0.2.11"), machines.bare("cp-2", "192.0.2.12")]
workers = [machines.bare("w-1", "192.0.2.21")]
