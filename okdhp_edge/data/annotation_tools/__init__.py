"""Projects of annotation tools: read them into a COCO file, write pre-annotations for them.

One module per tool, one line per tool in `convert.READERS` and `convert.WRITERS`.
"""
