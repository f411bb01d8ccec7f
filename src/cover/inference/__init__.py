"""A trained model and a user's own file → its classes in every label space, why one of them, and what is like it."""
