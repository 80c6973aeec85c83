"""The networks of the paper: one file for each box of its Figures 2 and 4, the authors' weights, and what a network costs."""
