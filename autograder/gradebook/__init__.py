"""From results to grades: rules, late penalties and groups, and the grade columns of Canvas and Moodle."""
