"""Models and model parts that timm does not have."""
