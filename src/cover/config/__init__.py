"""TOML files as checked settings: the recipe of a run, and the layers that it is made of."""
