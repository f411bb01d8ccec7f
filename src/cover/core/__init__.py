"""What every stage uses: batches of clips, progress bars, atomic files, processes and threads."""
