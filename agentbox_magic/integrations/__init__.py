"""A sandbox as a tool of a language model: ``toolset`` is what all share, the others fit it to one library each."""
