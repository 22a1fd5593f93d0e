"""What is computed of a set of videos once and read in training: ``motionops prepare COMMAND``."""
