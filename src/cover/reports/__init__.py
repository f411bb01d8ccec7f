"""Pages, plots and tables made of the numbers of evaluation."""
