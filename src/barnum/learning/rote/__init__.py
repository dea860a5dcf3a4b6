"""The rote learner: what followed each context, counted, and its store on a server."""
