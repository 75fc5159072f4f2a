"""The bundled images: gzip IDX files, and `draw`, the script that drew them."""
