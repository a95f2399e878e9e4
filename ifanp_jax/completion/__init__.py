"""Pictures in, completed pictures out: files, masks, preview, classical methods."""
