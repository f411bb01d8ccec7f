"""Check, pack and compare datasets: work over all files, in processes that broken files may block or crash."""
