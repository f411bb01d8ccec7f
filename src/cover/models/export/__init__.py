"""Exports of a model: for this library, for other libraries, and as files that run without cover."""
