"""Machines on which all is as wanted."""

from tests.plan import machines

control_plane = [machines.converged("cp-1", "192.0.2.11")]
workers = [machines.converged("w-1", "192.0.2.21"), machines.converged("w-2", "192.0.2.22")]
