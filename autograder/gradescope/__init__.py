"""The kit inside Gradescope's container: `python -m autograder.gradescope` grades /autograder/submission."""
