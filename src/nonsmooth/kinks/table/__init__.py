"""The table of operations: how smooth each operator is, by rules that read its arguments."""
