"""A trained model → measured accuracies, compared and shown."""
