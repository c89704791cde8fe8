"""The figure of the paper, one file per box: trunk, branches, aggregation.

Axes: B batch, T branches, S stacks, K joints, C channels, H rows, W columns.
"""
