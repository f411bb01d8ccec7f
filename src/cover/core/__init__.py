"""What every stage uses: batches of clips, progress, files that appear whole."""
