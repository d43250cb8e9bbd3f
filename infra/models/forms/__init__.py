"""How requests are written: parameters, names and headers of a model, and what a server makes of them."""
