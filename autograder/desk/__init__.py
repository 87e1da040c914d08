"""The instructor's view of a graded class: reads the results of `kit grade-class` and shows them on one page."""
