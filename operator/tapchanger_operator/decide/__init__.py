"""Decisions: verdicts about a canary and the steps of a rollout. Pure; time is an argument."""
