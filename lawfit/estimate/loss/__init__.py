"""Laws of the loss in parameters, tokens and a further input, and the compute-optimal split by each route."""
