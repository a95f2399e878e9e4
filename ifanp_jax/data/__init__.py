"""Image sources, context masks, coordinates and on-device sampling."""
