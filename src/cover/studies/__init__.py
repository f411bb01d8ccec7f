"""Studies: many runs that differ in one thing, several seeds of each, and the table they make (docs/study.md)."""
