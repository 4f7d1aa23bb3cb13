"""Every causal language model of transformers, tiny, against its original."""
