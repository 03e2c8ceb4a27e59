"""What agents may ask of lawfit, over the Model Context Protocol; all of it reads only."""
