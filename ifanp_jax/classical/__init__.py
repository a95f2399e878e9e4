"""Completion without learning: interpolation, patches of the picture itself, OpenCV's methods."""
