"""Runs checks: the context that they measure, the phases of the models, the budget, models and inputs."""
