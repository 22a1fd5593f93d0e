"""What is computed of a set of videos once and read in training: ``python -m motionops.video.prepare COMMAND``."""
