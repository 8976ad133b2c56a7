"""The long-running process: command line, settings, clock, agenda, the cycle, execution, approvals, alerts."""
