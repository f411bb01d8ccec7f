"""From a mixture and a model to a checkpoint: loss, optimizer, loop, and the run folder that holds the result."""
