"""HTML pages around `lawfit.plots`: work without JavaScript, which only draws."""
