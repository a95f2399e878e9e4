"""How good a trained model is: fixed contexts, values per image, tables and figures."""
