"""Models for programs that run without cover."""
