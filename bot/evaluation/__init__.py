"""What a model and this solver are worth, measured: `troop eval`.

Tasks in, samples on disk, figures out. A sample is judged once and kept, so a killed evaluation goes on where it was.
"""
