"""The code behind deploys/: pure functions, facts and thin operations."""
