"""Episodes of a Gymnasium environment, recorded as a data set."""
