"""Papers whose table is one of models, each trained on several data: what is common to their reproductions."""
