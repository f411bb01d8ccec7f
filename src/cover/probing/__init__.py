"""Linear probes: features of a frozen backbone, computed once, and the heads that are trained on them (paper §3.2)."""
