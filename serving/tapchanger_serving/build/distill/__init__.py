"""Step `distill`: a student with fewer of the model's layers learns the model's answers on the user's own texts.

What it leaves is what step `export` leaves of the model itself, so that the student's engines are candidates like all others.
"""
