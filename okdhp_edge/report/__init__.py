"""Run reports: comparison of several runs, and HTML pages."""
