"""The adversarial inpainters of the literature: networks, critics, losses and their training."""
