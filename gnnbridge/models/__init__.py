"""Models of transformers as graphs: the only package that imports them."""
