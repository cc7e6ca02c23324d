"""``python -m torchjac demo``: the main job on problems that need no download."""
