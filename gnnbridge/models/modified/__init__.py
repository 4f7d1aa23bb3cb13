"""Changes of the attention of a converted model, and what keeps them.

A change is a module on an attention module, so that its weights are trained,
moved, copied and saved with the model. The backend asks it three times in a
call: which pairs there are, how attention runs over them, and what becomes of
its output.
"""
