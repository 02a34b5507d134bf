"""The wire: which hooks exist, what a request must hold, what a response, discovery and feedback look like."""
