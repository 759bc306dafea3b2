"""Visual-attribute labels from COCONut annotations, and a model that predicts them."""

__version__ = "0.1.0"
