"""The inpainters, one file each. The registry of models finds them by name."""
