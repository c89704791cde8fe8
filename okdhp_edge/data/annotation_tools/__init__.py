"""Annotation tools: import their projects to COCO, and write pre-annotations for them.

One module per tool, one line per tool in `convert.READERS` and `convert.WRITERS`.
"""
