"""The multi-branch network of the paper: trunk, branches, aggregation.

Axes: B batch, T branches, S stacks, K joints, C channels, H rows, W columns.
"""
