"""Visual-attribute labels from COCONut annotations, and a model that predicts them."""
