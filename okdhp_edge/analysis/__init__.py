"""What a model gets wrong: kinds of errors by joint and size, and a page of the worst persons."""
