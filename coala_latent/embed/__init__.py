"""From sounds to rows of embeddings, one way for arrays, files, streams and folders."""
