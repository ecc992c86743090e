"""A run's numbers in experiment trackers: TensorBoard where it is installed, others where they are asked for.

tracker.py     what a tracker is, and what it is told
listening.py   what listens to a run and tells the trackers that are wanted
tensorboard.py, mlflow.py, wandb.py    a tracker each

Nothing goes over a network unless the user has said so to the tracker itself, by its own environment variables.
"""
