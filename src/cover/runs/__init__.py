"""A run from its recipe to its use: plan, train, resume, evaluate, predict. The only place that builds every stage."""
