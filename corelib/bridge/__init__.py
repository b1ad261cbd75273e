"""The bridge: a pretrained language model that we taught to see. Only what was trained is in the package."""
