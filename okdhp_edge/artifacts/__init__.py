"""The files that stages exchange: model cards, the model store and result files."""
