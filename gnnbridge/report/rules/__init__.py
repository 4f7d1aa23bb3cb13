"""Rules that turn the numbers of a diagnostic into sentences.

Every rule compares with the null and with re-initialised weights, so that
what any weights would show on such a graph is not called learned.
"""
