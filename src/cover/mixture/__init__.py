"""From many datasets to one stream of batches, in which every sample has its fixed place."""
