"""Parse, call one function, print. No logic."""
