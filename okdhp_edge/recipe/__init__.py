"""The training recipe, its distillation tables, and the checkpoint that holds both with weights."""
