"""Pause and sink tokens that are inserted as embeddings.

Pause tokens (Goyal et al. 2024, https://arxiv.org/abs/2310.02226) and learned
sink tokens (Gu et al. 2025, https://arxiv.org/abs/2410.10781) enter a model
behind its embedding; the vocabulary is not resized. A forward pass goes

    caller -> ``hooks.note_request`` -> model -> ``hooks.insert_tokens``
    -> blocks -> ``hooks.read_out`` -> head and loss,

so that head, loss and caller see the original positions alone.
"""
