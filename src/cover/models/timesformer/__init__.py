"""TimeSformer (Bertasius et al., 2021): divided, joint or space-only attention over patches of frames."""
