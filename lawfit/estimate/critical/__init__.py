"""Critical batches by each route, the laws that they follow, and the noise scale beside them."""
