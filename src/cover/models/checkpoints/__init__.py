"""Files of weights, of this library and of others: how they are recognised, read without running code, and checked."""
