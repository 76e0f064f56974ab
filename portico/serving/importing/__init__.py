"""Import of trained models: from the file a user has to a version that can be served."""
