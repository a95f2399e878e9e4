"""Layers of the inpainters."""
