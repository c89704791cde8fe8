"""One contract for every runtime, one file per runtime, one table to choose from."""
