"""Many models, one protocol: trains and evaluates each, then one table and one set of figures."""
