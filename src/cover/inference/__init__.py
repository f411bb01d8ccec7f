"""A trained model and a user's own files → classes in every label space, timelines, explanations, features, search."""
