"""Bare machines, one of them in the DMZ."""

from tests.plan import machines

control_plane = [machines.bare("cp-1", "192.0.2.11")]
workers = [machines.bare("w-1", "192.0.2.21"), machines.bare("w-2", "192.0.2.22")]
edge = ["@fake/w-2"]
