"""Parts of the models; no word of training in here."""
